"""Precision, recall and F1, overall and per class. Plain numpy: the serving front imports this.

Knows nothing of models, files or MLflow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_matrix(
    truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]
) -> np.ndarray:
    """Counts by (true class, predicted class): int64 of shape (k, k).

    Raises:
        ValueError: the two sequences differ in length, or hold a class that is not listed.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true classes but {len(predicted)} predicted ones")
    index = {name: i for i, name in enumerate(classes)}
    if unknown := sorted((set(truth) | set(predicted)) - set(index)):
        raise ValueError(f"classes {unknown} are not among {list(classes)}")
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for true, guess in zip(truth, predicted, strict=True):
        matrix[index[true], index[guess]] += 1
    return matrix


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio


def report(
    truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Quality of a classification.

    Returns:
        `overall`: precision, recall and f1 (averages weighted by the classes' true counts),
        macro_f1 (plain average over the classes that occur in the truth or the predictions),
        num_samples. `per_class`: precision, recall, f1 and num_samples of each class. A ratio
        without a denominator is 0.

    Raises:
        ValueError: as `confusion_matrix`, or there is no row at all.
    """
    matrix = confusion_matrix(truth, predicted, classes)
    total = int(matrix.sum())
    if total == 0:
        raise ValueError("no rows to evaluate: wanted at least one")
    hits = matrix.diagonal().astype(float)
    support, guesses = matrix.sum(axis=1).astype(float), matrix.sum(axis=0).astype(float)
    precision, recall = _ratio(hits, guesses), _ratio(hits, support)
    f1 = _ratio(2 * precision * recall, precision + recall)
    weights = support / total
    occurring = (support + guesses) > 0
    return {
        "overall": {
            "precision": float(precision @ weights),
            "recall": float(recall @ weights),
            "f1": float(f1 @ weights),
            "macro_f1": float(f1[occurring].mean()),
            "num_samples": total,
        },
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "num_samples": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
    }
