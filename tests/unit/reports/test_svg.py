"""How pictures look, and what is said of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.pages import Page
from salver.reports.svg import (
    INK,
    apart,
    cut,
    figure,
    gallery,
    logarithmic,
    percents,
    up_to_all,
)


def line(to: Figure) -> None:
    """A line with a name, in the colour of the text."""
    axes: Axes = to.subplots()
    axes.plot([1, 10, 100], [1, 2, 3], color=INK, label="<b>$x_1$</b>")
    logarithmic(axes, "size")
    axes.legend()


def test_a_picture_has_the_colour_of_the_text_around_it() -> None:
    """Neither black nor white nor the placeholder is drawn."""
    found = figure("one", line, 2.0, "Title", "Caption.")
    assert "currentColor" in found
    assert not re.search(r"#000000|#ffffff|#123456|: (?:black|white)", found)


def test_letters_of_a_picture_are_letters() -> None:
    """They can be read aloud and found; formulas are not set, and elements are not made."""
    found = Page(figure("one", line, 2.0, "Title", "Caption."))
    assert "<b>$x_1$</b>" in found.text
    assert "size (logarithmic)" in found.text
    assert 0 == found.elements["b"]


def test_title_and_caption_are_for_those_who_do_not_see() -> None:
    """They are in the description of the picture, whatever they hold."""
    found = Page(figure("one", line, 2.0, 'A "title" <i>', "A caption & more."))
    assert ("aria-label", 'A "title" <i>. A caption & more.') in found.attributes
    assert ("role", "img") in found.attributes
    assert found.text.startswith('A "title" <i>')
    assert found.text.endswith("A caption & more.")
    assert 0 == found.elements["i"]


def test_two_pictures_share_a_page() -> None:
    """Names of their parts differ, and each part that is used is there."""
    found = Page(gallery([figure(name, line, 2.0, "T", "C") for name in ("one", "two")]))
    names = [value for name, value in found.attributes if name == "id"]
    assert len(names) == len(set(names))
    used = {value[1:] for name, value in found.attributes if name.endswith("href")}
    assert used
    assert used <= set(names)


def test_the_same_numbers_give_the_same_bytes() -> None:
    """No clock and no chance is in a picture."""
    assert figure("one", line, 2.0, "T", "C") == figure("one", line, 2.0, "T", "C")


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0%"),
        (0.07, "7%"),  # 0.07 * 100 is 7.000000000000001
        (0.9275, "92.75%"),
        (1.0, "100%"),
        (1.0 + 1e-9, "100%"),
        (1.05, ""),
        (-0.05, ""),
    ],
)
def test_an_axis_of_shares_has_percents(share: float, shown: str) -> None:
    """There are no shares below none and above all, though there may be room."""
    assert shown == percents()(share, None)


@pytest.mark.parametrize(
    ("shares", "low", "high"),
    [((0.5, 0.9), 0.48, 1.02), ((0.9, 1.1), 0.896, 1.104), ((0.01,), -0.0296, 1.0396)],
)
def test_an_axis_of_shares_goes_up_to_all(
    shares: tuple[float, ...], low: float, high: float
) -> None:
    """With a little room at both ends, and above 1 where letters stand there."""
    axes = Figure().subplots()
    up_to_all(axes, *shares)
    np.testing.assert_allclose(axes.get_ylim(), (low, high))


def test_values_are_moved_apart() -> None:
    """Only up, only where needed, and in the order they came."""
    assert [3.0, 1.0, 1.5, 2.0] == apart([3.0, 1.0, 1.1, 1.2], 0.5)
    assert [] == apart([], 1.0)


@pytest.mark.parametrize("length", [1, 35, 36, 37, 300])
def test_a_long_name_is_cut(length: int) -> None:
    """To as many letters as there is room for."""
    found = cut("x" * length, 36)
    assert len(found) == min(length, 36)
    assert ("…" in found) == (length > 36)


def test_a_picture_has_the_height_it_was_given() -> None:
    """In inches, of 72 points each."""
    source = figure("one", line, 2.5, "T", "C")
    found = re.search(r'height="([\d.]+)pt"', source)
    assert found
    assert np.isclose(float(found[1]), 180)
