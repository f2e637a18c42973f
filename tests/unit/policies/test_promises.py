"""Promises: limits from held-out rows, and what is true of new rows then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policies.held_out import held_out
from salver.bounds import NotKept, binomial_cdf
from salver.errors import ConfigError, InvalidOption
from salver.policies import ConformalSet, Coverage, HeldOut, Novelty, Precision, Promise, Scored

FRESH = held_out(20_000, seed=1)
assert FRESH.right is not None
SPLITS = 500


def precision_of(answered: np.ndarray[Any, Any]) -> float:
    assert FRESH.right is not None
    return float(FRESH.right[answered].mean()) if answered.any() else 1.0


def coverage_of(answered: np.ndarray[Any, Any]) -> float:
    return float(answered.mean())


@pytest.mark.parametrize(
    ("promise", "found", "least"),
    [
        (Precision(0.9), precision_of, 0.9),
        (Precision(0.8, confidence=0.95), precision_of, 0.8),
        (Precision(0.9, uses="probability"), precision_of, 0.9),
        (Coverage(0.9), coverage_of, 0.9),
        (Coverage(0.5, confidence=0.99), coverage_of, 0.5),
    ],
)
def test_a_promise_is_kept_as_often_as_stated(
    promise: Any, found: Callable[[Any], float], least: float
) -> None:
    """Over 500 sets of held-out rows, but for what chance may do to 500; or it is refused."""
    broken = refused = 0
    for seed in range(SPLITS):
        try:
            rule = promise.kept_on(held_out(300, seed=seed + 100))
        except NotKept:
            refused += 1
            continue
        answered = FRESH.scored.confidence >= rule.limit
        broken += found(answered) < least - 0.005  # 20,000 rows are not all rows
    assert refused < SPLITS / 10
    assert binomial_cdf(broken - 1, SPLITS, 1 - promise.confidence) < 0.9999


def test_the_promise_is_not_kept_by_answering_nothing() -> None:
    """A perfect chooser of thresholds would answer 70 % of these rows at 90 % precision."""
    rule = Precision(0.9).kept_on(held_out(1000))
    assert 0.6 < coverage_of(~rule(FRESH.scored).abstained) < 0.72


def test_each_class_may_have_a_limit_of_its_own() -> None:
    """Of a class that is wrong more often it is higher; each keeps the promise."""
    rows = held_out(3000)
    assert rows.scored.probabilities is not None
    assert rows.right is not None
    assert FRESH.scored.probabilities is not None
    best = rows.scored.probabilities.argmax(axis=1)
    never_wrong = HeldOut(rows.scored, rows.right | (best == 0), rows.labels)
    rule = Precision(0.9, per_class=True).kept_on(never_wrong)
    assert rule.limits[0] < rule.limits[1]
    after = rule(FRESH.scored)
    answered = {k: ~after.abstained[FRESH.scored.probabilities.argmax(axis=1) == k] for k in (0, 1)}
    assert answered[0].mean() > 0.99 > answered[1].mean()


def test_a_class_with_too_few_rows_is_named() -> None:
    """Nothing can be promised of it."""
    rows = held_out(1500)
    assert rows.scored.probabilities is not None
    best = rows.scored.probabilities.argmax(axis=1)
    few = rows.take((best != 2) | (np.arange(1500) < 20))
    with pytest.raises(ConfigError, match="Of the class 'c'"):
        Precision(0.9, per_class=True).kept_on(few)


def test_a_set_holds_the_true_label_as_often_as_promised() -> None:
    """On average over sets of held-out rows, and the likeliest label comes first."""
    shares = []
    assert FRESH.labels is not None
    for seed in range(100):
        after = ConformalSet(0.95).kept_on(held_out(300, seed=seed + 100))(FRESH.scored)
        sets = after.columns["prediction_set"]
        truth = [("a", "b", "c")[i] for i in FRESH.labels]
        shares.append(np.mean([t in s for t, s in zip(truth, sets, strict=True)]))
        assert [s[0] for s in sets] == FRESH.scored.columns["prediction"]
    assert 0.945 < np.mean(shares) < 0.97
    assert not FRESH.scored.abstained.any()


def test_novel_rows_are_withheld_and_few_others() -> None:
    """On average at most the stated share."""
    shares = []
    for seed in range(100):
        rule = Novelty(0.02, "other").kept_on(held_out(300, seed=seed + 100))
        shares.append(rule(FRESH.scored).abstained.mean())
    assert 0.012 < np.mean(shares) < 0.022
    strange = replace(FRESH.scored, novelty=np.full(len(FRESH), 50.0))
    after = rule(strange)
    assert after.abstained.all()
    assert {"other"} == set(after.columns["prediction"])
    assert after.reasons[0] is not None
    assert after.reasons[0].startswith("Novelty: 50.00 is above ")


@pytest.mark.parametrize(
    "promise", [Precision(0.9), Precision(0.9, per_class=True), Coverage(0.9), Novelty(0.05),
                ConformalSet(0.9)]
)  # fmt: skip
def test_a_row_is_answered_alike_in_any_batch(promise: Promise) -> None:
    """Alone or with others."""
    rule = promise.kept_on(held_out(900))
    rows = held_out(50, seed=7)
    together = rule(rows.scored)
    for i in range(50):
        alone = rule(rows.take(np.arange(50) == i).scored)
        assert bool(together.abstained[i]) == bool(alone.abstained[0])
        for name, column in together.columns.items():
            assert column[i] == alone.columns[name][0]


def test_what_is_missing_is_named() -> None:
    """Labels, a confidence, a novelty score."""
    rows = held_out(300)
    with pytest.raises(ConfigError, match="--label"):
        Precision(0.9).kept_on(HeldOut(rows.scored))
    with pytest.raises(ConfigError, match="calibrated confidence"):
        Coverage(0.9).kept_on(HeldOut(replace(rows.scored, confidence=None)))
    with pytest.raises(ConfigError, match="novelty score"):
        Novelty(0.05).kept_on(HeldOut(replace(rows.scored, novelty=None)))
    with pytest.raises(ConfigError, match="does not know"):
        unknown = np.full(300, -1)
        ConformalSet(0.9).kept_on(HeldOut(rows.scored, rows.right, unknown))
    with pytest.raises(ConfigError, match="no limits yet"):
        Precision(0.9)(rows.scored)


@pytest.mark.parametrize("share", [0, 1, -0.1, 95, True, "0.9", None])
@pytest.mark.parametrize("kind", [Precision, Coverage, ConformalSet, Novelty])
def test_a_promise_is_a_share(kind: Any, share: Any) -> None:
    """Between 0 and 1, both left out: no rows prove certainty."""
    with pytest.raises(InvalidOption, match=kind.__name__):
        kind(share)


def test_what_a_promise_uses_is_checked() -> None:
    """A confidence or a probability."""
    with pytest.raises(InvalidOption, match="uses"):
        Precision(0.9, uses="margin")


def test_tied_probabilities_are_in_the_set_as_promised() -> None:
    """Trees give few different numbers, and 1 - (1 - 0.3) is not 0.3."""
    n = 1000
    given = np.tile([0.7, 0.3], (n, 1))
    labels = (np.arange(n) % 10 < 3).astype(int)
    scored = Scored({"prediction": ["a"] * n}, given, ("a", "b"), np.zeros(n, dtype=bool))
    rule = ConformalSet(0.95).kept_on(HeldOut(scored, labels == 0, labels))
    assert [["a", "b"]] * n == rule(scored).columns["prediction_set"]


@pytest.mark.parametrize("promise", [Coverage(0.9), Precision(0.5), Novelty(0.6)])
def test_a_score_that_another_runtime_rounds_is_decided_alike(promise: Promise) -> None:
    """A limit may lie on the score of many rows."""
    n = 400
    sure = np.where(np.arange(n) % 2 == 0, 0.7, 0.9)
    given = np.stack([sure, 1 - sure], axis=1)
    scored = Scored({}, given, ("a", "b"), np.zeros(n, dtype=bool), sure, sure)
    rule = promise.kept_on(HeldOut(scored, np.ones(n, dtype=bool), np.zeros(n, dtype=int)))
    narrow = sure.astype(np.float32).astype(np.float64)
    rounded = replace(scored, confidence=narrow, novelty=narrow)
    assert rule(scored).abstained.tolist() == rule(rounded).abstained.tolist()


def test_each_class_is_for_models_that_answer_their_likeliest() -> None:
    """Of others, nobody knows how sure they are of what they answer."""
    rows = held_out(900)
    other = replace(rows.scored, columns={"prediction": ["a"] * 900})
    with pytest.raises(ConfigError, match="likeliest class"):
        Precision(0.9, per_class=True).kept_on(HeldOut(other, rows.right, rows.labels))


def test_a_class_that_was_never_answered_is_withheld() -> None:
    """Nothing is known of it."""
    rows = held_out(1500)
    assert rows.scored.probabilities is not None
    best = rows.scored.probabilities.argmax(axis=1)
    rule = Precision(0.8, per_class=True).kept_on(rows.take(best != 2))
    assert rule(rows.take(best == 2).scored).abstained.all()
    with pytest.raises(InvalidOption, match="per_class"):
        Precision(0.9, per_class="no")  # type: ignore[arg-type]
