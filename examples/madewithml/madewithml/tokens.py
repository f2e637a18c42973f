"""From texts to padded arrays of token ids, at a bounded cost per text.

Knows nothing of models. Uses `tokenizers` directly: the `tokenizer.json` that ships with a
sentence encoder often pads every text to a fixed length, which is 3/4 of the work for nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# WordPiece gives at most one token per character and takes words of up to 100 characters apart:
# what follows the last 100 tokens of a prefix cannot change any token before them.
_LONGEST_WORD = 100
_CHARACTERS_PER_TOKEN = 16
_COUNTED_PER_TOKEN = 256  # characters up to which a text that is cut is tokenised whole


class TextTokenizer:
    """Encodes texts to token ids, truncated at `max_length`, special tokens included.

    A very long text is cut before it is tokenised. The cut never changes the tokens that are kept:
    a prefix is used only if it gives so many more tokens than needed that its last, possibly
    severed word lies beyond them; otherwise a prefix four times as long is tried.
    """

    def __init__(self, definition: str, max_length: int) -> None:
        """Make one from the text of a `tokenizer.json`."""
        from tokenizers import Tokenizer

        self.max_length = max_length
        self._truncating = Tokenizer.from_str(definition)
        self._truncating.no_padding()
        self._truncating.enable_truncation(max_length=max_length)
        self._counting = Tokenizer.from_str(definition)
        self._counting.no_padding()
        self._counting.no_truncation()
        self.pad_id = self._truncating.token_to_id("[PAD]") or 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: `len(texts)` lists of 2 to `max_length` ids."""
        # One by one: as fast as a batch on one thread, and no thread pool beside torch's own.
        return [self._truncating.encode(self._prefix(text)).ids for text in texts]

    def truncated(
        self, texts: Sequence[str], encodings: Sequence[Sequence[int]]
    ) -> list[dict[str, int | None] | None]:
        """What was cut off: tokens kept, of how many, special ones included; null where nothing was.

        The whole of a very long text is not counted, and then the number is null.
        """
        found: list[dict[str, int | None] | None] = []
        for text, ids in zip(texts, encodings, strict=True):
            is_counted = len(text) <= _COUNTED_PER_TOKEN * self.max_length
            if len(ids) < self.max_length:
                whole: int | None = len(ids)
            else:
                whole = len(self._counting.encode(text).ids) if is_counted else None
            found.append(None if whole == len(ids) else {"kept": len(ids), "of": whole})
        return found

    def _prefix(self, text: str) -> str:
        size = _CHARACTERS_PER_TOKEN * self.max_length
        while size < len(text):
            prefix = text[:size]
            tokens = len(self._counting.encode(prefix, add_special_tokens=False).ids)
            if tokens >= self.max_length + _LONGEST_WORD:
                return prefix
            size *= 4
        return text

    def pad(self, encodings: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Pad to the longest: (ids, mask), both int64 of shape (n, longest)."""
        longest = max(map(len, encodings))
        ids = np.full((len(encodings), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(encodings), longest), dtype=np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding
            mask[row, : len(encoding)] = 1
        return ids, mask


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer of an encoder's folder: `tokenizer.json`, or made from a BERT `vocab.txt`.

    Raises:
        FileNotFoundError: the folder has neither file.
    """
    import json

    from tokenizers import BertWordPieceTokenizer, Tokenizer

    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not (folder / "vocab.txt").is_file():
        raise FileNotFoundError(
            f"no tokenizer in {folder}: wanted tokenizer.json or a BERT vocab.txt"
        )
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    made = BertWordPieceTokenizer(
        str(folder / "vocab.txt"), lowercase=config.get("do_lower_case", True)
    )
    return Tokenizer.from_str(made.to_str())
