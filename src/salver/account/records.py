"""The words of the live account: what is kept of one answered row, and of what turned out true.

Plain values. It does not know where they are kept, nor what is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One row that was answered.

    Attributes:
        request_id: Of the request that it came with, as in the header `x-request-id`.
        row: Position in that request, from 0.
        deployment: Who answered.
        version: Of all that decided the answer; empty if that is not known.
        at: When, in seconds since 1970 (UTC).
        prediction: The class that was answered, as text; null if the answer is no class.
        own: The class that the model itself finds likeliest, as text; null if it gives no
            probabilities.
        confidence: Calibrated probability of `own`, or the model's own where nothing is calibrated,
            within 0 to 1; null if it gives none.
        novelty: How unlike the training data the row is; null if that is not known.
        withheld_by: Name of the policy that withheld the model's own answer; null if none did.
        prediction_set: Classes of which one is promised to be the true one, as texts; null if the
            answer holds no such set.
        failed: Code of the failure; null if there is a result.
        length: Characters of text in the row.
        inputs: The row as it was asked, plain values; null unless that may be kept.
    """

    request_id: str
    row: int
    deployment: str
    version: str
    at: float
    prediction: str | None = None
    own: str | None = None
    confidence: float | None = None
    novelty: float | None = None
    withheld_by: str | None = None
    prediction_set: Sequence[str] | None = None
    failed: str | None = None
    length: int = 0
    inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """What turned out to be true of one row.

    Attributes:
        request_id: Of the request that the row came with.
        row: Position in that request, from 0.
        label: The true class, as text.
        at: When that became known here, in seconds since 1970 (UTC).
        deployment: Whose answer it is about; empty for all that the id stands for.
    """

    request_id: str
    row: int
    label: str
    at: float
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record, and its true class if it is known.

    Attributes:
        record: Of an answered row.
        label: As text; null if nobody has told.
    """

    record: Record
    label: str | None


def class_text(value: Any) -> str | None:
    """A class as text, the same whether it came from a model, as JSON or from a file.

    Args:
        value: Text, whole number or truth value; a float only if it is whole, as columns of whole
            numbers with gaps are read. Null for anything else: that is no class.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return str(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else None
