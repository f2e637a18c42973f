"""What is kept of an answered request: one record for each of its rows.

It does not know where records go, nor what a policy is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from salver.account.records import Record, class_text
from salver.account.rows import UNKNOWN
from salver.outputs import PREDICTION, PROBABILITIES
from salver.policies.reading import POLICIES
from salver.types import Batch, Outcome, text_length

MAX_CLASS = 256  # characters of a class
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
    policies: Collection[str],
) -> list[Record]:
    """Records of the rows of one request.

    Args:
        seen: Of what was asked.
        outcomes: What became of each row.
        request_id: Of the request.
        deployment: Who answered.
        version: Of all that decided the answers.
        at: When, in seconds since 1970 (UTC).
        policies: Names of those of the deployment.
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
            **_answer(outcome, policies),
        )
        for position, (one, outcome) in enumerate(zip(seen, outcomes, strict=True))
    ]


def _answer(outcome: Outcome, policies: Collection[str]) -> dict[str, Any]:
    if outcome.failure is not None:
        return {"failed": outcome.failure.code}
    value, details = outcome.value or {}, outcome.details or {}
    own, probability = likeliest(value.get(PROBABILITIES))
    confidence, reason = details.get("confidence"), details.get("abstained")
    labels = value.get(SET)
    return {
        "prediction": _class(value.get(PREDICTION)),
        "own": own,
        "confidence": probability if confidence is None else confidence,
        "novelty": details.get("novelty"),
        "withheld_by": _policy(reason, policies) if outcome.abstained else None,
        "prediction_set": [_class(one) or "" for one in labels]
        if isinstance(labels, list)
        else None,
    }


def likeliest(probabilities: Any) -> tuple[str | None, float | None]:
    """The class with the largest probability, as text, and that.

    Null without named classes, and for what is called so without being one: a composed function may
    answer anything.
    """
    if not isinstance(probabilities, Mapping) or not probabilities:
        return None, None
    if not all(isinstance(p, float) and 0 <= p <= 1 + 1e-6 for p in probabilities.values()):
        return None, None
    name = max(probabilities, key=lambda one: probabilities[one])
    return _class(str(name)), min(float(probabilities[name]), 1.0)


def _class(value: Any) -> str | None:
    """The text of a class; a long text is none, and may hold what was asked."""
    text = class_text(value)
    return None if text is None or len(text) > MAX_CLASS else text


def _policy(reason: Any, policies: Collection[str]) -> str:
    """Who has withheld an answer: a policy whose name its reason begins with, or nobody knows.

    The reason itself may hold what was asked.
    """
    name = reason.partition(":")[0] if isinstance(reason, str) else ""
    if name in policies or name in POLICIES:
        return name
    own = [one for one in policies if one not in POLICIES]
    return own[0] if len(own) == 1 else UNKNOWN


def _inputs(names: Sequence[str], row: tuple[Any, ...]) -> dict[str, Any]:
    """Texts are cut, and what is no plain value is left out: images, nested values."""
    kept: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if isinstance(value, str):
            kept[name] = value[:MAX_TEXT]
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
    return kept
