"""Reads a page as a browser would, for tests of pages."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

ALONE = {"meta", "link", "img", "br", "input"}  # elements without an end


class Page(HTMLParser):
    """What is in a page: elements, attributes, cells and words; complains where elements overlap."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ALONE:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All words, on one line."""
        return " ".join(" ".join(self.words).split())

    @property
    def stands_alone(self) -> bool:
        """Whether it runs nothing, and asks for nothing but places of its own."""
        return not (
            {"script", "link", "img", "iframe", "object"} & set(self.elements)
            or [name for name, _ in self.attributes if name.startswith("on") or name == "src"]
            or [
                value
                for name, value in self.attributes
                if name.endswith("href") and not value.startswith("#")
            ]
            or re.search(r"@import|url\((?!#)", self.source)
        )
