"""The report for a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimization.reports import BF16, FAILED, FP32, INT8, fidelity, judged, report, with_labels
from salver.optimization.results import Report
from salver.optimization.table import text
from salver.reports.terminal import WIDTH


def line_of(name: str, found: str) -> list[str]:
    """The cells of the first line that begins so."""
    return next(line for line in found.splitlines() if line.startswith(f"{name} ")).split()


def flowing(found: str) -> str:
    """The report without its line ends, in which sentences can be looked for."""
    return " ".join(found.split())


def test_every_number_of_a_candidate_stands_in_its_line() -> None:
    """Precision, ratios, times, memory, fidelity, movement with batch mates, and the verdict."""
    expected = "bf16 1.87x 2.41x 11.9 6.53 978 99.90% 2.1e-4 0.0066 0 0.10% 0.0031 in use"
    assert expected.split() == line_of("openvino-bf16", text(report()))[1:]


def test_the_original_has_a_line_against_itself() -> None:
    """Its numbers show what no candidate can do better than."""
    expected = "- 1.00x 1.00x 22.2 3.21 1,234 100% 0 0 0 0% 2.1e-7"
    assert expected.split() == line_of("original", text(report()))[1:]


def test_a_candidate_that_failed_has_no_numbers() -> None:
    """Only a dash in each column."""
    assert ["-"] * 12 + ["failed"] == line_of("openvino-int8", text(report()))[1:]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("openvino-bf16", "in use"),
        ("openvino-fp32", "passes"),
        ("onnxruntime-int8-dynamic", "refused"),
        ("openvino-int8", "failed"),
    ],
)
def test_each_candidate_has_a_verdict(name: str, verdict: str) -> None:
    """One of four."""
    assert " ".join(line_of(name, text(report()))).endswith(verdict)


def test_the_head_says_what_was_measured_on_what() -> None:
    """Model, rows of the gate and of the calibration, and the limits in words."""
    found = flowing(text(report()))
    assert "(deployment Tagger, checkpoint models:/tagger@champion) answers 45.1 rows/s" in found
    assert "judged on 1,000 rows. 128 other rows were for the calibration of int8." in found
    assert "The gate 'lossless' allows: mean difference: up to 0.0005; 99th percentile" in found
    assert "other decisions: up to 1%; flips where the margin was above 0.1: none" in found


def test_the_head_counts_rows_that_do_not_fit_the_input() -> None:
    """Beside those that candidates were judged on, with labels or without."""
    assert "judged on 1,000 rows; 1,234 more do not fit the input. 128 other" in flowing(
        text(report(unfit=1234))
    )
    found = flowing(text(replace(with_labels(), unfit=2)))
    assert "whose true classes stand in 'tag'; 2 more do not fit the input. 128 other" in found
    assert "do not fit" not in text(report())


def test_what_was_refused_or_failed_says_why() -> None:
    """All reasons of one candidate stand together."""
    found = flowing(text(report()))
    assert "onnxruntime-int8-dynamic: refused: mean difference 0.01 > 0.0005; 99th" in found
    assert "3 labels flip where the margin was above 0.1 (up to 0.62)" in found
    assert "openvino-int8: failed: nncf not installed" in found
    assert "openvino-fp32: " not in found


def test_the_control_says_how_far_noise_reaches() -> None:
    """The original was measured against itself, as candidates were."""
    assert "The original against itself, measured in the same way: 1.03x, so" in text(
        report(control=1.03)
    )


def test_a_busy_machine_is_said() -> None:
    """Where the original is far from itself, no ratio is worth much."""
    assert "run it again" in text(report(control=0.5))
    assert "run it again" not in text(report(control=1.05))


@pytest.mark.parametrize(
    ("mates", "flips", "said"),
    [
        (0.0, 0, "do not depend on batch size, batch mates or padding."),
        (2.1e-7, 0, "depend on batch size, batch mates or padding: by up to 2.1e-7, which changes"
                    " no label."),
        (0.05, 3, "depend on batch size, batch mates or padding: by up to 0.0500, which changes 3"
                  " of 1,000 labels."),
    ],
)  # fmt: skip
def test_it_says_whether_answers_depend_on_the_batch(mates: float, flips: int, said: str) -> None:
    """Of the original, whose fault it is not that of a candidate, and of the chosen."""
    moved = fidelity(0.0, mates=mates, mates_flips=flips)
    found = flowing(text(report(replace(BF16, fidelity=moved), steady=moved)))
    assert f"The original's answers {said}" in found
    assert f"The answers of openvino-bf16 {said}" in found


def test_the_last_line_says_what_is_used() -> None:
    """The chosen candidate and what it gains."""
    expected = (
        "From now on Tagger uses openvino-bf16, 2.41x the rows/s in batches and 1.87x one row"
    )
    assert text(report()).splitlines()[-1].startswith(expected)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (report(INT8, FAILED, chosen=None), "no candidate passes the gate (2 tried)."),
        (replace(report(), candidates=(), chosen=None), "there was no candidate to try."),
        (
            report(judged("openvino-fp32", 1.0, 0.99, fidelity(0.0)), INT8, chosen=None),
            "what passes gains too little: openvino-fp32, 1.00x the rows/s in batches and 0.99x "
            "one row at a time.",
        ),
    ],
)
def test_the_last_line_says_why_the_original_stays(found: Report, why: str) -> None:
    """Nothing was tried, nothing passes, or what passes is no faster."""
    shown = text(found)
    assert flowing(shown).endswith(f"The original stays in use: {why}")
    assert line_of("original", shown)[-2:] == ["in", "use"]


def test_a_variant_of_an_earlier_run_may_stay() -> None:
    """Where this one did not measure it, and found nothing better."""
    shown = text(report(INT8, chosen=None, stays="openvino-fp32"))
    assert "openvino-fp32, which an earlier run chose and this one did not measure, stays" in (
        flowing(shown)
    )
    assert line_of("original", shown)[-2:] != ["in", "use"]


def test_where_labels_are_known_quality_is_shown() -> None:
    """Accuracy, F1 with its interval and calibration error, of the original and each candidate."""
    found = text(with_labels())
    table = found[found.index("quality ") :]
    assert ["0.912", "0.894", "0.871", "to", "0.915", "0.031"] == line_of("original", table)[1:]
    assert ["0.871", "0.842", "0.815", "to", "0.866", "0.052"] == line_of(INT8.name, table)[1:]
    assert "macro F1 0.842 is below the original's interval" in flowing(found)
    assert "macro F1: not below the original's 95% interval" in flowing(found)


def test_without_labels_there_is_no_word_of_quality() -> None:
    """Neither a table nor a limit."""
    assert "F1" not in text(report())


@pytest.mark.parametrize("name", ["openvino-fp32", "own:" + "a-very-long-name-" * 4, "x" * 300])
def test_no_line_is_too_wide(name: str) -> None:
    """A name that is too long has a line for itself, its numbers stand below it."""
    failed = replace(FAILED, trouble="no " * 1000)
    lines = text(report(replace(INT8, name=name), BF16, failed)).splitlines()
    assert WIDTH >= max(map(len, lines))
    assert any(line.endswith("1.66x 1.52x 13.4 6.53   978 95.70% 0.0100 0.3006     3  3.10% 0.1210"
                             " refused") for line in lines)  # fmt: skip


def test_shares_are_not_rounded_to_all_or_nothing() -> None:
    """One row of a hundred thousand is neither 100% nor 0%."""
    found = fidelity(0.0, agreement=0.99999, decisions=0.00001)
    cells = line_of("openvino-fp32", text(report(replace(FP32, fidelity=found))))
    assert {"99.99%", "0.01%"} <= set(cells)


def test_texts_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Errors of libraries come with colours and line ends of their own."""
    found = text(report(replace(FAILED, trouble="\x1b[31mdoes not\nrun\x1b[0m"), chosen=None))
    assert "\x1b" not in found
    assert "openvino-int8: failed: [31mdoes not run [0m" in found


def test_ratios_of_a_busy_machine_are_said_to_be_noise() -> None:
    """By the name of the candidate; nothing is said where it was quiet."""
    usual = report().original.batched
    quiet, busy = replace(INT8, beside=usual), replace(FP32, beside=usual / 2)
    shown = flowing(text(report(busy, quiet, chosen=None)))
    assert "while these were measured: openvino-fp32." in shown
    assert "busy" not in text(report(replace(FP32, beside=usual), quiet, chosen=None))
    shown = flowing(text(report(replace(FP32, beside=usual * 2), chosen=None)))
    assert "while these were measured: original." in shown
