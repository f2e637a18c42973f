"""Ray Data's `map_batches`, with the settings of the Made With ML course or tuned.

Runs in the environment of Ray. It does not know how it is timed.
"""

import argparse
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from bench.predictors import CLASSES, load


class Classifier:
    """Loads in the actor; maps a batch of columns to a batch of columns."""

    def __init__(self, model: str, folder: str, threads: int) -> None:
        self._predict = load(model, folder, threads)

    def __call__(self, batch: Any) -> dict[str, np.ndarray]:
        """Adds the answers to a batch, a dict of arrays or a data frame."""
        given = {name: np.asarray(batch[name]) for name in batch}
        found = self._predict(given["title"].tolist(), given["description"].tolist())
        labels = np.array(CLASSES, dtype=object)[found.argmax(axis=1)]
        return {**given, "prediction": labels, **dict(zip(CLASSES, found.T, strict=True))}


def lesson(rows: Dataset, how: dict[str, Any], cores: int) -> Dataset:
    """The arguments of the course: https://madewithml.com/courses/mlops/serving/#batch-inference.

    Its model is PyTorch; here all systems run the same ONNX file.
    """
    # Ray gives an actor one core, and OMP_NUM_THREADS to match, unless told otherwise.
    return rows.map_batches(
        Classifier,
        fn_constructor_kwargs={**how, "threads": 1},
        batch_size=128,
        compute=ActorPoolStrategy(min_size=1, max_size=2),
        batch_format="pandas",
    )


def tuned(rows: Dataset, how: dict[str, Any], cores: int) -> Dataset:
    """An actor on every core from the start, work for all of them, small batches."""
    # A block is at least 1 MiB by default (https://docs.ray.io/en/latest/data/performance-tips.html,
    # "Tuning output blocks for read"), so a short file would be one block, for one actor.
    # Sorting by length first, with Dataset.sort, was tried: the shuffle of a few thousand rows takes
    # longer than the padding that it saves. Batches of 16 were no slower than of 8.
    return rows.repartition(4 * cores).map_batches(
        Classifier,
        fn_constructor_kwargs={**how, "threads": 1},
        batch_size=16 if how["model"] != "constant" else 1024,
        compute=ActorPoolStrategy(size=cores),
    )


def main() -> None:
    """Reads the file, maps its batches, writes Parquet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--settings", choices=("lesson", "tuned"), required=True)
    parser.add_argument("--cores", type=int, required=True)
    given = parser.parse_args()
    DataContext.get_current().enable_progress_bars = False
    # Twice what there are: reading and writing must not wait for the cores that the actors hold.
    ray.init(num_cpus=2 * given.cores, include_dashboard=False)
    rows = ray.data.read_csv(given.input)
    how = {"model": given.model, "folder": given.folder}
    build = {"lesson": lesson, "tuned": tuned}[given.settings]
    build(rows, how, given.cores).write_parquet(given.output)
    ray.shutdown()


if __name__ == "__main__":
    main()
