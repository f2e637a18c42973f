# ruff: noqa: T201 (a command line speaks through print)
"""Train: several settings, each a run of one MLflow experiment; the best one is reported.

    python -m madewithml.train --dataset PATH_OR_URL

Progress goes to stderr; stdout ends with one JSON object. Knows nothing of serving.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madewithml.data import (
    HOLDOUT_FILE,
    TRAIN_FILE,
    DataError,
    LabelledProject,
    check_tags,
    read_projects,
    stratified_split,
)
from madewithml.locations import EXPERIMENT, METRIC, MODE, encoder_folder, tracking_uri
from madewithml.metrics import confusion_matrix, report
from madewithml.noise import random_projects, share_answered_other
from madewithml.text import project_text

if TYPE_CHECKING:
    from madewithml.fit import Encoded, Epoch, OnEpoch, Settings
    from madewithml.model import ModelSpec, TextClassifier
    from madewithml.tokens import TextTokenizer

LESSON_QUERY = {
    "title": "Transfer learning with transformers",
    "description": "Using transformers for transfer learning on text classification tasks.",
}
VALIDATION_SHARE = 0.1
LEAST_PER_TAG = 5
# What each run changes from the settings' defaults (madewithml.fit.Settings).
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    "mean-slow": {"encoder_lr": 5e-5},
    "cls": {"pooling": "cls"},
}
# Two runs keep training within five minutes on two cores; --recipes names others.
DEFAULT_RECIPES = ("mean", "mean-slow")


def settings_of(
    recipe: str, seed: int, epochs: int | None = None, preprocessing: str = "none"
) -> "Settings":
    """The settings of a recipe, with at most so many epochs."""
    from madewithml.fit import Settings

    settings = Settings(**RECIPES[recipe], seed=seed, preprocessing=preprocessing)
    return settings if epochs is None else replace(settings, epochs=min(epochs, settings.epochs))


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Trained:
    """A trained model and all that is needed to save it."""

    model: "TextClassifier"
    tokenizer: "TextTokenizer"
    config: dict[str, Any]
    tokenizer_json: str
    epoch: "Epoch"

    def probabilities(self, titles: Iterable[str], descriptions: Iterable[str]) -> np.ndarray:
        """float32 of shape (n, k), as the tagger will give them."""
        from madewithml.model import predict, softmax

        preprocessing = self.model.spec.preprocessing
        encodings = self.tokenizer.encode(
            [project_text(t, d, preprocessing) for t, d in zip(titles, descriptions, strict=True)]
        )
        return softmax(predict(self.model, self.tokenizer, encodings).logits)

    def report(self, projects: Sequence[LabelledProject]) -> tuple[dict[str, Any], np.ndarray]:
        """Metrics on labelled projects, and their confusion matrix."""
        classes = self.model.spec.classes
        probabilities = self.probabilities(
            [p.title for p in projects], [p.description for p in projects]
        )
        predicted = [classes[i] for i in probabilities.argmax(axis=1)]
        truth = [p.tag for p in projects]
        return report(truth, predicted, classes), confusion_matrix(truth, predicted, classes)


class _Progress:
    """Epochs as lines; on a terminal also the batches within one, in place."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, epoch: int, steps: int, step: int) -> None:
        if self._live:
            print(f"\r  epoch {epoch}  batch {step}/{steps}", end="", file=sys.stderr, flush=True)

    def epoch(self, epoch: "Epoch") -> None:
        head = "linear layer" if epoch.number == 0 else f"epoch {epoch.number}"
        say(
            f"{chr(13) if self._live else ''}  {head:<12}  train_loss {epoch.train_loss:.3f}  "
            f"val_loss {epoch.val_loss:.3f}  val_f1 {epoch.val_f1:.3f}  "
            f"({time.monotonic() - self._start:.0f} s)"
        )


def train_model(
    train: Sequence[LabelledProject],
    validation: Sequence[LabelledProject],
    settings: "Settings",
    encoder: Path,
    on_epoch: "OnEpoch | None" = None,
) -> Trained:
    """Train one model; the same rows, settings and thread count give the same model.

    Args:
        train: rows to learn from; their tags are the classes.
        validation: rows to stop by.
        settings: how to train.
        encoder: folder of the pretrained encoder.
        on_epoch: called with each `Epoch`, beside what is shown on stderr.
    """
    from madewithml.fit import fit, seed_everything
    from madewithml.model import ModelSpec, device, from_encoder
    from madewithml.tokens import TextTokenizer, load_tokenizer

    seed_everything(settings.seed)
    classes = check_tags(train, at_least=1)
    spec = ModelSpec(
        classes, settings.pooling, settings.dropout, settings.preprocessing, settings.max_length
    )
    model, config = from_encoder(encoder, spec)
    tokenizer_json = load_tokenizer(encoder).to_str()
    tokenizer = TextTokenizer(tokenizer_json, settings.max_length)
    progress = _Progress()

    def report_epoch(epoch: "Epoch") -> None:
        progress.epoch(epoch)
        if on_epoch is not None:
            on_epoch(epoch)

    best = fit(
        model.to(device()),
        tokenizer,
        _encode(train, spec, tokenizer),
        _encode(validation, spec, tokenizer),
        settings,
        report_epoch,
        progress.step,
    )
    return Trained(model, tokenizer, config, tokenizer_json, best)


def _encode(
    projects: Sequence[LabelledProject], spec: "ModelSpec", tokenizer: "TextTokenizer"
) -> "Encoded":
    from madewithml.fit import Encoded

    texts = [project_text(p.title, p.description, spec.preprocessing) for p in projects]
    labels = np.array([spec.classes.index(p.tag) for p in projects], dtype=np.int64)
    return Encoded(tokenizer.encode(texts), labels)


def golden_examples(trained: Trained, projects: Sequence[LabelledProject]) -> list[dict[str, Any]]:
    """Inputs with recorded predictions that every later load of the model must repeat.

    The lesson's query and, of each class, the project that the model is surest of: a rounding
    difference between machines cannot change these.
    """
    classes = trained.model.spec.classes
    rows = [LESSON_QUERY, *({"title": p.title, "description": p.description} for p in projects)]
    probabilities = trained.probabilities(
        [row["title"] for row in rows], [row["description"] for row in rows]
    )
    surest = [0, *(1 + int(probabilities[1:, k].argmax()) for k in range(len(classes)))]
    return [
        {"input": rows[i], "prediction": classes[int(probabilities[i].argmax())]}
        for i in dict.fromkeys(surest)
    ]


def train_run(
    name: str,
    settings: "Settings",
    data: "Data",
    encoder: Path,
    experiment: str,
    uri: str,
) -> dict[str, Any]:
    """Train with one group of settings, as one MLflow run.

    Returns:
        run_id, val_loss, overall, per_class, random_strings.
    """
    from madewithml.model import save
    from madewithml.tracking import Run, draw_confusion
    from salver import Checkpoint

    with Run(experiment, name, uri) as run, tempfile.TemporaryDirectory() as scratch:
        params = asdict(settings) | {
            "recipe": name, "dataset": data.name, "encoder": encoder.name,
            "train_rows": len(data.train), "validation_rows": len(data.validation),
        }  # fmt: skip
        run.log_params(params)
        trained = train_model(
            data.train, data.validation, settings, encoder,
            on_epoch=lambda epoch: run.log_metrics(_curves(epoch), epoch.number),
        )  # fmt: skip
        # The last point of each curve is the checkpoint's own, so that choosing a run by its last
        # val_loss chooses by what is served, not by the last epoch before training stopped.
        run.log_metrics(_curves(trained.epoch), settings.epochs + 1)
        result, matrix = trained.report(data.test)
        noise = random_projects()
        classes = list(trained.model.spec.classes)
        random_strings = share_answered_other(
            trained.probabilities(noise["title"], noise["description"]), classes
        )
        metrics = {f"test_{key}": float(value) for key, value in result["overall"].items()} | {
            "noise_answered_other": random_strings["with_threshold"]
        }
        run.log_metrics(metrics)
        picture = Path(scratch) / "confusion_matrix.png"
        draw_confusion(matrix, classes, picture, f"{name}, rows of {data.tested_on}")
        run.log_picture(picture)
        folder = Path(scratch) / "checkpoint"
        save(folder, trained.model, trained.config, trained.tokenizer_json)
        Checkpoint.create(
            folder,
            {
                "class_to_index": {tag: i for i, tag in enumerate(classes)},
                "metrics": _curves(trained.epoch) | metrics,
                "params": params,
                "run_id": run.run_id,
                "preprocessing": settings.preprocessing,
                "examples": golden_examples(trained, data.validation),
            },
        )
        run.log_checkpoint(folder)
    say(f"  {data.tested_on}: {json.dumps(_rounded(result['overall']))}")
    return {
        "run_id": run.run_id, "val_loss": trained.epoch.val_loss, **result,
        "random_strings": random_strings,
    }  # fmt: skip


def _curves(epoch: "Epoch") -> dict[str, float]:
    values = asdict(epoch)
    del values["number"]
    return values


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


@dataclass(frozen=True)
class Data:
    """The rows of one training: to learn from, to stop by, to report on."""

    name: str
    train: list[LabelledProject]
    validation: list[LabelledProject]
    test: list[LabelledProject]
    tested_on: str


def read_data(dataset: str | None, holdout: str | None, seed: int) -> Data:
    """Read a data set and split off the validation rows.

    The results are reported on the held-out file: the one given, the one that ships when the
    shipped data set is trained on, and otherwise on the validation rows.

    Raises:
        DataError: see `read_projects` and `check_tags`.
    """
    if dataset is None:
        dataset, holdout = str(TRAIN_FILE), holdout or str(HOLDOUT_FILE)
    projects = read_projects(dataset)
    tags = check_tags(projects, at_least=LEAST_PER_TAG)
    train, validation = stratified_split(projects, fraction=VALIDATION_SHARE, seed=seed)
    test = validation if holdout is None else read_projects(holdout, tags=tags)
    tested_on = "validation" if holdout is None else Path(holdout).name
    return Data(Path(dataset).name, train, validation, test, tested_on)


def finished_run(experiment: str) -> str | None:
    """The best finished run of the experiment, if there is one."""
    from salver.errors import TrackingError
    from salver.models.tracking import best_run

    try:
        return best_run(experiment, METRIC, MODE, tracking_uri()).run_id
    except TrackingError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when all runs were trained, 1 when the data or encoder are no good."""
    parser = argparse.ArgumentParser(prog="python -m madewithml.train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--dataset", help="CSV, path or URL (default: the one that ships)")
    parser.add_argument("--holdout", help="CSV to report on (default: see read_data)")
    parser.add_argument("--encoder", help="folder or hub name of a BERT-type encoder")
    parser.add_argument("--experiment", default=EXPERIMENT)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(DEFAULT_RECIPES))
    parser.add_argument("--epochs", type=int, help="at most so many epochs per run")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--preprocessing", choices=("none", "clean_text"), default="none")
    parser.add_argument("--if-missing", action="store_true",
                        help="do nothing if the experiment has a finished run")  # fmt: skip
    given = parser.parse_args(arguments)
    if given.if_missing and (run_id := finished_run(given.experiment)):
        say(f"experiment {given.experiment!r} has runs already; the best is {run_id}")
        return 0
    start = time.monotonic()
    try:
        data = read_data(given.dataset or None, given.holdout or None, given.seed)
        encoder = encoder_folder(given.encoder)
    except (DataError, FileNotFoundError) as error:
        say(f"error: {error}")
        return 1
    uri = tracking_uri()
    say(
        f"{data.name}: {len(data.train)} rows to train on, {len(data.validation)} to validate; "
        f"experiment {given.experiment!r} in {uri}"
    )
    results = []
    for number, name in enumerate(given.recipes, start=1):
        settings = settings_of(name, given.seed, given.epochs, given.preprocessing)
        say(f"run {number} of {len(given.recipes)}: {name}")
        results.append(train_run(name, settings, data, encoder, given.experiment, uri))
    best = min(results, key=lambda result: result["val_loss"])
    say(f"best run by {METRIC}: {best['run_id']}  ({time.monotonic() - start:.0f} s in all)")
    print(json.dumps({**best, "evaluated_on": data.tested_on, "experiment": given.experiment}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
