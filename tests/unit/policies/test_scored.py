"""Limits are chosen on what earlier policies let pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.held_out import held_out
from salver.errors import ConfigError
from salver.policies import Novelty, Precision, Scored, Threshold, described, kept


def test_a_promise_without_held_out_rows_says_what_to_do() -> None:
    """Rules do without."""
    assert (Threshold(0.5),) == kept([Threshold(0.5)], None)
    with pytest.raises(ConfigError, match="salver calibrate"):
        kept([Precision(0.9)], None)


def test_a_limit_is_chosen_on_what_earlier_policies_let_pass() -> None:
    """Novel rows that are wrong cost no precision once they are withheld."""
    rows = held_out(400, accuracy=1.0)
    assert rows.right is not None
    strange = np.arange(400) < 100
    novelty = np.where(strange, 5.0, np.linspace(0.1, 0.9, 400))
    wrong = rows.right & ~strange
    given = Scored(**{**_fields(rows.scored), "novelty": novelty})
    mixed = type(rows)(given, wrong, rows.labels)
    with pytest.raises(ConfigError, match="no threshold keeps it"):
        kept([Precision(0.95)], mixed)
    first, second = kept([Novelty(0.3), Precision(0.95)], mixed)
    assert 275 <= (~second(first(given)).abstained).sum()


def test_rows_are_taken_with_all_that_is_known_of_them() -> None:
    """In their order."""
    rows = held_out(60)
    some = np.arange(60) % 2 == 0
    taken = rows.take(some)
    assert 30 == len(taken)
    assert rows.right is not None
    assert taken.right is not None
    assert taken.labels is not None
    assert rows.scored.confidence is not None
    assert taken.scored.confidence is not None
    assert rows.right[some].tolist() == taken.right.tolist()
    assert rows.scored.confidence[some].tolist() == taken.scored.confidence.tolist()
    assert rows.scored.columns["prediction"][::2] == taken.scored.columns["prediction"]


def _fields(scored: Scored) -> dict[str, object]:
    return {name: getattr(scored, name) for name in Scored.__slots__}


class Rename:
    """A policy of one's own, which changes all predictions."""

    needs_probabilities = False

    def __call__(self, scored: Scored) -> Scored:
        return replace(scored, columns={"prediction": ["never"] * len(scored.abstained)})


class Broken:
    """A policy that reads a column of the model."""

    needs_probabilities = False

    def __call__(self, scored: Scored) -> Scored:
        return replace(scored, abstained=np.array(scored.columns["score"]) > 0)


def test_a_policy_of_ones_own_before_a_promise_must_leave_predictions_alone() -> None:
    """Nobody knows which of its own are right; after the promises it may do as it likes."""
    rows = held_out(800)
    for policy, words in ((Rename(), "other predictions"), (Broken(), "fails on held-out rows")):
        with pytest.raises(ConfigError, match=f"{type(policy).__name__} stands before.*{words}"):
            kept([policy, Precision(0.9)], rows)
        assert 2 == len(kept([Precision(0.9), policy], rows))
        assert (policy,) == kept([policy], rows)


def test_a_policy_is_described_alike_in_every_process() -> None:
    """A plain object's repr holds where it lies in memory."""
    one, other = Rename(), Rename()
    one.to, other.to = "x", "y"  # type: ignore[attr-defined]
    assert "0x" not in described(one)
    assert described(one) != described(other)
    assert "Precision(0.9)" == described(Precision(0.9))
