# ruff: noqa: T201 (a command line speaks through print)
"""Evaluate: a run's checkpoint on any CSV, or cross-validation with training on it.

    python -m madewithml.evaluate --dataset PATH_OR_URL [--run-id ID]
    python -m madewithml.evaluate --dataset PATH_OR_URL --folds 5

Progress goes to stderr; stdout ends with one JSON object. Knows nothing of serving.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madewithml.data import (
    HOLDOUT_FILE,
    DataError,
    LabelledProject,
    read_projects,
    stratified_folds,
    stratified_split,
)
from madewithml.locations import EXPERIMENT, METRIC, MODE, encoder_folder, tracking_uri
from madewithml.metrics import report
from madewithml.noise import random_projects, share_answered_other
from madewithml.tagger import Tagger
from madewithml.train import RECIPES, VALIDATION_SHARE, say, settings_of, train_model

if TYPE_CHECKING:
    from madewithml.fit import Settings
    from salver import Checkpoint

DEFAULT_RECIPE = "mean"


def find_checkpoint(
    experiment: str, run_id: str | None = None, folder: Path | None = None
) -> "Checkpoint":
    """The checkpoint in a folder, of a run, or else of the experiment's best run.

    Raises:
        SalverError: there is none, or it is damaged.
    """
    from salver import best_checkpoint, checkpoint
    from salver.models.tracking import resolve

    uri = tracking_uri()
    if folder is not None:
        reference = checkpoint(str(folder))
    elif run_id is not None:
        reference = checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=uri)
    else:
        reference = best_checkpoint(experiment, metric=METRIC, mode=MODE, tracking_uri=uri)
    return resolve(reference).checkpoint


def evaluate_tagger(tagger: Tagger, projects: Sequence[LabelledProject]) -> dict[str, Any]:
    """Metrics of a tagger on labelled projects, and its answers to random strings.

    Raises:
        ValueError: a project has a tag that the tagger does not know.
    """
    probabilities = tagger(
        {
            "title": np.array([p.title for p in projects], dtype=object),
            "description": np.array([p.description for p in projects], dtype=object),
        }
    )["probabilities"]
    predicted = [tagger.classes_[i] for i in probabilities.argmax(axis=1)]
    result = report([p.tag for p in projects], predicted, tagger.classes_)
    noise = tagger(random_projects())["probabilities"]
    return {**result, "random_strings": share_answered_other(noise, tagger.classes_)}


def cross_validate(
    projects: Sequence[LabelledProject],
    folds: int,
    encoder: Path,
    recipe: str,
    settings: "Settings",
) -> dict[str, Any]:
    """Train on each fold's other rows with one recipe, test on the fold.

    Returns:
        `overall`: means over the folds (num_samples: the sum); `folds`: each one's `overall`.
    """
    results = []
    seed = settings.seed
    for number, (rest, test) in enumerate(
        stratified_folds(projects, folds=folds, seed=seed), start=1
    ):
        say(f"fold {number} of {folds}: {len(rest)} rows to train on, {len(test)} to test")
        train, validation = stratified_split(rest, fraction=VALIDATION_SHARE, seed=seed)
        result, _ = train_model(train, validation, settings, encoder).report(test)
        results.append(result["overall"])
        say(f"  f1 {result['overall']['f1']:.4f}  macro_f1 {result['overall']['macro_f1']:.4f}")
    overall = {
        name: float(np.mean([result[name] for result in results]))
        for name in results[0]
        if name != "num_samples"
    }
    return {
        "overall": overall | {"num_samples": sum(result["num_samples"] for result in results)},
        "folds": results,
        "recipe": recipe,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when evaluated, 1 when the data or the checkpoint are no good."""
    from salver import SalverError

    parser = argparse.ArgumentParser(prog="python -m madewithml.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--dataset", help="CSV, path or URL (default: the held-out part)")
    parser.add_argument("--run-id", help="run to evaluate (default: the experiment's best)")
    parser.add_argument("--checkpoint", type=Path, help="folder of a checkpoint, instead of a run")
    parser.add_argument("--experiment", default=EXPERIMENT)
    parser.add_argument("--folds", type=int, help="train and test in so many folds instead")
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT_RECIPE, help="for --folds")
    parser.add_argument("--epochs", type=int, help="for --folds: at most so many epochs")
    parser.add_argument("--encoder", help="for --folds: folder or hub name")
    parser.add_argument("--seed", type=int, default=1234, help="for --folds")
    given = parser.parse_args(arguments)
    try:
        projects = read_projects(given.dataset or HOLDOUT_FILE)
        if given.folds is not None:
            result = cross_validate(
                projects, given.folds, encoder_folder(given.encoder), given.recipe,
                settings_of(given.recipe, given.seed, given.epochs),
            )  # fmt: skip
        else:
            found = find_checkpoint(given.experiment, given.run_id, given.checkpoint)
            run_id = found.metadata.get("run_id")
            say(f"checkpoint of run {run_id}: {found.path}")
            result = {"run_id": run_id, **evaluate_tagger(Tagger(found), projects)}
    except (DataError, SalverError, FileNotFoundError, ValueError) as error:
        say(f"error: {error}")
        return 1
    print(json.dumps({**result, "dataset": str(given.dataset or HOLDOUT_FILE.name)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
