from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import World, about, answered

from salver import ConformalSet, Coverage, Novelty, Precision, Threshold
from salver.account.about import NOTHING
from salver.account.evaluation import evaluated
from salver.account.results import Findings
from salver.account.rows import UNKNOWN
from salver.policies import HeldOut

WORLD = World()
HELD_OUT = WORLD.drawn(1000, np.random.default_rng(0))
ABOUT = about(*HELD_OUT)


def _met(world: World, n: int = 1000, seed: int = 1, before: int = 0) -> Findings:
    """What is found after rows of a world, and perhaps rows of the usual one before."""
    random = np.random.default_rng(seed)
    rows = answered(*world.drawn(n, random), HELD_OUT[0])
    if before:
        usual = answered(*WORLD.drawn(before, random), HELD_OUT[0])
        columns = zip(_columns(usual), _columns(rows), strict=True)
        rows = type(rows)(*(np.concatenate(pair) for pair in columns))
    return evaluated(rows, rows, ABOUT)


def _columns(rows: object) -> list[np.ndarray]:
    return [getattr(rows, name) for name in rows.__slots__]  # type: ignore[attr-defined]


def test_rows_like_the_held_out_ones_raise_no_alarm() -> None:
    """Of 200 services whose rows are as they were, none or one raises an alarm."""
    alarms = [bool(_met(WORLD, seed=seed).alarms) for seed in range(200)]
    assert sum(alarms) <= 1


@pytest.mark.parametrize(
    ("change", "alarm"),
    [
        ({"overconfidence": 0.15}, "precision"),
        ({"overconfidence": 0.15}, "calibration"),
        ({"novelty": 1.6}, "novelty"),
        ({"novelty": 1.6}, "drift_novelty"),
        ({"shares": (0.2, 0.3, 0.5)}, "drift_classes"),
        ({"hardness": 0.25}, "drift_confidence"),
        ({"length": 160.0}, "drift_text_length"),
    ],
)
def test_a_shift_raises_the_alarm_about_it(change: dict, alarm: str) -> None:
    """What changes is named, also where five times as many rows before were as usual."""
    for before in (0, 5000):
        names = {one.name for one in _met(WORLD.changed(**change), before=before).alarms}
        assert alarm in names


def test_only_what_changed_is_named() -> None:
    """Longer texts that are answered as well as before are no reason to doubt a promise."""
    found = _met(WORLD.changed(length=160.0))
    assert [one.name for one in found.alarms] == ["drift_text_length"]
    assert not any(one.is_broken for one in found.held)


def test_figures_are_those_of_the_rows() -> None:
    """Precision is the share of right ones among labelled answers, withheld rows left out."""
    random = np.random.default_rng(3)
    rows = answered(*WORLD.drawn(2000, random), HELD_OUT[0])
    found = evaluated(rows, rows, ABOUT)
    precision = next(one for one in found.held if one.about == "precision")
    given = [w is None for w in rows.withheld_by]
    right = sum(p == t for p, t, g in zip(rows.prediction, rows.label, given, strict=True) if g)
    assert (precision.whole.hits, precision.whole.of) == (right, sum(given))
    assert precision.whole.share is not None
    assert precision.whole.share.low < right / sum(given) < precision.whole.share.high
    assert precision.recent.of == 1000  # the latest labelled answers


def test_labels_that_come_late_are_of_older_rows() -> None:
    """Where only the first of 2,000 rows have labels, the latest labelled ones are among these."""
    asked = WORLD.drawn(2000, np.random.default_rng(4))
    rows = answered(*asked, HELD_OUT[0], labelled=0.25)
    found = evaluated(rows, rows, ABOUT)
    precision = next(one for one in found.held if one.about == "precision")
    assert found.labelled == 500
    assert 400 < precision.recent.of <= 500
    assert found.recent_rows == 1000


def test_without_labels_only_what_needs_none_is_judged() -> None:
    """Novelty and drift are known at once, precision and calibration are not."""
    asked = WORLD.changed(novelty=1.6).drawn(1000, np.random.default_rng(5))
    rows = answered(*asked, HELD_OUT[0], labelled=0.0)
    found = evaluated(rows, rows, ABOUT)
    by_kind = {one.about: one for one in found.held}
    assert by_kind["precision"].whole.share is None
    assert not by_kind["precision"].is_broken
    assert by_kind["novelty"].is_broken
    assert found.honest is None


def test_without_a_calibration_there_is_no_reference() -> None:
    """Rows of a service that promises nothing are counted, and raise no alarm."""
    asked = WORLD.drawn(300, np.random.default_rng(6))
    rows = answered(*asked, HELD_OUT[0])
    found = evaluated(rows, rows, NOTHING)
    assert (found.rows, found.labelled, found.reference_rows) == (300, 300, 0)
    assert not found.held
    assert not found.drifted
    assert not found.alarms


def test_few_rows_say_nothing_of_drift() -> None:
    """Below fifty rows no distribution is compared."""
    asked = WORLD.changed(novelty=3.0).drawn(49, np.random.default_rng(7))
    rows = answered(*asked, HELD_OUT[0])
    assert not evaluated(rows, rows, ABOUT).drifted


def test_labels_that_the_model_does_not_have_are_counted_and_never_right() -> None:
    """A label of another class makes its answer wrong, and is told apart."""
    rows = answered(*WORLD.drawn(200, np.random.default_rng(8)), HELD_OUT[0])
    rows.label[:20] = "knitting"
    found = evaluated(rows, rows, ABOUT)
    assert found.unknown_labels == 20
    assert found.honest is not None
    assert found.honest.right < 0.92


def test_each_kind_of_promise_is_counted_in_its_own_way() -> None:
    """Coverage is of rows that reach it, sets of labelled rows, precision of each answered class."""
    policies = [
        Novelty(0.02),
        Coverage(0.8),
        Precision(0.8, per_class=True),
        ConformalSet(0.95),
    ]
    held_out, lengths = WORLD.drawn(3000, np.random.default_rng(9))
    known = about(held_out, lengths, policies)
    asked = WORLD.drawn(1500, np.random.default_rng(10))
    rows = answered(*asked, held_out, policies)
    found = {one.policy: one for one in evaluated(rows, rows, known).held}
    novel = int((rows.withheld_by == "Novelty").sum())
    unsure = int((rows.withheld_by == "Coverage").sum())
    assert (found["Novelty(0.02)"].whole.hits, found["Novelty(0.02)"].whole.of) == (novel, 1500)
    covered = found["Coverage(0.8)"].whole
    assert (covered.hits, covered.of) == (1500 - novel - unsure, 1500 - novel)
    of_classes = [name for name in found if "per_class" in name]
    assert len(of_classes) == 3
    assert sum(found[name].whole.of for name in of_classes) == int(rows.answered.sum())
    sets = found["ConformalSet(0.95)"].whole
    reached = rows.answered
    assert (sets.hits, sets.of) == (int(rows.covered[reached].sum()), int(reached.sum()))


def test_rows_that_were_read_for_their_labels_say_nothing_of_coverage() -> None:
    """Where people label what was withheld, the share of answers is that of all rows."""
    policies = [Coverage(0.8)]
    held_out, lengths = WORLD.drawn(3000, np.random.default_rng(12))
    rows = answered(*WORLD.drawn(5000, np.random.default_rng(13)), held_out, policies)
    reviewed = rows.take(~rows.answered)
    found = evaluated(rows, reviewed, about(held_out, lengths, policies))
    assert (found.held[0].whole.hits, found.held[0].whole.of) == (int(rows.answered.sum()), 5000)
    assert found.labelled == len(reviewed)
    assert not [one for one in found.alarms if one.name == "coverage"]


def test_rows_that_an_unknown_policy_withheld_reached_no_other() -> None:
    """Coverage behind a rule that does not tell its name is of the rows that this let pass."""
    policies = [Coverage(0.8)]
    held_out, lengths = WORLD.drawn(3000, np.random.default_rng(14))
    rows = answered(*WORLD.drawn(1000, np.random.default_rng(15)), held_out, policies)
    rows.withheld_by[:300] = UNKNOWN
    found = evaluated(rows, rows, about(held_out, lengths, policies))
    assert found.held[0].whole.of == 700


def test_sets_are_judged_on_the_rows_that_their_limit_is_for() -> None:
    """Behind a policy that withholds what is mostly wrong, sets that are as promised hold."""
    policies = [Novelty(0.1), ConformalSet(0.95)]
    alarms = 0
    for seed in range(20):
        random = np.random.default_rng(100 + seed)
        held_out, lengths = _novel_are_wrong(1000, random)
        asked = _novel_are_wrong(2000, random)
        rows = answered(*asked, held_out, policies)
        found = evaluated(rows, rows, about(held_out, lengths, policies))
        alarms += any(one.name == "sets" for one in found.alarms)
    assert not alarms


def _novel_are_wrong(n: int, random: np.random.Generator) -> tuple[HeldOut, np.ndarray]:
    drawn, lengths = WORLD.drawn(n, random)
    assert drawn.scored.novelty is not None
    assert drawn.scored.probabilities is not None
    assert drawn.labels is not None
    novel = drawn.scored.novelty > np.quantile(drawn.scored.novelty, 0.9)
    best = drawn.scored.probabilities.argmax(axis=1)
    labels = np.where(novel, (best + 1) % 3, drawn.labels)
    return HeldOut(drawn.scored, labels == best, labels), lengths


def test_limits_of_few_rows_behind_another_policy_are_judged_as_such() -> None:
    """A promise remembers how many held-out rows had reached it."""
    policies = [Coverage(0.3), Novelty(0.1)]
    held_out, lengths = WORLD.drawn(400, np.random.default_rng(16))
    known = about(held_out, lengths, policies)
    assert known.promises[0].held_out == 400
    assert known.reference is not None
    reached = known.reference.withheld_by != "Coverage"
    assert known.promises[1].held_out == int(reached.sum()) < 250


def test_two_policies_of_one_name_are_not_told_apart() -> None:
    """A promise between them is not judged, for nobody knows which of them withheld a row."""
    policies = [Threshold(0.3), Coverage(0.8), Threshold(0.9)]
    held_out, lengths = WORLD.drawn(1000, np.random.default_rng(17))
    known = about(held_out, lengths, policies)
    rows = answered(*WORLD.drawn(1000, np.random.default_rng(18)), held_out, policies)
    assert not evaluated(rows, rows, known).held


def test_an_old_miss_is_told_from_a_new_one() -> None:
    """Once the latest rows are as promised, the alarm says so, and how to look at these alone."""
    random = np.random.default_rng(19)
    old = answered(*WORLD.changed(novelty=1.6).drawn(2000, random), HELD_OUT[0])
    new = answered(*WORLD.drawn(3000, random), HELD_OUT[0])
    rows = type(old)(
        *(np.concatenate(pair) for pair in zip(_columns(old), _columns(new), strict=True))
    )
    (alarm,) = (one for one in evaluated(rows, rows, ABOUT).alarms if one.name == "novelty")
    assert "--since" in alarm.message


def test_failed_rows_count_for_nothing_but_themselves() -> None:
    """Rows that failed are no answers, right or withheld ones."""
    rows = answered(*WORLD.drawn(400, np.random.default_rng(11)), HELD_OUT[0])
    failed = np.arange(400) < 100
    rows = replace(rows, failed=failed)
    for column in (rows.prediction, rows.own, rows.withheld_by):
        column[:100] = None
    found = evaluated(rows, rows, ABOUT)
    assert found.labelled == 300
    assert found.held[0].whole.of == 300
