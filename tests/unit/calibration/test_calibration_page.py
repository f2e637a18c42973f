"""The report on confidence as a page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from calibration.calibration_reports import (
    ATTEMPTS,
    BROKEN,
    FIXED,
    noise,
    report,
    unmended,
    without_labels,
    without_probabilities,
    without_texts,
)
from reports.pages import Page
from salver.calibration.page import html, meanings
from salver.calibration.pictures import curve
from salver.calibration.results import Report
from salver.calibration.table import attempts, conclusion, honesty, novelties, policies
from salver.trust.quality import Estimate, reliability

PICTURES = ["Is confidence honest?", "Precision against share answered.", "How novel rows are."]


def pictures_of(page: Page) -> list[str]:
    """The pictures, by the beginning of what is said of them."""
    labels = [value for name, value in page.attributes if name == "aria-label"]
    return [name for label in labels for name in PICTURES if label.startswith(name)]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html(report()))


def test_the_page_of_confidence_stands_alone(page: Page) -> None:
    """It has no script and asks for nothing from elsewhere."""
    assert page.stands_alone
    assert "default-src 'none'" in page.source


def test_the_numbers_are_those_of_the_terminal(page: Page) -> None:
    """Each cell of each table, and the conclusion."""
    tables = [make(report()) for make in (honesty, attempts, policies, novelties)]
    expected = [cell for one in tables if one for _, *cells in one.rows for cell in cells]
    assert expected == page.cells
    assert "0.061 to 0.103" in page.cells
    assert "368 of 381" in page.cells
    assert conclusion(report()) in page.text
    assert 1 == page.source.count("<tr class=used>")  # the calibrator in use


def test_every_number_is_explained(page: Page) -> None:
    """What stands in a head or at the side has a sentence."""
    said = ", ".join(meanings(report()))
    for name in ("calibration error", "Brier score", "log loss, nats", "accuracy", "gain, nats",
                 "verdict", "answered", "right", "right of given", "in the set", "set size",
                 "novelty", "AUROC", "95% interval", "median to largest", "withheld"):  # fmt: skip
        assert name in said
    assert all(meaning in page.text for meaning in meanings(report()).values())


def test_what_is_not_shown_is_not_explained() -> None:
    """A report without labels says nothing of Brier scores, one of tables nothing of strings."""
    assert not {"Brier score", "right", "gain, nats", "set size"} & set(meanings(without_labels()))
    assert not {"AUROC", "random strings"} & set(meanings(without_texts()))
    assert "set size" not in meanings(report(policies=(FIXED,)))


@pytest.mark.parametrize(
    ("given", "drawn", "said"),
    [
        (report(), PICTURES, "97.3% of 1,000 random strings"),
        (unmended(), PICTURES, "As nothing is calibrated"),
        (without_texts(), PICTURES, "Random strings were not asked"),
        (without_labels(), PICTURES[2:], "The rows have no true classes (--label)"),
        (without_probabilities(), PICTURES[2:], "The model gives no probabilities"),
        (replace(without_labels(), novelty="", novelties=(), strange=()), [],
         "There is no novelty score"),
    ],
)  # fmt: skip
def test_what_there_is_no_data_for_is_not_drawn(given: Report, drawn: list[str], said: str) -> None:
    """A sentence says why; without any picture there is no head for them."""
    found = Page(html(given))
    assert drawn == pictures_of(found)
    assert len(drawn) == found.elements["svg"]
    assert said in found.text
    assert ("Pictures" in found.words) == bool(drawn)


def test_the_reliability_diagram_counts_the_rows_of_each_bin(page: Page) -> None:
    """Before and after; bins that are empty have no number."""
    given = report()
    counts = Counter(page.words)
    bins = [*given.reliability_before, *given.reliability_after]
    assert all(counts[f"{one.count:,}"] for one in bins)
    assert counts["its own probability"] == counts["calibrated (temperature)"] == 1


def test_a_model_that_is_not_calibrated_has_one_line() -> None:
    """A second would lie upon it."""
    found = Page(html(unmended()))
    assert "its own probability" in found.words
    assert not [word for word in found.words if word.startswith("calibrated (")]


def test_policies_are_marked_by_their_numbers() -> None:
    """Those that can be kept; one that cannot has no place in the picture."""
    found = Page(html(report(policies=(BROKEN, FIXED))))
    counts = Counter(found.words)
    assert counts["2"]
    assert 2 == counts["2. Threshold(0.9)"]  # of the table and the picture
    assert 1 == counts["1. Precision(precision=0.999, otherwise=None)"]
    assert "Marks are policies" in found.text
    assert "Marks are policies" not in Page(html(report(policies=(BROKEN,)))).text


def test_a_policy_that_answers_nothing_is_not_marked() -> None:
    """Of no answers there is no share that is right."""
    silent = replace(FIXED, answered=Estimate(0.0, 0.0, 0.006), precision=None, right=0, given=0)
    found = Page(html(report(policies=(silent,))))
    assert 1 == Counter(found.words)["1. Threshold(0.9)"]
    assert PICTURES == pictures_of(found)


def test_the_curve_goes_through_what_each_limit_gives() -> None:
    """All rows answered give the accuracy; rows of one confidence are answered together."""
    shares, precision, low, high = curve([0.5, 0.9, 0.9, 0.99], [False, True, False, True])
    np.testing.assert_allclose(shares, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(precision, [1.0, 2 / 3, 0.5])
    # Of 2 right ones in 4, as Wilson (1927) has it.
    np.testing.assert_allclose([low[-1], high[-1]], [0.15004, 0.84996], atol=1e-4)
    assert (low <= precision).all()
    assert (precision <= high).all()


@pytest.mark.parametrize(
    ("novelties_", "strange", "is_logarithmic"),
    [
        ([0.5, 1.0, 2.0], [3.0], False),
        ([0.5, 1.0, 2.0], [30.0], True),
        ([0.0] * 50 + [0.5] * 50, [np.inf, 1e6], True),
        ([1.0] * 9, [1.0] * 9, False),
        ([-2.0, 1.0], [30.0], False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_novelty_of_any_reach_can_be_drawn(
    novelties_: list[float], strange: list[float], is_logarithmic: bool
) -> None:
    """On a logarithmic axis where it spans much."""
    found = Page(html(report(novelties=novelties_, strange=(noise(strange),))))
    assert PICTURES == pictures_of(found)
    assert ("novelty (logarithmic)" in found.words) == is_logarithmic


@pytest.mark.filterwarnings("error")
def test_a_model_that_is_always_sure_and_right_can_be_drawn() -> None:
    """All rows have one confidence, so the curve is one point."""
    bins = reliability(np.ones(60), np.ones(60, dtype=bool))
    given = report(
        confidences=[1.0] * 60, rights=[True] * 60, reliability_before=bins, reliability_after=bins
    )
    assert PICTURES == pictures_of(Page(html(given)))


def test_names_of_parts_of_pictures_are_unique(page: Page) -> None:
    """Each picture numbers its parts by itself, but they share the page."""
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    assert {value[1:] for name, value in page.attributes if name.endswith("href")} <= set(names)


def test_pictures_of_confidence_have_the_colour_of_the_text(page: Page) -> None:
    """They can be read on light and on dark ground."""
    pictures = page.source[page.source.index("<svg") : page.source.rindex("</svg>")]
    assert "currentColor" in pictures
    assert not re.search(r"#000000|#ffffff|#123456|: (?:black|white)", pictures)


def test_hostile_names_are_no_elements() -> None:
    """Names of policies, models, calibrators and columns can hold anything."""
    evil = "--><script>'$x_1$'</script><b x=\""
    given = report(
        target=evil,
        deployment=evil,
        checkpoint=evil,
        digest=evil,
        variant=evil,
        label=evil,
        calibrator=evil,
        note=evil,
        attempts=(replace(ATTEMPTS[0], name=evil),),
        policies=(replace(FIXED, name=evil), replace(BROKEN, name=evil, trouble=evil)),
        novelty=evil,
        made_at=evil,
    )
    found = Page(html(given))
    assert not {"script", "b"} & set(found.elements)
    assert found.stands_alone
    assert f"1. {evil}" in found.words
    assert f"How far to believe {evil}" in found.words


def test_a_report_gives_the_same_page_each_time() -> None:
    """No clock and no chance is in it."""
    assert html(report()) == html(report())
