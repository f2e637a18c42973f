"""The live account as a page."""

from __future__ import annotations

import html as markup
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from monitoring.monitoring_reports import (
    CLASSES,
    EVIL,
    calm,
    drifted,
    hostile,
    observed,
    shifted,
    silent,
    window,
    with_findings,
)
from reports.pages import Page
from salver.account.results import Report
from salver.monitoring.page import html, meanings
from salver.monitoring.table import (
    answers,
    conclusion,
    drifts,
    honesty,
    parts,
    promises,
    shares,
    text,
    windows,
)

TIMES = ["Right answers and rows answered", "Confidence and novel rows", "What is answered"]
REFERENCE = "The latest rows against the reference: "
HONEST, WORST = "Is confidence honest?", "Where answers are wrong"


def pictures_of(page: Page) -> list[str]:
    """What the pictures are called."""
    return re.findall(r"<figure><strong>(.*?)</strong>", page.source)


def without_pictures(source: str) -> str:
    """What a page says in tables and sentences of this report, as plain text."""
    body = source[source.index("<body>") :]
    body = re.sub(r"<figure>.*?</figure>|<dl>.*?</dl>|<footer>.*?</footer>", " ", body, flags=re.S)
    return markup.unescape(re.sub("<[^>]*>", " ", body))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html(shifted()))


@pytest.fixture(scope="module")
def quiet() -> Page:
    return Page(html(calm()))


def test_the_page_of_an_account_stands_alone(page: Page) -> None:
    """It has no script and asks for nothing from elsewhere."""
    assert page.stands_alone
    assert "default-src 'none'" in page.source


def test_every_number_of_the_page_stands_in_the_terminals_text_too(page: Page, quiet: Page) -> None:
    """Tables and sentences of both are the same."""
    numbers = r"[+-]?\d[\d,.:-]*%?"
    for found, given in ((page, shifted()), (quiet, calm())):
        of_page = set(re.findall(numbers, without_pictures(found.source)))
        assert len(of_page) > 100
        assert of_page <= set(re.findall(numbers, text(given)))


def test_the_tables_of_the_page_are_those_of_the_terminal(page: Page) -> None:
    """Each cell of each table is there, in the order of the page."""
    makers = (promises, answers, honesty, drifts)
    tables = [make(shifted()) for make in makers] + shares(shifted())
    tables += [parts(shifted()), windows(shifted())]
    expected = [cell for one in tables if one for _, *cells in one.rows for cell in cells]
    assert expected == page.cells


def test_alarms_stand_at_the_top_in_words(page: Page) -> None:
    """Before any table, not by colour alone, and each on a line of its own."""
    top = page.source[page.source.index('<p class="conclusion">') :]
    top = top[: top.index("</p>")]
    assert "3 alarms:\n- precision: " in top
    assert "\n- drift_classes: " in top
    assert "white-space: pre-line" in page.source
    assert page.source.index("3 alarms:") < page.source.index("<table>")


def test_a_calm_page_says_that_there_is_no_alarm(page: Page, quiet: Page) -> None:
    """It is not marked as one with alarms is."""
    assert "No alarm: 2 of 2 promises hold" in quiet.text
    assert "border-left: .5rem" not in quiet.source
    assert "border-left: .5rem" in page.source


def test_too_few_labels_are_told_at_the_top() -> None:
    """Together with the conclusion."""
    found = Page(html(silent()))
    assert all(line in found.text for line in conclusion(silent()))
    assert "Nothing is known yet of whether answers are right" in found.text


def test_what_a_person_should_look_at_stands_out(page: Page, quiet: Page) -> None:
    """A broken promise, two respects that have drifted and two real parts; nothing of a calm one."""
    assert 5 == page.source.count("<tr class=used>")
    assert 0 == quiet.source.count("<tr class=used>")


def test_every_column_is_explained_with_its_source(page: Page) -> None:
    """Heads of tables, and the papers of the methods."""
    found = meanings(shifted())
    for name in ("promised", "all rows", "latest", "of rows", "95% interval", "PSI", "chance",
                 "Jensen-Shannon", "change, points", "calibration error", "gap", "others", "novel",
                 "answered", "verdict", "confidence", "mean", "right"):  # fmt: skip
        assert name in ", ".join(found)
    for source in ("Siddiqi 2006", "Lin 1991", "Clopper & Pearson 1934", "chi-square test of "
                   "homogeneity", "Holm (1979)", "Benjamini & Yekutieli (2001)"):  # fmt: skip
        assert source in " ".join(found.values())
    assert all(meaning in page.text for meaning in found.values())


def test_what_an_account_does_not_show_is_not_explained() -> None:
    """One without reference, labels and promises explains neither drift nor verdicts."""
    assert not {"PSI", "promised", "gap, reference gap", "part"} & set(meanings(silent()))


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        (shifted(windows=calm().windows[:1]), [*TIMES, *(REFERENCE + of for of in ("classes", "confidence", "text length")),
                     HONEST, WORST]),
        (silent(), TIMES[:1]),
        (replace(silent(), windows=()), []),
        (with_findings(drifted=(), honest=None), [*TIMES, WORST]),
    ],
)  # fmt: skip
def test_only_what_there_are_numbers_for_is_drawn(given: Report, drawn: list[str]) -> None:
    """Without any picture there is no head for them."""
    found = Page(html(given))
    assert drawn == pictures_of(found)
    assert len(drawn) == found.elements["svg"]
    assert ("Pictures" in found.words) == bool(drawn)


def test_pictures_of_an_account_are_well_formed_and_share_no_names(page: Page) -> None:
    """Each is XML by itself, and each name of a part occurs once in the page."""
    drawn = re.findall(r"<svg .*?</svg>", page.source, flags=re.S)
    assert 8 == len(drawn)
    for one in drawn:
        ElementTree.fromstring(one)
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    assert {value[1:] for name, value in page.attributes if name.endswith("href")} <= set(names)


def test_pictures_of_an_account_have_the_colour_of_the_text(page: Page) -> None:
    """They can be read on light and on dark ground."""
    drawn = page.source[page.source.index("<svg") : page.source.rindex("</svg>")]
    assert "currentColor" in drawn
    assert not re.search(r"#000000|#ffffff|#123456|: (?:black|white)", drawn)


def test_what_was_promised_is_drawn_beside_what_was_observed(page: Page) -> None:
    """The least share that is right, and the largest that is novel."""
    assert "promised 95%" in page.words
    assert "promised: at most 2%" in page.words
    assert (
        "promised 95%"
        not in Page(html(replace(with_findings(held=(), drifted=()), parts=()))).words
    )


def test_the_reliability_diagram_is_of_labelled_rows(page: Page) -> None:
    """Its legend says so, and each tenth that holds any has its count."""
    honest = shifted().findings.honest
    assert honest is not None
    assert "labelled rows" in page.words
    assert {f"{one.count:,}" for one in honest.bins} <= set(page.words)


def test_the_most_frequent_classes_are_drawn_over_time() -> None:
    """Six lines at most, of which each can be told from the others."""
    names = [f"c{i}" for i in range(9)]
    several = [replace(window(i, False), shares={n: (9 - i) / 45 for i, n in enumerate(names)})
               for i in range(3)]  # fmt: skip
    found = Page(html(calm(windows=several, parts=(), findings=with_findings(drifted=()).findings)))
    assert names[:6] == [one for one in found.words if one in names]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [0.0, 1e-3, 40.0, 9e5, 1e9])
def test_an_account_of_any_span_can_be_drawn(seconds: float) -> None:
    """From rows of one moment to many years."""
    several = [
        replace(window(i, False), start=1e9 + i * seconds / 3, end=1e9 + (i + 1) * seconds / 3)
        for i in range(3)
    ]
    given = with_findings(drifted=(), honest=None)
    assert TIMES == pictures_of(Page(html(replace(given, windows=several, parts=()))))


@pytest.mark.filterwarnings("error")
def test_shares_of_nothing_and_of_all_can_be_drawn() -> None:
    """Always sure, always right, one class, and parts that are never right."""
    one = replace(
        window(0, False),
        answered=observed(250, 250),
        right=observed(60, 60),
        novel=observed(0, 250),
        confidence=1.0,
        shares={CLASSES[0]: 1.0},
    )
    given = calm(
        windows=[one], parts=[replace(calm().parts[0], right=observed(0, 30), others=None)]
    )
    alike = drifted("classes", CLASSES[:1], [1.0], [1.0])
    given = replace(given, findings=replace(given.findings, held=(), drifted=(alike,)))
    assert 6 == len(pictures_of(Page(html(given))))


def test_hostile_names_of_an_account_are_no_elements() -> None:
    """Classes, columns and values come from whoever asks the service."""
    found = Page(html(hostile()))
    assert not {"script", "b"} & set(found.elements)
    assert found.stands_alone
    assert "\x1b" not in found.source
    assert "The live account of [31m red</td><script>alert(1)</script>" in found.words
    assert "$x_1$" in found.words
    assert EVIL not in found.source


def test_an_account_gives_the_same_page_each_time(page: Page) -> None:
    """No clock and no chance is in it."""
    assert html(shifted()) == page.source
