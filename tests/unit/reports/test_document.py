"""What any page is made of."""

from __future__ import annotations

import re

import pytest

from reports.pages import Page
from salver.reports.document import bullets, page, pairs, paragraphs, row, table, table_of
from salver.reports.terminal import Cells

EVIL = "--><script>alert('1')</script><b x=\""


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    """It runs no script, and its policy forbids all but its own style."""
    found = Page(page("title", "conclusion", "introduction", [("head", "<p>text</p>")], "footer"))
    assert found.stands_alone
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes
    assert "title title conclusion introduction head text footer" == found.text


def test_a_section_without_anything_has_no_head() -> None:
    """It is left out."""
    found = Page(page("t", "c", "i", [("empty", ""), ("full", "<p>text</p>")], "f"))
    assert "empty" not in found.text
    assert 1 == found.elements["section"]


def test_a_page_is_for_light_and_dark_ground() -> None:
    """Its style has both, and what a page adds of its own stands after it."""
    source = page("t", "c", "i", [], "f", style="p { color: red }")
    assert "prefers-color-scheme: dark" in source
    assert source.index("p { color: red }") > source.index("prefers-color-scheme")
    assert "width=device-width" in source


@pytest.mark.parametrize(
    "made",
    [
        page(EVIL, EVIL, EVIL, [(EVIL, "<p></p>")], EVIL),
        table([EVIL, "b"], [row(EVIL, [EVIL])]),
        table_of(Cells(EVIL, [EVIL], [[EVIL, EVIL]])),
        paragraphs([EVIL]),
        bullets([EVIL]),
        pairs([(EVIL, EVIL)]),
    ],
)
def test_plain_text_stays_text(made: str) -> None:
    """Whatever it holds, it makes no element."""
    found = Page(made)
    assert not {"script", "b"} & set(found.elements)
    assert EVIL in found.text


def test_a_table_has_a_head_and_rows_with_names() -> None:
    """The name of a row is its head; the one in use stands out; columns of words are said."""
    source = table(
        ["what", "verdict"], [row("one", ["1"]), row("two", ["2"], is_used=True)], words=["verdict"]
    )
    found = Page(source)
    assert ["1", "2"] == found.cells
    assert [("scope", "row")] * 2 == [pair for pair in found.attributes if pair == ("scope", "row")]
    assert 1 == source.count("<tr class=used>")
    assert '<th scope="col" class=words>verdict</th>' in source


def test_a_table_of_the_terminal_is_one_of_the_page() -> None:
    """Its subject is the head of the names; only lines with certain verdicts stand out."""
    given = Cells("part", ["right", "verdict"], [["alarm", "alarm", "calm"], ["b", "9%", "alarm"]])
    source = table_of(given, used=("alarm", "broken"))
    found = Page(source)
    assert "part right verdict alarm alarm calm b 9% alarm" == found.text
    assert ["alarm", "calm", "9%", "alarm"] == found.cells
    assert ["b"] == re.findall('<tr class=used><th scope="row">(.*?)</th>', source)
    assert "class=used" not in table_of(given)


def test_a_list_of_nothing_is_nothing() -> None:
    """No empty element stands in the page."""
    assert "" == bullets([]) == paragraphs([]) == table_of(None)
