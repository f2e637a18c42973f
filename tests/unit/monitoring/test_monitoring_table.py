"""The live account for a terminal, and reports made by hand: before and after a shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

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
from salver.monitoring.table import conclusion, text
from salver.reports.terminal import WIDTH
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
        policies=(), version="", end=START, others=0, reference="", precision=nothing,
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


def flowing(found: str) -> str:
    """The report without its line ends, in which sentences can be looked for."""
    return " ".join(found.split())


def cells_of(name: str, found: str) -> str:
    """The cells of the first line that begins so, without the name."""
    line = next(line for line in found.splitlines() if line.startswith(name))
    return flowing(line.removeprefix(name))


def with_findings(**given: Any) -> Report:
    """The calm report with other findings."""
    return calm(findings=replace(calm().findings, **given))


def with_promise(whole: Observed, recent: Observed, **given: Any) -> Report:
    """The calm report with one promise, of a precision of 0.95 but for what is given."""
    one = Held("Precision(0.95)", "precision", 0.95, True, whole, recent, False)
    return with_findings(held=(replace(one, **given),))


def test_the_account_says_who_answered_how_many_rows_and_when() -> None:
    """Version, span in UTC to the minute, labels, failures, other versions and the reference."""
    found = flowing(text(calm()))
    assert (
        "Tagger, version 0123456789ab: 5,000 rows from 2026-01-02 03:04 to 2026-01-07 03:04 UTC"
        in (found)
    )
    assert "Labelled: 1,400; 3 of the labels name a class that the model does not have" in found
    assert "Failed: 10. Left out, of other versions: 312 rows." in found
    assert "latest 1,000 rows are compared with 309 held-out rows of its calibration." in found


def test_an_introduction_leaves_out_what_there_was_not() -> None:
    """Without strange labels and other versions, nothing is said of them."""
    found = flowing(text(calm(others=0, findings=replace(calm().findings, unknown_labels=0))))
    assert "Labelled: 1,400. Failed: 10. The latest" in found


def test_an_account_without_rows_says_so() -> None:
    """There is no time to name."""
    nothing = replace(silent(), findings=replace(silent().findings, rows=0), windows=())
    assert text(nothing).startswith("Tagger, version not known: no rows are on record.")


def test_a_promise_stands_beside_what_was_observed() -> None:
    """Of all rows and of the latest, each with its interval, and the verdict."""
    found = text(shifted())
    lines = found.splitlines()
    after = lines[next(i for i, line in enumerate(lines) if line.startswith("1. Precision")) + 1]
    assert "at least 95% 90.9% 89.1% to 92.5% 1,190 87.1% 84.9% to 89.1% 1,000 broken" == flowing(
        after
    )
    assert "at most 2% 1.4% 1.1% to 1.8% 4,990 1.5% 0.8% to 2.5% 1,000 holds" in flowing(found)
    assert "Not judged: Threshold(0.5)." in found


@pytest.mark.parametrize(
    ("whole", "recent", "given", "verdict"),
    [
        (observed(480, 500), observed(96, 100), {}, "holds"),
        (observed(475, 500), observed(95, 100), {}, "holds"),
        (observed(490, 500), observed(94, 100), {}, "not known yet"),
        (observed(470, 500), observed(96, 100), {}, "not known yet"),
        (observed(49, 49), observed(49, 49), {}, "not known yet"),
        (observed(0, 0), observed(0, 0), {}, "not known yet"),
        (observed(480, 500), observed(60, 100), {"is_broken": True}, "broken"),
        (observed(9, 500), observed(2, 100), {"promised": 0.02, "is_least": False}, "holds"),
        (observed(11, 500), observed(2, 100), {"promised": 0.02, "is_least": False},
         "not known yet"),
    ],
)  # fmt: skip
def test_a_promise_holds_only_where_enough_rows_say_so(
    whole: Observed, recent: Observed, given: dict[str, Any], verdict: str
) -> None:
    """Too few rows, or a miss that may be chance, are not known yet."""
    assert cells_of("1. Precision", text(with_promise(whole, recent, **given))).endswith(verdict)


def test_answers_are_counted_with_what_withheld_them() -> None:
    """Right, answered and novel ones, each with counts, and the policies by name."""
    found = text(calm())
    assert "97.1% 95.9% to 97.9% 1,155 of 1,190" == cells_of("right, of labelled answers", found)
    assert "77.5% 76.3% to 78.6% 3,867 of 4,990" == cells_of("answered", found)
    assert "1.4% 1.1% to 1.8% 71 of 4,990" == cells_of("withheld as novel", found)
    assert "Withheld by: Precision 1,052, Novelty 71." in found


def test_confidence_stands_beside_what_is_right() -> None:
    """Their gap, that of the reference, and the calibration error with its interval."""
    honest = Honest(812, 0.913, 0.842, Estimate(0.071, 0.05, 0.1), (), -0.0123, 0.0004, True)
    found = text(with_findings(honest=honest))
    assert "812 91.3% 84.2% +0.071 -0.012 < 0.001 0.071 0.050 to 0.100 alarm" == cells_of(
        "labelled", found
    )
    unknown = replace(honest, reference_gap=None, p_value=None, is_alarm=False)
    assert cells_of("labelled", text(with_findings(honest=unknown))).endswith(
        "+0.071 - - 0.071 0.050 to 0.100 not known yet"
    )


def test_drift_is_told_for_each_respect() -> None:
    """Both distances, chance and verdict."""
    found = text(shifted())
    assert "0.43 0.27 < 0.001 alarm" == cells_of("classes", found)
    assert "0.03 0.06 0.432 no alarm" == cells_of("text length", found)


def test_shares_are_shown_of_classes_and_of_what_raises_an_alarm() -> None:
    """Ranges of text length, which has not drifted, are left to the pictures."""
    found = text(shifted())
    assert "42.0% 19.0% -23.0" == cells_of("computer-vision", found)
    assert "34.0% 51.0% +17.0" == cells_of("up to 0.62", found)
    assert "41 to 118" not in found
    assert "up to 0.62" not in text(calm())


def test_the_rarest_classes_stand_together() -> None:
    """Twelve lines at most; their shares still add up."""
    names = [f"class {i}" for i in range(30)]
    before = [0.3, *[0.025] * 28, 0.0]
    after = [0.2, *[0.025] * 28, 0.1]
    found = text(with_findings(drifted=(drifted("classes", names, before, after),)))
    lines = [line for line in found.splitlines() if line.startswith("class ")]
    assert 11 == len(lines)
    assert "0% 10.0% +10.0" == cells_of("class 29", found)
    assert "47.5% 47.5% +0.0" == cells_of("(19 others)", found)


def test_each_window_of_time_has_a_line() -> None:
    """From its first row on; a dash where nothing is known."""
    found = text(silent())
    assert "3 0 100% - - 0 - 0% -" == cells_of("2026-01-02 03:04", found)
    one = replace(window(0, False), right=observed(59, 60), confidence=0.914, psi=1.234)
    cells = cells_of("2026-01-02 03:04", text(calm(windows=[one])))
    assert cells.startswith("250 0 ")
    assert "98.3% 91.1% to 99.9% 60 91.4%" in cells
    assert cells.endswith(" 1.23")


def test_the_worst_parts_stand_beside_all_others() -> None:
    """Share, interval, rows, the others' share, chance, and whether it is real."""
    found = text(shifted())
    assert "68.8% 60.5% to 76.3% 141 95.7% < 0.001 real" == cells_of(
        "source: mobile app, version 7", found
    )
    assert cells_of("text length: below 60", found).endswith("0.679 may be chance")
    assert "looked at: 31. Certain to be right less often than all others: 2." in flowing(found)


def test_parts_say_how_to_look_at_columns() -> None:
    """Only where inputs were not kept."""
    assert "record_inputs: true keeps them" in flowing(text(calm()))
    assert "record_inputs" not in text(shifted())


def test_parts_that_are_not_among_the_worst_are_counted() -> None:
    """Twelve have a line, or all that are real if those are more."""
    many = [part("word", f"w{i}", 20, 40) for i in range(20)]
    found = text(calm(parts=many))
    assert 12 == found.count("may be chance")
    assert "8 that are better are not shown." in flowing(found)
    real = [replace(one, is_real=True) for one in many[:15]]
    found = text(calm(parts=[*real, *many[15:]]))
    assert "word: w14" in found
    assert "word: w15" not in found


def test_alarms_stand_last_by_name_and_message() -> None:
    """There a person looks first; all of them are named."""
    last = flowing(text(shifted()).split("\n\n")[-1])
    assert last.startswith("3 alarms: - precision: Precision(precision=0.95")
    assert "871 of the latest 1,000 labelled answers are right (87.1%); at least 95.0% were" in last
    assert "- drift_classes: The classes of the latest 1,000 rows" in last
    assert "No alarm" not in text(shifted())


def test_without_alarm_the_last_paragraph_says_what_was_looked_at() -> None:
    """Promises that hold, drift and confidence."""
    assert [
        "No alarm: 2 of 2 promises hold; no drift beyond chance that matters (classes, "
        "confidence); no such change of how honest confidence is."
    ] == conclusion(calm())


def test_a_report_with_too_few_labels_says_so() -> None:
    """A service without alarm is not yet a service that is right."""
    few = calm(precision=observed(12, 12))
    assert "Nothing is known yet of whether answers are right: labelled answers: 12" in flowing(
        text(few)
    )
    assert "Nothing is known yet" not in text(calm())


def test_an_account_that_says_nothing_is_no_good_news() -> None:
    """Without labels, promises and reference it says so for each."""
    said = conclusion(silent())
    assert "No alarm, but nothing is known yet that could raise one." == said[0]
    assert "Nothing is known yet of whether answers are right" in said[1]
    assert "salver feedback" in said[1]
    assert "Nothing is known yet of drift: there are no held-out rows" in said[2]
    assert "salver calibrate" in said[2]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (with_findings(honest=None), "how honest confidence is: no labelled row has a confidence"),
        (with_promise(observed(3, 3), observed(3, 3)), "1 promise: too few rows"),
        (with_findings(drifted=(), recent_rows=31),
         "drift: rows: 31, held-out rows: 309, and 50 of each are needed"),
    ],
)  # fmt: skip
def test_what_is_not_known_yet_is_said_with_the_reason(given: Report, why: str) -> None:
    """Nobody has to find a dash in a table."""
    assert f"Nothing is known yet of {why}" in flowing(text(given))


def test_what_there_are_no_numbers_for_has_no_table() -> None:
    """A head without lines says nothing."""
    nothing = replace(silent(), windows=(), answered=observed(0, 0), novel=observed(0, 0))
    assert "---" not in text(nothing)


@pytest.mark.parametrize("name", ["a", "x" * 60, "long name " * 40])
def test_no_line_of_an_account_is_wider_than_the_terminal(name: str) -> None:
    """Whatever policies, classes, columns and deployments are called, and however many rows."""
    many = observed(199_990, 200_000)
    long = shifted(
        deployment=name,
        policies=(name, "b" + name),
        store=name,
        reference=name,
        reasons={name: 200_000},
        precision=many,
        answered=many,
        windows=[replace(window(0, False), rows=100_000, failed=10_000, right=many, psi=12.34)],
        parts=(part(name, name, 199_990, 200_000),),
    )
    held = Held(name, "precision", 0.999, True, many, many, False)
    respects = drifted(name, (name, "b"), (0.5, 0.5), (0.5, 0.5), psi=12.34, is_alarm=True)
    honest = Honest(200_000, 0.9, 0.9, Estimate(0.1, 0.1, 0.1), (), 0.1, None, False)
    alarms = (Alarm(name, name),)
    findings = replace(
        long.findings, held=(held,), drifted=(respects,), honest=honest, alarms=alarms
    )
    assert WIDTH >= max(map(len, text(replace(long, findings=findings)).splitlines()))


def test_names_of_an_account_cannot_steer_the_terminal() -> None:
    """Columns, classes and values come from whoever asks the service."""
    found = text(hostile())
    assert not [c for c in found.replace("\n", "") if not c.isprintable()]
    assert "1. [31m red</td>" in found
    assert "[31m red</td><script>alert(1)</script>: [31m red" in flowing(found)
