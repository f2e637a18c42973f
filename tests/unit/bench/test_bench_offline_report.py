"""The offline section comes from the results file alone."""

from __future__ import annotations

import json

import pytest

from bench import report
from bench.goals import offline_goals
from bench.offline_results import Outcome, summary

# rows/s over the whole job, and peak MB
JOBS = {
    "bare-threads": (200, 300),
    "salver": (196, 400),
    "salver (A/A)": (198, 400),
    "ray-data-lesson": (40, 2000),
}
GROWTH = {100_000: (5_000, 200), 1_000_000: (6_000, 230)}


@pytest.fixture(scope="module")
def offline():
    outcomes = []
    for number in (1, 2):
        for system, (rate, memory) in JOBS.items():
            outcomes.append(Outcome(number, system, "minilm", 16, 2.0, memory))
            outcomes.append(Outcome(number, system, "minilm", 4000, 4000 / rate, memory))
        outcomes.append(Outcome(number, "salver", "constant", 16, 1.0, 150))
        outcomes.append(Outcome(number, "pandas", "minilm", 16, 1.0, 150))
        for rows, (rate, memory) in GROWTH.items():
            outcomes.append(Outcome(number, "salver", "constant", rows, rows / rate, memory))
        outcomes.append(Outcome(number, "pandas", "minilm", 4000, refused="out of memory"))
    titles = {name: name.title() for name in [*JOBS, "pandas"]}
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"salver": "0.1.0"},
        "settings": {
            "rounds": 2,
            "start_rows": 16,
            "systems": {
                name: {"title": title, "workers x threads": "2 x 1", "note": f"note of {name}"}
                for name, title in titles.items()
            },
        },
        **summary(outcomes, 16, ["bare-threads"], {"salver": "0.1.0"}),
    }


def test_each_job_has_a_row_and_the_refused_a_reason(offline):
    """Rows/s of the whole job, its share of the bare loop, and what could not be measured."""
    page = report.text({"offline": offline})
    row = next(line for line in page.splitlines() if line.startswith("| **Salver** | 4,000"))
    assert "| 196 |" in row
    assert "| 0.98 |" in row
    assert "- Pandas: **refused**: out of memory (round 1)" in page
    assert "Salver (A/A) | 4,000" not in page


def test_the_promises_about_files_are_held_against_the_numbers(offline):
    """Against the bare loop and a rival, and from a file to one ten times as long."""
    met = {goal.what: (goal.measured, goal.met) for goal in offline_goals(offline)}
    assert met == {
        "offline, minilm, 4,000 rows: rows/s / those of the bare sorted loop": ("0.98", True),
        "offline, minilm, 4,000 rows: rows/s / those of ray-data-lesson": ("4.90", True),
        "offline, constant, 1,000,000 rows / 100,000 rows: peak memory": ("1.15", False),
        "offline, constant, 1,000,000 rows / 100,000 rows: rows/s": ("1.20", True),
    }


def test_the_pictures_of_the_section_are_written(offline, tmp_path):
    """One of the file, one of the growing files; the page shows both."""
    results = tmp_path / "latest.json"
    results.write_text(json.dumps({"offline": offline}), "utf-8")
    page = report.write(results, tmp_path).read_text("utf-8")
    for name in ("offline-minilm.png", "offline-constant.png"):
        assert f"benchmarks/{name}" in page
        assert (tmp_path / "benchmarks" / name).stat().st_size > 1000
