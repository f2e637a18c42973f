"""The reliability diagram, of one series and of several."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from reports.pages import Page
from salver.reports.reliability import Series, reliability_diagram
from salver.reports.svg import BLUE, GREEN
from salver.trust.quality import Bin, Estimate


def tenth(place: int, right: float, count: int = 60) -> Bin:
    """The rows of one tenth of the range of confidence, whose mean lies in its middle."""
    reach = Estimate(right, max(right - 0.03, 0.0), min(right + 0.03, 1.0))
    return Bin(place / 10, (place + 1) / 10, count, place / 10 + 0.05, reach)


HONEST = Series("honest", [tenth(place, place / 10 + 0.05) for place in range(3, 10)], GREEN, "s")
TOO_SURE = Series("too sure", [tenth(place, 0.6 * place / 10, 1234) for place in range(5, 10)],
                  BLUE, "o")  # fmt: skip


def points(source: str, look: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Ends of the first line of this look; y grows downwards."""
    path = next(one for one in re.findall("<path [^>]*>", source, flags=re.S) if look in one)
    found = re.search(' d="([^"]*)"', path)
    assert found
    numbers = re.findall(r"-?\d+(?:\.\d+)?", found[1])
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def below_the_dashed_line(source: str, look: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:  # fmt: skip
    """How far each mark of a line lies below the dashed one, in points of the picture."""
    (x0, y0), (x1, y1) = points(source, "stroke-dasharray: 4,3")
    marks = points(source, f"fill: none; stroke: {look.lower()}; stroke-width: 1.6")
    return np.asarray(marks[:, 1] - (y0 + (marks[:, 0] - x0) * (y1 - y0) / (x1 - x0)))


def test_what_is_honest_lies_on_the_dashed_line() -> None:
    """And what is too sure of itself below it, in every tenth."""
    source = reliability_diagram([HONEST, TOO_SURE])
    honest, too_sure = (below_the_dashed_line(source, colour) for colour in (GREEN, BLUE))
    np.testing.assert_allclose(honest, np.zeros(7), atol=0.01)
    assert 5 == len(too_sure)
    assert (too_sure > 10).all()


def test_each_tenth_of_each_series_has_its_count() -> None:
    """And each series its name."""
    counts = Counter(Page(reliability_diagram([HONEST, TOO_SURE])).words)
    assert 7 == counts["60"]
    assert 5 == counts["1,234"]
    assert 1 == counts["honest"] == counts["too sure"]


def test_a_single_series_is_a_diagram_too() -> None:
    """Its picture is lower than that of two."""
    heights = [
        float(re.findall(r'height="([\d.]+)pt"', reliability_diagram(given))[0])
        for given in ([TOO_SURE], [HONEST, TOO_SURE])
    ]
    assert heights[0] < heights[1]
    assert "honest" not in Page(reliability_diagram([TOO_SURE])).words


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1"), (99_999, "99,999"), (100_000, "100k"), (1_234_567, "1,235k")]
)
def test_ten_counts_fit_beside_each_other(count: int, shown: str) -> None:
    """Large ones are told in thousands."""
    given = Series("many", [tenth(9, 0.9, count)], BLUE, "o")
    assert shown in Page(reliability_diagram([given])).words


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("place", [0, 9])
def test_any_bin_can_be_drawn_alone(place: int, right: float) -> None:
    """The least and the most confidence, never right and always."""
    found = Page(reliability_diagram([Series("one", [tenth(place, right)], BLUE, "o")]))
    assert "60" in found.words
    assert 1 == found.elements["svg"]


def test_a_name_in_the_legend_is_no_element() -> None:
    """Names of calibrators come from elsewhere."""
    found = Page(reliability_diagram([HONEST._replace(name="<b>$x_1$</b>")]))
    assert "<b>$x_1$</b>" in found.words
    assert 0 == found.elements["b"]
