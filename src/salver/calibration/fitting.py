"""Fits what is stored: a calibrator, a novelty score, and held-out rows to make promises on.

It does not know which model said what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from salver.calibration.hearing import Heard
from salver.errors import ConfigError
from salver.offline.labelled import Labelled
from salver.outputs import Array
from salver.policies import HeldOut, Scored
from salver.trust.calibration import Choice, choose
from salver.trust.calibrators import Calibrator, confidence
from salver.trust.fitted import Fitted, texts_of
from salver.trust.novelty import Novelty, fit_layers, fit_table, fit_words
from salver.trust.quality import is_distribution, is_share
from salver.types import Batch, text_length

LEAST = 50  # held-out rows; of fewer, no share of rows can be promised that anybody wants


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that the model answered, m of them.

    Attributes:
        batch: The rows.
        scored: What it says to them.
        hidden: float32 of shape (m, l, d), or null.
        right: bool of shape (m,): whether its own prediction is the true class; null without labels.
        labels: int of shape (m,): positions of the true classes, -1 for unknown ones; null without
            labels.
    """

    batch: Batch
    scored: Scored
    hidden: Array | None
    right: Array | None
    labels: Array | None

    def __len__(self) -> int:
        return len(self.batch)

    @staticmethod
    def of(given: Labelled, answered: Heard, label: str) -> Rows:
        """Those of a file that were answered.

        Args:
            given: The file.
            answered: What the model said.
            label: Column of the true class; empty if there is none.
        """
        rows = given.take(answered.rows.tolist())
        if not label:
            return Rows(rows.batch, answered.scored, answered.hidden, None, None)
        names = {str(name): i for i, name in enumerate(answered.scored.classes)}
        truth = rows.labels(label)
        own = answered.scored.columns.get("prediction", [None] * len(truth))
        right = [str(one) == wanted for one, wanted in zip(own, truth, strict=True)]
        labels = [names.get(one, -1) for one in truth]
        return Rows(rows.batch, answered.scored, answered.hidden, np.array(right), np.array(labels))

    def labelled(self, labels: Sequence[str]) -> Rows:
        """Those whose label is known.

        Args:
            labels: Of the rows; empty where there is none.
        """
        known = np.array([bool(label) for label in labels])
        held_out = HeldOut(self.scored, self.right, self.labels).take(known)
        batch = self.batch.take(np.flatnonzero(known).tolist())
        hidden = None if self.hidden is None else self.hidden[known]
        return Rows(batch, held_out.scored, hidden, held_out.right, held_out.labels)


def fitted(rows: Rows, train: Rows | None) -> tuple[Fitted, Choice | None]:
    """What is stored, and how its calibrator was chosen (null without labels or probabilities).

    Args:
        rows: Held out.
        train: Rows that the model was trained on; null fits novelty on the held-out ones.

    Raises:
        ConfigError: If there are too few.
    """
    if len(rows) < LEAST:
        raise ConfigError(
            f"The model answers {len(rows)} held-out rows, and it takes at least {LEAST} to say "
            "anything about rows like them. Give more with --on."
        )
    calibrator, sure, choice = _calibrated(rows)
    score, novelties = _novelty(rows, train)
    held_out = HeldOut(
        replace(rows.scored, confidence=sure, novelty=novelties), rows.right, rows.labels
    )
    lengths = np.array([text_length(row) for row in rows.batch.rows], dtype=np.float64)
    return Fitted(calibrator, score, held_out, lengths), choice


def _calibrated(rows: Rows) -> tuple[Calibrator | None, Array | None, Choice | None]:
    """The calibrator, and the confidence of each row by one that was not fitted on it."""
    from salver.trust.calibrators import Identity

    given = rows.scored.probabilities
    if given is None or not rows.scored.classes or others_answered(rows.scored):
        return None, None, None
    if not is_distribution(given).all():
        if rows.labels is not None:
            _refuse_what_is_no_share(given)
        return None, None, None
    if rows.labels is None:
        return Identity(), confidence(given, Identity()), None
    known = rows.labels >= 0
    choice = choose(given[known], rows.labels[known])
    sure = confidence(given, choice.calibrator)
    best = given[known].argmax(axis=1)
    sure[known] = choice.out_of_fold[np.arange(len(best)), best]
    return choice.calibrator, sure, choice


def _refuse_what_is_no_share(given: Array) -> None:
    # Promises about labels count on it: 1 less such a number may be anything.
    beyond = given[~is_share(given)]
    if beyond.size:
        raise ConfigError(
            f"The model's 'probabilities' hold {beyond[0]:g}, and each must be within 0 and 1. Return "
            "the softmax of its logits, or give these numbers another name."
        )


def others_answered(scored: Scored) -> int:
    """Rows that the model does not answer with its likeliest class: nothing says how sure it is."""
    assert scored.probabilities is not None
    own = scored.columns.get("prediction", ())
    best = scored.probabilities.argmax(axis=1).tolist()
    return sum(scored.classes[i] != p for i, p in zip(best, own, strict=False))


def _novelty(rows: Rows, train: Rows | None) -> tuple[Novelty | None, Array | None]:
    """The score, and what held-out rows score as rows would that it was not fitted on."""
    try:
        return _scored(rows, train)
    except ConfigError:  # of columns that say nothing of it; confidence is none the worse
        return None, None


def _scored(rows: Rows, train: Rows | None) -> tuple[Novelty, Array]:
    if rows.hidden is not None:
        return fit_layers(None if train is None else train.hidden, rows.hidden)
    if all(field.dtype == "string" for field in rows.batch.fields):
        texts = texts_of(rows.batch)
        return fit_words(None if train is None else texts_of(train.batch), texts)
    columns: Any = None if train is None else train.batch.columns()
    return fit_table(columns, rows.batch.columns())
