"""The page and its pictures come from the results file alone."""

from __future__ import annotations

import json

import pytest

from bench import report
from bench.results import Collected, Loop, Sample, Stay, online
from bench.tables import decimals, table, whole

RATES = {"bare-uvicorn": 10_000, "salver": 8_000, "salver (A/A)": 8_080, "litserve": 500}


def a_run(rounds=2):
    collected = Collected()
    for number in range(1, rounds + 1):
        for system, rate in RATES.items():
            collected.stays.append(Stay(number, system, "constant", 1.5, 50.0, 60.0, 2, 1))
            for n in (1, 16, 64, 256):
                collected.samples.append(
                    Sample(number, system, "constant", n, rate, n * 0.1, n * 0.3, 0, 0.08, 0.01)
                )
        collected.stays.append(Stay(number, "triton", "constant", refused="not installed: x | y"))
        collected.stays.append(Stay(number, "salver", "minilm", 2.0, 400.0, 420.0, 2, 1))
        collected.samples.append(Sample(number, "salver", "minilm", 64, 190, 300, 600, 0, 9, 0.0))
        collected.loops.append(Loop(number, "minilm", 2, 1, 8, 200.0, 9.0, 1.0, 300.0, 310.0))
    titles = {name: name.title() for name in [*RATES, "triton"]}
    head = {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "cores": "2"},
        "versions": {"salver": "0.1.0"},
        "settings": {
            "rounds": 5,
            "systems": {n: {"title": t, "note": f"note of {n}"} for n, t in titles.items()},
        },
    }
    return head | online(collected, head["versions"])


@pytest.fixture(scope="module")
def page():
    return report.text({"online": a_run()})


def test_the_page_says_when_where_and_how(page):
    """Date, machine and the number of rounds, which an interrupted run has fewer of."""
    assert "2026-01-02" in page
    assert "a processor" in page
    assert "2 rounds of the 5 planned" in page


def test_numbers_stand_in_the_table_of_their_model(page):
    """Requests/s and the ratio to the bare limit at each load, Salver's name in bold."""
    row = next(line for line in page.splitlines() if line.startswith("| **Salver**"))
    assert "8,000/8,000/8,000/8,000" in row
    assert "0.80/0.80/0.80/0.80" in row


def test_a_refused_system_is_named_with_its_reason(page):
    """What could not be measured is no gap in the page."""
    assert "- Triton: **refused**: not installed: x | y (round 1)" in page


def test_promises_are_held_against_the_numbers(page):
    """Met and missed goals are both shown."""
    assert (
        "| constant, 64 connections: requests/s / those of litserve | at least 15 | 16.00 | met |"
        in page
    )
    row = next(line for line in page.splitlines() if "rows/s of the bare loop" in line)
    assert row.endswith("| at least 0.9 | 0.95 | met |")


def test_the_control_and_the_versions_are_printed(page):
    """A reader sees what a difference must exceed, and which versions were measured."""
    assert "| constant | 64 | 1.010 | 1.010 | 1.010 | 1.0 % |" in page
    assert "| Salver | 0.1.0 | 2 |" in page


def test_the_page_and_every_picture_it_shows_are_written(tmp_path):
    """No link of the page leads nowhere."""
    results = tmp_path / "latest.json"
    results.write_text(json.dumps({"online": a_run()}), "utf-8")
    page = report.write(results, tmp_path / "docs")
    linked = [
        line.split("(")[1].rstrip(")")
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("![")
    ]
    assert "benchmarks/constant-ratio.png" in linked
    assert all((tmp_path / "docs" / link).stat().st_size > 1000 for link in linked)


def test_without_measurements_there_is_no_report(tmp_path):
    """The error says how to get some."""
    with pytest.raises(report.NothingToReport, match="python -m bench"):
        report.write(tmp_path / "none.json", tmp_path)


def test_numbers_are_written_with_the_digits_that_mean_something():
    """Three of them, and thousands are set apart."""
    assert [decimals(x) for x in (1234.5, 123.4, 12.34, 1.234, 0.00123, None)] == [
        "1,234",
        "123",
        "12.3",
        "1.23",
        "0.001",
        "-",
    ]
    assert [whole(x) for x in (1234.5, 7.25)] == ["1,234", "7.25"]


def test_columns_of_numbers_stand_at_the_right():
    """Texts stand at the left; a bar in a cell does not end it."""
    assert table(["a", "b"], [["x|y", "1,234"], ["z", "-"]]).splitlines() == [
        "| a | b |",
        "| --- | --: |",
        "| x\\|y | 1,234 |",
        "| z | - |",
    ]
