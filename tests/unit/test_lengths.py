"""What measures rows: characters, or the tokens of a real tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from salver.lengths import MOST_CHARACTERS, MOST_ROWS, Characters, Lengths, Tokens, lengths_by


def tokenizer(**options: Any) -> Tokenizer:
    """Cuts at spaces; a word is a token."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.enable_padding(length=64)
    if options:
        made.enable_truncation(**options)
    return made


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(tokenizer())


def test_characters_are_those_of_the_texts() -> None:
    """Numbers and nulls have no length."""
    assert [5, 0, 3] == Characters().of([("ab", "cde", 7), (None, 1.5), ("xyz",)])


def test_tokens_are_those_of_all_texts_of_a_row(tokens: Tokens) -> None:
    """Padding, which a tokenizer's file may order, is no length."""
    assert [5, 0, 1] == tokens.of([("a b", 3, "c d e"), (None, 2), ("x" * 50,)])


def test_many_rows_are_measured_as_few(tokens: Tokens) -> None:
    """The library's own threads, taken for many, change no number."""
    rows = [("w " * (i % 40),) for i in range(500)]
    assert [i % 40 for i in range(500)] == tokens.of(rows)


def test_what_the_model_cuts_off_is_no_length() -> None:
    """A tokenizer that truncates bounds the length, of very long texts too."""
    cutting = Tokens(tokenizer(max_length=6))
    assert [6, 6, 2] == cutting.of([("a " * 10,), ("a " * MOST_CHARACTERS,), ("a b",)])


def test_a_very_long_text_is_measured_by_its_beginning(tokens: Tokens) -> None:
    """Its length is in proportion, and the work for it bounded."""
    assert [3 * MOST_CHARACTERS] == tokens.of([("a " * 3 * MOST_CHARACTERS,)])


def test_many_rows_of_one_request_are_estimated(tokens: Tokens) -> None:
    """From their characters, and from what the texts before had of tokens for each."""
    for _ in range(100):
        tokens.estimated([("ab cd ef gh",)] * MOST_ROWS)
    estimated = tokens.estimated([("ab cd ef gh " * n,) for n in range(2 * MOST_ROWS)])
    for n, length in enumerate(estimated):
        assert abs(length - 4 * n) <= 2 + 0.15 * 4 * n


def test_a_text_that_is_no_unicode_has_a_length_too(tokens: Tokens) -> None:
    """It spoils no neighbour, whether they are few or many."""
    rows = [("a b",), ("\ud800 b c d",), ("a b c",)]
    for copies in (1, 20):
        lengths = tokens.of(rows * copies)
        assert [2, 3] * copies == [n for i, n in enumerate(lengths) if i % 3 != 1]
        assert all(n > 0 for n in lengths)


@pytest.mark.parametrize("content", [None, "no json", "{}"])
def test_without_a_tokenizer_that_works_characters_are_counted(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why; a service does not fail for it."""
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    measure: Lengths = lengths_by(str(path), "tagger")
    assert "characters" == measure.unit
    assert "tagger: rows are put together by their characters" in caplog.text


def test_a_tokenizers_file_is_all_it_takes(tmp_path: Path) -> None:
    """And no file is no fault."""
    path = tmp_path / "tokenizer.json"
    tokenizer().save(str(path))
    assert [3] == lengths_by(str(path), "tagger").of([("a b c",)])
    assert "characters" == lengths_by(None, "tagger").unit
