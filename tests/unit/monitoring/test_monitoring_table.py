"""The live account for a terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.monitoring_reports import (
    calm,
    drifted,
    hostile,
    observed,
    part,
    shifted,
    silent,
    window,
    with_findings,
    with_promise,
)
from salver.account.results import Alarm, Held, Honest, Observed, Report
from salver.monitoring.table import UNKNOWN, conclusion, text, verdict
from salver.reports.terminal import WIDTH
from salver.trust.quality import Estimate


def flowing(found: str) -> str:
    """The report without its line ends, in which sentences can be looked for."""
    return " ".join(found.split())


def cells_of(name: str, found: str) -> str:
    """The cells of the first line that begins so, without the name."""
    line = next(line for line in found.splitlines() if line.startswith(name))
    return flowing(line.removeprefix(name))


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


def test_a_report_of_a_part_of_the_rows_says_so() -> None:
    """It looks at the latest rows, and says of how many."""
    found = flowing(text(calm(known=734_112)))
    assert "the latest 5,000 of 734,112 rows from 2026-01-02 03:04" in found


def test_a_promise_that_is_kept_on_average_holds_where_chance_allows_it() -> None:
    """A share a little beyond it is as usual, and one far beyond is not known yet."""
    one = replace(
        calm().findings.held[0],
        about="novelty",
        promised=0.02,
        is_least=False,
        is_broken=False,
        whole=observed(115, 5000),
        recent=observed(24, 1000),
        is_average=True,
    )
    assert verdict(replace(one, p_value=0.3)) == "holds"
    assert verdict(replace(one, p_value=0.01)) == UNKNOWN


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
    assert "looked at: 31. Right less often than all others beyond chance: 2." in flowing(found)


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
