import time
from pathlib import Path

import pytest

from madewithml.tokens import TextTokenizer, load_tokenizer

LONG = [
    "camera image " * 10_000,
    "x" * 100_000,
    "a.b-c!" * 20_000,
    " " * 100_000 + "camera",
    "word" + " " * 50_000 + "image " * 5_000,
    "字" * 100_000,
    "\0" * 50_000 + "image " * 5_000,
]


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> TextTokenizer:
    return TextTokenizer((encoder / "tokenizer.json").read_text("utf-8"), 32)


def test_the_encoders_fixed_padding_is_ignored(tokenizer: TextTokenizer) -> None:
    """Short texts stay short and are padded to the longest of their batch only."""
    ids, mask = tokenizer.pad(tokenizer.encode(["image", "camera image"]))
    assert ids.shape == mask.shape == (2, 4)
    assert mask.sum(axis=1).tolist() == [3, 4]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_cutting_a_long_text_changes_no_token(
    tokenizer: TextTokenizer, encoder: Path, text: str
) -> None:
    """The tokens of a long text are those that the whole text would give."""
    whole = load_tokenizer(encoder)
    whole.no_padding()
    whole.enable_truncation(max_length=32)
    assert tokenizer.encode([text]) == [whole.encode(text).ids]


def test_a_long_text_costs_little(tokenizer: TextTokenizer) -> None:
    """100,000 characters of words are encoded in a few milliseconds."""
    text = "camera image " * 8_000
    tokenizer.encode([text])
    start = time.perf_counter()
    tokenizer.encode([text])
    assert time.perf_counter() - start < 0.1


def test_a_vocabulary_alone_makes_the_same_tokenizer(encoder: Path, tmp_path: Path) -> None:
    """An encoder that ships only vocab.txt gives the same tokens; one without either is refused."""
    (tmp_path / "vocab.txt").write_bytes((encoder / "vocab.txt").read_bytes())
    made, shipped = load_tokenizer(tmp_path), load_tokenizer(encoder)
    shipped.no_padding()
    assert made.encode("Camera, image!").ids == shipped.encode("Camera, image!").ids
    with pytest.raises(FileNotFoundError, match=r"wanted tokenizer\.json or a BERT vocab\.txt"):
        load_tokenizer(tmp_path / "nothing")
