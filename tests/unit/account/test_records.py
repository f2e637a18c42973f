"""Tests of `salver.account.records`."""

from __future__ import annotations

from typing import Any

import pytest

from salver.account.records import class_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nlp", "nlp"),
        ("", ""),
        (3, "3"),
        (-1, "-1"),
        (True, "True"),
        (3.0, "3"),
        (2.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (None, None),
        (["nlp"], None),
        ({"class": "nlp"}, None),
    ],
)
def test_a_class_has_one_text(value: Any, text: str | None) -> None:
    """Text stands for itself, whole numbers and truth values are written, all else is no class."""
    assert class_text(value) == text
