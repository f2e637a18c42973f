"""pandas and the model: what one writes in a notebook."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from bench.predictors import CLASSES, load


def main() -> None:
    """Reads a frame, predicts it slice by slice in the order of the file, writes a frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    given = parser.parse_args()
    predictor = load(given.model, given.folder, given.threads)
    frame = pd.read_csv(given.input, keep_default_na=False)
    titles, descriptions = frame["title"].tolist(), frame["description"].tolist()
    slices = [slice(at, at + given.batch) for at in range(0, len(frame), given.batch)]
    probabilities = np.concatenate([predictor(titles[s], descriptions[s]) for s in slices])
    frame["prediction"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    frame[list(CLASSES)] = probabilities
    output = Path(given.output)
    output.mkdir()
    frame.to_parquet(output / "results.parquet")


if __name__ == "__main__":
    main()
