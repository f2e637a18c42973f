"""Judges rows that were answered: whether promises hold, and how far rows are from the reference.

Promises, drift and calibration are tests; an alarm is one that fails beyond chance, after Holm's
correction for all of them at once. It does not know where rows were kept, nor who is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from salver.account.about import About
from salver.account.promises import judged
from salver.account.results import Alarm, Drifted, Findings, Held, Honest
from salver.account.rows import Rows, missing
from salver.outputs import Array
from salver.trust import drift
from salver.trust.quality import bootstrap, calibration_error, reliability

RECENT = 1000  # latest rows that are compared with the reference
LEAST = 50  # rows, below which nothing is said of drift
FALSE_ALARMS = 0.001  # of one judgement, at most, if all is as it was
DRIFT = 0.1  # population stability index below which rows are alike, whatever their number
DIGITS = 5  # of a score that are compared
GAP = 0.05  # of confidence and share of right answers, likewise


@dataclass(frozen=True, slots=True)
class _Test:
    """One of the tests: what it is about, its p-value, and what to say if it fails."""

    of: str
    p_value: float
    alarm: Alarm


def evaluated(rows: Rows, told: Rows, about: About, recent: int = RECENT) -> Findings:
    """What rows of one version say of its promises, and of how it has changed.

    Args:
        rows: In the order of time.
        told: Rows whose true class is known, in the order of time; they may be others.
        about: What was promised, and the reference.
        recent: How many of the latest rows are compared; of labels, how many of the latest known.
    """
    told = told.take(told.labelled)
    latest, newly_told = (one.take(slice(-recent, None)) for one in (rows, told))
    held, tests = _held(rows, told, about, recent)
    drifted, more = _drifted(about.reference, latest)
    honest, last = _honest(about.reference, newly_told)
    failing = _failing([*tests, *more, *last])
    unknown = sum(one not in about.classes for one in told.label) if about.classes else 0
    return Findings(
        rows=len(rows),
        labelled=len(told),
        unknown_labels=unknown,
        reference_rows=0 if about.reference is None else len(about.reference),
        recent_rows=len(latest),
        held=[replace(one, is_broken=one.policy in failing) for one in held],
        drifted=[replace(one, is_alarm=one.of in failing) for one in drifted],
        honest=None if honest is None else replace(honest, is_alarm="calibration" in failing),
        alarms=list(failing.values()),
    )


def _failing(tests: Sequence[_Test]) -> dict[str, Alarm]:
    """What fails beyond chance, by what it is about."""
    adjusted = drift.holm([one.p_value for one in tests])
    failing: dict[str, Alarm] = {}
    for p_value, one in zip(adjusted, tests, strict=True):
        if p_value < FALSE_ALARMS:
            failing.setdefault(one.of, one.alarm)
    return failing


def _held(rows: Rows, told: Rows, about: About, recent: int) -> tuple[list[Held], list[_Test]]:
    held, tests = [], []
    for one in judged(about, rows, told, recent):
        held.append(one.held)
        if not one.held.whole.of:
            continue
        newest = one.message(one.held.recent, "the latest")
        whole = f"{one.message(one.held.whole, 'all')} The latest {one.held.recent.of:,} alone "
        whole += "are no proof of that; --since leaves out what is older."
        tests += [
            _Test(one.held.policy, p, Alarm(one.held.about, said))
            for p, said in ((one.recent, newest), (one.whole, whole))
        ]
    return held, tests


def _drifted(reference: Rows | None, latest: Rows) -> tuple[list[Drifted], list[_Test]]:
    if reference is None or min(len(latest), len(reference)) < LEAST:
        return [], []
    found = [_of_classes(reference, latest)]
    of_numbers: dict[str, Callable[[Rows], Array]] = {
        "confidence": lambda rows: rows.confidence,
        "novelty": lambda rows: rows.novelty,
        "text length": lambda rows: rows.length,
    }
    found += [_of_numbers(name, f(reference), f(latest)) for name, f in of_numbers.items()]
    drifted = [one for one in found if one is not None]
    tests = [
        _Test(
            one.of,
            one.p_value if one.psi >= DRIFT else 1.0,
            Alarm(
                f"drift_{one.of.replace(' ', '_')}",
                f"The {one.of} of the latest {len(latest):,} rows: population stability index "
                f"{one.psi:.2f} against {len(reference):,} held-out rows; {DRIFT} is much.",
            ),
        )
        for one in drifted
    ]
    return drifted, tests


def _of_classes(reference: Rows, latest: Rows) -> Drifted | None:
    """Of what was answered; what was withheld is one class of its own."""
    before, after = reference.answers(), latest.answers()
    if not before or not after:
        return None
    names = sorted({*before, *after})
    return _compared(
        "classes", names, *(np.array([c.count(n) for n in names]) for c in (before, after))
    )


def _of_numbers(name: str, reference: Array, latest: Array) -> Drifted | None:
    # Batches and runtimes move a score a little, which must not tell equal ones apart.
    before, after = (np.round(one[~np.isnan(one)], DIGITS) for one in (reference, latest))
    if min(len(before), len(after)) < LEAST or np.ptp([*before, *after]) == 0:
        return None
    return _compared(name, *drift.binned(before, after))


def _compared(name: str, names: Sequence[str], reference: Array, latest: Array) -> Drifted:
    return Drifted(
        of=name,
        psi=drift.population_stability_index(reference, latest),
        jensen_shannon=drift.jensen_shannon_distance(reference, latest),
        p_value=drift.chance(reference, latest),
        is_alarm=False,
        names=list(names),
        reference=(reference / reference.sum()).tolist(),
        recent=(latest / latest.sum()).tolist(),
    )


def _honest(reference: Rows | None, told: Rows) -> tuple[Honest | None, list[_Test]]:
    sure, right = _sure(told)
    if not len(sure):
        return None, []
    gap, p_value = None, None
    tests: list[_Test] = []
    if reference is not None:
        before, right_before = _sure(reference)
        if min(len(before), len(sure)) >= LEAST:
            gap = float((before - right_before).mean())
            p_value = drift.gap_differs(before - right_before, sure - right)
            much = abs(float((sure - right).mean()) - gap) >= GAP
            message = (
                f"The mean confidence of the latest {len(sure):,} labelled rows is "
                f"{sure.mean():.1%} and {right.mean():.1%} are right; of the held-out rows it was "
                f"{before.mean():.1%} and {right_before.mean():.1%}."
            )
            tests = [_Test("calibration", p_value if much else 1.0, Alarm("calibration", message))]
    honest = Honest(
        rows=len(sure),
        confidence=float(sure.mean()),
        right=float(right.mean()),
        calibration_error=bootstrap(calibration_error, sure, right),
        bins=reliability(sure, right),
        reference_gap=gap,
        p_value=p_value,
        is_alarm=False,
    )
    return honest, tests


def _sure(rows: Rows) -> tuple[Array, Array]:
    """Confidence, and whether the likeliest class is the true one, where both are known."""
    known = ~np.isnan(rows.confidence) & rows.labelled & ~missing(rows.own)
    return rows.confidence[known], rows.own_right[known]
