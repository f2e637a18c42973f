"""Ray Data's `map_batches`, with the settings of the Made With ML course or tuned.

Runs in the environment of Ray. The predictor class is the one that Ray's own guide wants:
https://docs.ray.io/en/latest/data/batch_inference.html.
"""

import argparse
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from bench.predictors import CLASSES, load


class Classifier:
    """Loads in the actor; maps a batch of columns to a batch of columns."""

    def __init__(self, model: str, folder: str, threads: int) -> None:
        self._predict = load(model, folder, threads)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        found = self._predict(batch["title"].tolist(), batch["description"].tolist())
        labels = np.array(CLASSES, dtype=object)[found.argmax(axis=1)]
        return {**batch, "prediction": labels, **dict(zip(CLASSES, found.T, strict=True))}


def lesson(rows: "ray.data.Dataset", how: dict[str, Any], cores: int) -> "ray.data.Dataset":
    """As the course predicts: batches of 128, one to two actors of one core each."""
    # Ray sets OMP_NUM_THREADS to an actor's cores, which is 1 unless one says otherwise.
    return rows.map_batches(
        Classifier,
        fn_constructor_kwargs={**how, "threads": 1},
        batch_size=128,
        compute=ActorPoolStrategy(min_size=1, max_size=2),
    )


def tuned(rows: "ray.data.Dataset", how: dict[str, Any], cores: int) -> "ray.data.Dataset":
    """An actor on every core from the start, blocks for all of them, batches that suit a CPU."""
    # "Ray Data reads a file as one block, which one actor takes": https://docs.ray.io/en/latest/
    # data/performance-tips.html, under the number of output blocks.
    return rows.repartition(8 * cores).map_batches(
        Classifier,
        fn_constructor_kwargs={**how, "threads": 1},
        batch_size=8 if how["model"] != "constant" else 1024,
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
    # One more than there are, so that reading and writing are not kept waiting by the actors.
    ray.init(num_cpus=given.cores + 1, include_dashboard=False)
    rows = ray.data.read_csv(given.input)
    how = {"model": given.model, "folder": given.folder}
    build = {"lesson": lesson, "tuned": tuned}[given.settings]
    build(rows, how, given.cores).write_parquet(given.output)
    ray.shutdown()


if __name__ == "__main__":
    main()
