"""Answered rows by column, to be counted.

It does not know where they were kept, nor what is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from salver.account.records import Labelled
from salver.outputs import Array

UNKNOWN = "policy"  # in place of the name of a policy that does not tell
WITHHELD = "(withheld)"  # in place of a class, whatever stands in the answer then


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows in the order of time; see `Record` for what the columns mean.

    Attributes:
        at: float64 of shape (n,): seconds since 1970 (UTC); 0 where that means nothing.
        prediction: Texts, or null, of shape (n,).
        own: Texts, or null, of shape (n,).
        confidence: float64 of shape (n,), NaN where it is not known.
        novelty: float64 of shape (n,), NaN where it is not known.
        withheld_by: Names of policies, or null, of shape (n,).
        failed: bool of shape (n,).
        length: float64 of shape (n,): characters of text, NaN where that is not known.
        label: True classes as texts, or null, of shape (n,).
        covered: float64 of shape (n,): whether the set of classes holds the true one, 1 or 0; NaN
            without a set or a label.
    """

    at: Array
    prediction: Array
    own: Array
    confidence: Array
    novelty: Array
    withheld_by: Array
    failed: Array
    length: Array
    label: Array
    covered: Array

    def __len__(self) -> int:
        return len(self.at)

    def take(self, chosen: Any) -> Rows:
        """The rows that a mask, an array of positions or a slice chooses."""
        return Rows(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @property
    def answered(self) -> Array:
        """bool of shape (n,): the model's own answer was given."""
        return np.asarray(~self.failed & missing(self.withheld_by))

    @property
    def labelled(self) -> Array:
        """bool of shape (n,): there is a result, and its true class is known."""
        return np.asarray(~self.failed & ~missing(self.label))

    @property
    def right(self) -> Array:
        """bool of shape (n,): what was answered is the true class."""
        return np.asarray(self.labelled & (self.prediction == self.label))

    @property
    def judged(self) -> Array:
        """bool of shape (n,): the model's own answer is a class, and the true one is known."""
        return np.asarray(self.answered & self.labelled & ~missing(self.prediction))

    @property
    def own_right(self) -> Array:
        """bool of shape (n,): the likeliest class is the true one."""
        return np.asarray(self.labelled & (self.own == self.label))

    def answers(self) -> list[str]:
        """Of rows with a result that is a class: the class, or that it was withheld."""
        columns = (self.prediction.tolist(), self.withheld_by.tolist(), self.failed.tolist())
        return [
            WITHHELD if withheld is not None else answer
            for answer, withheld, failed in zip(*columns, strict=True)
            if not failed and (withheld is not None or answer is not None)
        ]

    @staticmethod
    def of(found: Sequence[Labelled], classes: Collection[str] = ()) -> Rows:
        """The rows of an account.

        Args:
            found: What was kept of them.
            classes: Of the model, as texts; those that were answered where they are not known.
        """
        records = [one.record for one in found]
        known = set(classes) or {r.prediction for r in records if r.prediction is not None}
        labels = [_spelt(one.label, known) for one in found]
        return Rows(
            at=np.array([r.at for r in records], dtype=np.float64),
            prediction=objects([r.prediction for r in records]),
            own=objects([_spelt(r.own, known) for r in records]),
            confidence=numbers([r.confidence for r in records]),
            novelty=numbers([r.novelty for r in records]),
            withheld_by=objects([r.withheld_by for r in records]),
            failed=np.array([r.failed is not None for r in records], dtype=bool),
            length=numbers([r.length for r in records]),
            label=objects(labels),
            covered=numbers(
                [
                    None if r.prediction_set is None or label is None else label in r.prediction_set
                    for r, label in zip(records, labels, strict=True)
                ]
            ),
        )


def _spelt(text: str | None, classes: Collection[str]) -> str | None:
    """A class as the model spells it: 1.0 and 1 are one number, true and True one truth value."""
    if text is None or text in classes:
        return text
    if text.capitalize() in ("True", "False"):
        return text.capitalize() if text.capitalize() in classes else text
    number = text.removesuffix(".0")
    return number if number in classes and number.lstrip("-").isdigit() else text


def objects(values: Sequence[Any]) -> Array:
    """An array of shape (n,) of what is no number."""
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


def numbers(values: Sequence[Any]) -> Array:
    """float64 of shape (n,); NaN for null."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def missing(values: Array) -> Array:
    """bool of shape (n,): which objects are null."""
    return np.array([v is None for v in values.tolist()], dtype=bool)
