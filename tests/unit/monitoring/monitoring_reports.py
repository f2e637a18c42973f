"""Reports made by hand: a service before and after a shift, and what else there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salver.account.results import (
    Alarm,
    Drifted,
    Findings,
    Held,
    Honest,
    Observed,
    Part,
    Report,
    Window,
)
from salver.bounds import clopper_pearson
from salver.trust.quality import Estimate, reliability

START = 1_767_323_045.0  # 2026-01-02 03:04:05 UTC
HOUR = 3600.0
POLICY = (
    "Precision(precision=0.95, otherwise=None, per_class=False, confidence=0.9, uses='confidence')"
)
CLASSES = ("computer-vision", "mlops", "natural-language-processing", "other")
EVIL = "\x1b[31m\nred</td><script>alert(1)</script>"


def observed(hits: int, of: int) -> Observed:
    """A share with its interval."""
    return Observed(hits, of, Estimate(hits / of, *clopper_pearson(hits, of)) if of else None)


def drifted(of: str, names: Sequence[str], before: Sequence[float], after: Sequence[float],
            **given: Any) -> Drifted:  # fmt: skip
    """One respect, alike but for what is given."""
    found = Drifted(of, 0.031, 0.062, 0.4321, False, names, before, after)
    return replace(found, **given)


def part(column: str, value: str, hits: int, of: int, **given: Any) -> Part:
    """One part, which may be chance but for what is given."""
    return replace(Part(column, value, observed(hits, of), 0.957, 0.6789, False), **given)


def window(place: int, is_shifted: bool) -> Window:
    """250 rows of six hours."""
    random = np.random.default_rng(place)
    labelled = 60
    right = int(random.binomial(labelled, 0.86 if is_shifted else 0.97))
    vision, mlops = (0.18, 0.34) if is_shifted else (0.41, 0.12)
    vision += float(random.normal(0, 0.02))
    return Window(
        start=START + place * 6 * HOUR,
        end=START + (place + 1) * 6 * HOUR,
        rows=250,
        failed=place % 2,
        answered=observed(int(random.binomial(250, 0.55 if is_shifted else 0.78)), 250),
        right=observed(right, labelled),
        novel=observed(int(random.binomial(250, 0.05 if is_shifted else 0.015)), 250),
        confidence=(0.83 if is_shifted else 0.91) + float(random.normal(0, 0.006)),
        psi=0.41 if is_shifted else 0.02,
        shares=dict(zip(CLASSES, (vision, mlops, 0.26, 0.2), strict=True)),
    )


def calm(**given: Any) -> Report:
    """A service whose promises hold."""
    random = np.random.default_rng(7)
    sure = 1 - 0.5 * random.beta(0.6, 2.4, 1000)
    right = random.random(1000) < sure
    found = Report(
        deployment="Tagger",
        version="0123456789abcdef" * 4,
        policies=("Threshold(0.5)", POLICY, "Novelty(share=0.02, otherwise=None)"),
        store="/var/lib/salver/account.db",
        start=START,
        end=START + 120 * HOUR,
        known=5000,
        others=312,
        reference="309 held-out rows of its calibration",
        precision=observed(1155, 1190),
        answered=observed(3867, 4990),
        novel=observed(71, 4990),
        failed=10,
        reasons={"Precision": 1052, "Novelty": 71},
        findings=Findings(
            rows=5000,
            labelled=1400,
            unknown_labels=3,
            reference_rows=309,
            recent_rows=1000,
            held=(
                Held(POLICY, "precision", 0.95, True, observed(1155, 1190), observed(969, 1000), False),
                Held("Novelty(share=0.02, otherwise=None)", "novelty", 0.02, False,
                     observed(71, 4990), observed(15, 1000), False),
            ),
            drifted=(
                drifted("classes", CLASSES, (0.42, 0.12, 0.26, 0.2), (0.41, 0.13, 0.25, 0.21)),
                drifted("confidence", ("up to 0.62", "0.62 to 0.91", "above 0.91"),
                        (0.34, 0.33, 0.33), (0.36, 0.33, 0.31), psi=0.054),
            ),
            honest=Honest(
                1000, float(sure.mean()), float(right.mean()), Estimate(0.021, 0.014, 0.045),
                reliability(sure, right), 0.0123, 0.5678, False,
            ),
            alarms=(),
        ),
        windows=[window(place, False) for place in range(20)],
        parts=(
            part("text length", "below 60", 212, 230),
            part("answer", "mlops", 140, 147),
        ),
        parts_seen=9,
        with_inputs=False,
        made_at="2026-01-07T03:10:00+00:00",
    )  # fmt: skip
    return replace(found, **given)


def shifted(**given: Any) -> Report:
    """The same after other rows have come in: a promise is broken, and much has drifted."""
    before = calm()
    held = (
        Held(POLICY, "precision", 0.95, True, observed(1082, 1190), observed(871, 1000), True),
        before.findings.held[1],
    )
    changed = (
        drifted("classes", CLASSES, (0.42, 0.12, 0.26, 0.2), (0.19, 0.35, 0.26, 0.2),
                psi=0.43, jensen_shannon=0.27, p_value=1e-30, is_alarm=True),
        drifted("confidence", ("up to 0.62", "0.62 to 0.91", "above 0.91"),
                (0.34, 0.33, 0.33), (0.51, 0.3, 0.19), psi=0.154, p_value=2e-9, is_alarm=True),
        drifted("text length", ("below 41", "41 to 118", "118 or more"),
                (0.34, 0.33, 0.33), (0.35, 0.34, 0.31)),
    )  # fmt: skip
    assert before.findings.honest is not None
    alarms = (
        Alarm("precision", f"{POLICY}: 871 of the latest 1,000 labelled answers are right (87.1%); "
              "at least 95.0% were promised."),
        Alarm("drift_classes", "The classes of the latest 1,000 rows: population stability index "
              "0.43 against 309 held-out rows; 0.1 is much."),
        Alarm("drift_confidence", "The confidence of the latest 1,000 rows: population stability "
              "index 0.15 against 309 held-out rows; 0.1 is much."),
    )  # fmt: skip
    findings = replace(before.findings, held=held, drifted=changed, alarms=alarms)
    found = replace(
        before,
        precision=observed(1082, 1190),
        findings=findings,
        windows=[window(place, place >= 11) for place in range(20)],
        parts=(
            part("source", "mobile app, version 7", 97, 141, p_value=1e-9, is_real=True),
            part("language", "de", 60, 74, p_value=0.0021, is_real=True),
            part("text length", "below 60", 212, 230),
            part("answer", "mlops", 140, 147),
        ),
        parts_seen=31,
        with_inputs=True,
    )
    return replace(found, **given)


def silent() -> Report:
    """A service without labels, reference or policies, whose only rows came a moment ago."""
    nothing = observed(0, 0)
    one = Window(START, START, 3, 0, observed(3, 3), nothing, observed(0, 3), None, None, {})
    findings = Findings(3, 0, 0, 0, 3, (), (), None, ())
    return calm(
        policies=(), version="", end=START, known=3, others=0, reference="", precision=nothing,
        answered=observed(3, 3), novel=observed(0, 3), failed=0, reasons={}, findings=findings,
        windows=(one,), parts=(), parts_seen=0,
    )  # fmt: skip


def hostile() -> Report:
    """All names are of somebody who would steer a terminal or write HTML."""
    given = shifted()
    held = tuple(replace(one, policy=EVIL) for one in given.findings.held)
    respects = tuple(replace(one, names=(EVIL, *one.names[1:])) for one in given.findings.drifted)
    strange = replace(given.findings.drifted[0], of=EVIL, names=(EVIL, "a", "b", "c"))
    return replace(
        given,
        deployment=EVIL,
        version=EVIL,
        policies=(EVIL, "x" + EVIL),
        store=EVIL,
        reference=EVIL,
        reasons={EVIL: 3},
        findings=replace(
            given.findings,
            held=held,
            drifted=(*respects, strange),
            alarms=(Alarm(EVIL, EVIL),),
        ),
        windows=[replace(one, shares={EVIL: 0.5, "$x_1$": 0.5}) for one in given.windows],
        parts=(part(EVIL, EVIL, 50, 99, is_real=True),),
        made_at=EVIL,
    )


def with_findings(**given: Any) -> Report:
    """The calm report with other findings."""
    return calm(findings=replace(calm().findings, **given))


def with_promise(whole: Observed, recent: Observed, **given: Any) -> Report:
    """The calm report with one promise, of a precision of 0.95 but for what is given."""
    one = Held("Precision(0.95)", "precision", 0.95, True, whole, recent, False)
    return with_findings(held=(replace(one, **given),))
