"""The model in a loop over batches sorted by length, without any framework: the offline limit.

Reads everything, sorts everything, writes once: what a careful engineer would write for a file that
fits in memory, and no more. It survives nothing.
"""

import argparse
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet

from bench.offline_jobs.results import by_length, table
from bench.predictors import Transformer, load


def predict(
    model: str, folder: str, threads: int, batch: int, titles: list[str], descriptions: list[str]
) -> np.ndarray:
    """Probabilities of all rows, in their order."""
    predictor = load(model, folder, threads)
    if isinstance(predictor, Transformer):
        # Tokenised once: the lengths to sort by are those of the tokens.
        encodings = predictor.encode(titles, descriptions)
        groups = by_length([len(encoding) for encoding in encodings], batch)
        found = [predictor.forward([encodings[i] for i in group]) for group in groups]
    else:
        groups = [
            list(range(at, min(at + batch, len(titles)))) for at in range(0, len(titles), batch)
        ]
        found = [predictor([titles[i] for i in g], [descriptions[i] for i in g]) for g in groups]
    probabilities = np.empty((len(titles), found[0].shape[1]))
    for group, some in zip(groups, found, strict=True):
        probabilities[group] = some
    return probabilities


def main() -> None:
    """Reads, predicts on one or more processes, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    given = parser.parse_args()
    rows = pyarrow.csv.read_csv(given.input).to_pydict()
    how = (given.model, given.folder, given.threads, given.batch)
    n, shares = len(rows["id"]), given.processes
    # Every nth row for each process, so that each gets as many long ones.
    parts = [
        (*how, rows["title"][k::shares], rows["description"][k::shares]) for k in range(shares)
    ]
    probabilities = np.empty((n, 4))
    if shares == 1:
        probabilities[:] = predict(*parts[0])
    else:
        with get_context("spawn").Pool(shares) as pool:
            for k, some in enumerate(pool.starmap(predict, parts, chunksize=1)):
                probabilities[k::shares] = some
    output = Path(given.output)
    output.mkdir()
    pyarrow.parquet.write_table(table(rows, probabilities), output / "results.parquet")


if __name__ == "__main__":
    main()
