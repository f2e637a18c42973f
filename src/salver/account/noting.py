"""What is kept of an answered request: one record for each of its rows.

It does not know where records go, nor what a policy is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from salver.account.records import Record, class_text
from salver.outputs import PREDICTION, PROBABILITIES
from salver.types import Batch, Outcome, text_length

MAX_TEXT = 1000  # characters kept of one text of a row
SET = "prediction_set"


class Seen(NamedTuple):
    """What is kept of one row that was asked.

    Attributes:
        length: Characters of text.
        inputs: Plain values by field; null unless they may be kept.
    """

    length: int
    inputs: dict[str, Any] | None


def seen_of(batch: Batch, with_inputs: bool) -> list[Seen]:
    """What is kept of rows, so that these, which may hold images, need not wait to be written.

    Args:
        batch: What was asked.
        with_inputs: Whether to keep the rows themselves.
    """
    names = batch.names
    return [
        Seen(text_length(row), _inputs(names, row) if with_inputs else None) for row in batch.rows
    ]


def records_of(
    seen: Sequence[Seen],
    outcomes: Sequence[Outcome],
    *,
    request_id: str,
    deployment: str,
    version: str,
    at: float,
) -> list[Record]:
    """Records of the rows of one request.

    Args:
        seen: Of what was asked.
        outcomes: What became of each row.
        request_id: Of the request.
        deployment: Who answered.
        version: Of all that decided the answers.
        at: When, in seconds since 1970 (UTC).
    """
    return [
        Record(
            request_id=request_id,
            row=position,
            deployment=deployment,
            version=version,
            at=at,
            length=one.length,
            inputs=one.inputs,
            **_answer(outcome),
        )
        for position, (one, outcome) in enumerate(zip(seen, outcomes, strict=True))
    ]


def _answer(outcome: Outcome) -> dict[str, Any]:
    if outcome.failure is not None:
        return {"failed": outcome.failure.code}
    value, details = outcome.value or {}, outcome.details or {}
    own, probability = likeliest(value.get(PROBABILITIES))
    confidence, reason = details.get("confidence"), details.get("abstained")
    labels = value.get(SET)
    return {
        "prediction": class_text(value.get(PREDICTION)),
        "own": own,
        "confidence": probability if confidence is None else confidence,
        "novelty": details.get("novelty"),
        "withheld_by": _policy(reason) if outcome.abstained else None,
        "prediction_set": [class_text(v) or "" for v in labels]
        if isinstance(labels, list)
        else None,
    }


def likeliest(probabilities: Any) -> tuple[str | None, float | None]:
    """The class with the largest probability, as text, and that; null without named classes."""
    if not isinstance(probabilities, Mapping) or not probabilities:
        return None, None
    name = max(probabilities, key=lambda one: probabilities[one])
    return str(name), float(probabilities[name])


def _policy(reason: Any) -> str:
    """The name of a policy, which stands before the first colon of its reason."""
    return reason.partition(":")[0] if isinstance(reason, str) else "policy"


def _inputs(names: Sequence[str], row: tuple[Any, ...]) -> dict[str, Any]:
    """Texts are cut, and what is no plain value is left out: images, nested values."""
    kept: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if isinstance(value, str):
            kept[name] = value[:MAX_TEXT]
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
    return kept
