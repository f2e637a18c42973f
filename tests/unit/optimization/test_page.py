"""The report as a page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from optimization.reports import BF16, FAILED, FP32, INT8, fidelity, report, with_labels
from reports.pages import Page
from salver.optimization.page import MEANINGS, html
from salver.optimization.table import COLUMNS, lines, verdict


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html(with_labels()))


def test_the_page_stands_alone(page: Page) -> None:
    """It has no script and asks for nothing: addresses in it lead to places of the page itself."""
    assert page.stands_alone
    assert "default-src 'none'" in page.source


def test_the_numbers_are_those_of_the_table(page: Page) -> None:
    """Each cell of each line, and the conclusion."""
    found = with_labels()
    expected = [
        cell
        for one in lines(found)
        for cell in (verdict(found, one), *(column.cell(one) for column in COLUMNS))
        if cell
    ]
    assert expected == page.cells[: len(expected)]
    assert "From now on Tagger uses openvino-bf16, 2.41x" in page.text
    assert "0.871 to 0.915" in page.cells


def test_each_column_is_explained(page: Page) -> None:
    """There is a sentence for each, and none for what is no column."""
    assert ["verdict", *(column.name for column in COLUMNS)] == list(MEANINGS)
    assert all(meaning in page.text for meaning in MEANINGS.values())


def test_gate_reasons_machine_and_time_are_there(page: Page) -> None:
    """What people ask who were not there."""
    assert "What the gate 'lossless' allows" in page.text
    assert "up to 0.0005" in page.text
    assert "onnxruntime-int8-dynamic: refused: mean difference 0.01 > 0.0005" in page.text
    assert "openvino-int8: failed: nncf not installed" in page.text
    assert "Some CPU @ 2.5 GHz" in page.text
    assert "2026-01-02T03:04:05+00:00" in page.text


def test_pictures_say_what_they_show(page: Page) -> None:
    """Three, each with a title and a description for those who do not see it."""
    assert 3 == page.elements["svg"]
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert ["Rows per second", "How many rows", "Speed in batches"] == [
        " ".join(label.split()[:3]) for label in labels
    ]
    assert 4 == page.elements["title"]  # the page has one, too


def test_verdicts_in_pictures_are_words(page: Page) -> None:
    """Those who cannot tell the colours read the same."""
    for name in ("openvino-fp32 (passes)", "openvino-bf16 (in use)", f"{INT8.name} (refused)"):
        assert 2 == page.text.count(name)  # of bars and curves
    assert "2.41x in batches" in page.text


def test_lines_of_pictures_have_the_colour_of_the_text() -> None:
    """On dark ground as on light, neither black nor white nor the placeholder is drawn."""
    found = html(report())
    pictures = found[found.index("<svg") : found.rindex("</svg>")]
    assert "currentColor" in pictures
    assert not re.search(r"#000000|#ffffff|#123456|: (?:black|white)", pictures)
    assert "prefers-color-scheme: dark" in found


def test_no_two_places_of_the_page_have_one_name(page: Page) -> None:
    """Each picture numbers its parts by itself, but they share the page."""
    names = Counter(value for name, value in page.attributes if name == "id")
    assert [] == [name for name, count in names.items() if count > 1]
    used = {value[1:] for name, value in page.attributes if name.endswith("href")}
    assert used
    assert used <= set(names)


def test_texts_from_elsewhere_are_no_elements() -> None:
    """Names, reasons and versions can hold anything, formulas of pictures too."""
    evil = "--><script>'$x_1$'</script><b x=\""
    found = report(
        replace(BF16, name=evil, precision=evil),
        replace(INT8, name=evil * 2, refused=(evil,)),
        replace(FAILED, trouble=evil),
        target=evil,
        deployment=evil,
        checkpoint=evil,
        gate=replace(report().gate, name=evil),
        label=evil,
        machine={evil: evil},
        made_at=evil,
        digest=evil,
        chosen=evil,
    )
    page = Page(html(found))
    assert not {"script", "b"} & set(page.elements)
    assert f"{evil} (in use)" in page.text


def test_what_did_not_run_is_not_drawn() -> None:
    """Without any candidate that ran there is a sentence in place of the pictures."""
    found = Page(html(report(FAILED, chosen=None)))
    assert 0 == found.elements["svg"]
    assert "there is nothing to draw" in found.text
    assert "The original stays in use: no candidate passes the gate (1 tried)." in found.text


def test_answers_of_another_shape_are_not_drawn() -> None:
    """Their difference is infinite, for which an axis has no place; the table says so."""
    other = fidelity(0.0, mean=np.inf, differences=np.full(1000, np.inf))
    found = Page(html(report(BF16, replace(INT8, fidelity=other))))
    assert "inf" in found.cells
    assert "openvino-bf16 (in use)" in found.text
    assert f"{INT8.name} (refused)" not in found.text


def test_candidates_without_any_difference_can_be_drawn() -> None:
    """A logarithmic axis has no zero: the legend says it in words."""
    found = Page(html(report(replace(FP32, fidelity=fidelity(0.0)), chosen=None)))
    assert 3 == found.elements["svg"]
    assert "openvino-fp32 (passes): no difference" in found.text


@pytest.mark.filterwarnings("error")
def test_a_long_name_leaves_room_for_the_pictures() -> None:
    """It is cut there; the table has all of it."""
    found = Page(html(report(replace(BF16, name="x" * 300), chosen=None)))
    assert "x" * 300 in found.text
    assert f" {'x' * 35}… (passes)" in found.text


def test_the_same_report_gives_the_same_bytes() -> None:
    """No clock and no chance is in the pictures."""
    assert html(report()) == html(report())
