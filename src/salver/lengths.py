"""How long rows are, which decides who their neighbours in a batch are.

Models pad the texts of a batch to the longest, so that rows of equal length go together best. For
a model that says where its tokenizer is, the length is a number of tokens; for others, of
characters. This module does not know batches, replicas or what padding costs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from salver.types import text_length

log = logging.getLogger("salver.lengths")

Rows = Sequence[tuple[Any, ...]]

MOST_CHARACTERS = 2_000  # counted exactly; what is longer, by its beginning
MOST_ROWS = 32  # of one request; a row takes some 70 us, in which nothing else is answered
SHARE_BEFORE = 0.25  # tokens of a character before any text was counted: usual for English


class Lengths(Protocol):
    """Measures rows.

    Attributes:
        unit: What is counted.
    """

    unit: str

    def of(self, rows: Rows) -> list[int]:
        """The length of each row; the same for the same row, whenever it is asked."""
        ...

    def estimated(self, rows: Rows) -> list[int]:
        """The same in a bounded time, and as near as that allows."""
        ...


class Characters:
    """Rows measured by the characters of their texts."""

    unit = "characters"

    def of(self, rows: Rows) -> list[int]:
        return [text_length(row) for row in rows]

    estimated = of


class Tokens:
    """Rows measured by the tokens of their texts.

    Args:
        tokenizer: A `tokenizers.Tokenizer`; becomes this object's own.
    """

    unit = "tokens"

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        truncation = tokenizer.truncation
        self._most = truncation["max_length"] if truncation else None
        self._share = SHARE_BEFORE

    def of(self, rows: Rows) -> list[int]:
        texts = [_text(row) for row in rows]
        return [self._whole(t, n) for t, n in zip(texts, self._counts(texts), strict=True)]

    def estimated(self, rows: Rows) -> list[int]:
        if len(rows) > MOST_ROWS:
            return [self._capped(int(text_length(row) * self._share)) for row in rows]
        lengths = self.of(rows)
        characters = sum(map(text_length, rows))
        if characters and self._most not in lengths:
            self._share += (sum(lengths) / characters - self._share) / 16
        return lengths

    def _counts(self, texts: Sequence[str]) -> list[int]:
        begun = [text[:MOST_CHARACTERS] for text in texts]
        if len(begun) > MOST_ROWS:  # for fewer, waking the library's threads takes longer
            with suppress(Exception):
                return [len(e) for e in self._tokenizer.encode_batch_fast(begun)]
        return [self._count(text) for text in begun]

    def _count(self, text: str) -> int:
        try:
            return len(self._tokenizer.encode(text))
        except Exception:  # noqa: BLE001 - a lone surrogate, or a vocabulary without [UNK]
            return int(len(text) * SHARE_BEFORE)

    def _whole(self, text: str, counted: int) -> int:
        if len(text) <= MOST_CHARACTERS:
            return counted
        return self._capped(counted * len(text) // MOST_CHARACTERS)

    def _capped(self, tokens: int) -> int:
        return tokens if self._most is None else min(tokens, self._most)


def _text(row: tuple[Any, ...]) -> str:
    return " ".join([value for value in row if isinstance(value, str)])


def lengths_by(tokenizer_file: str | None, name: str) -> Lengths:
    """What measures the rows of a deployment.

    Args:
        tokenizer_file: A `tokenizer.json` of Hugging Face's tokenizers, or null.
        name: Of the deployment, for the log.

    Returns:
        Characters, where there is no such file or it cannot be used; the log says why.
    """
    if tokenizer_file is None:
        return Characters()
    try:
        from tokenizers import Tokenizer

        return Tokens(Tokenizer.from_file(tokenizer_file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        log.warning("%s: rows are put together by their characters: %s", name, error)
        return Characters()
