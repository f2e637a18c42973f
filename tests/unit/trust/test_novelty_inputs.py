"""What texts and columns hold, before it is weighed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from salver.trust import novelty_inputs
from salver.trust.novelty_inputs import columns_of, known_words, read_columns, words_of


def objects(*values: object) -> np.ndarray:
    """A column of objects."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    """Of any script; digits are alike, and composed letters are those that are put together."""
    assert ["don", "t", "panic"] == words_of("Don't PANIC!")
    assert ["gpt0", "in", "0000", "a", "b"] == words_of("GPT4 in 1999: a_b")
    assert words_of("caf\u00e9") == words_of("cafe\u0301")
    assert ["привет", "мир"] == words_of("Привет, мир")
    assert ["今", "日", "は", "gpu"] == words_of("今日はGPU")
    assert [] == words_of(" ... \n🙂")


def test_the_rate_is_that_of_words_that_no_other_text_has() -> None:
    """By hand: c twice in one text, of six words in all; plus one of two more."""
    made = known_words(["a b", "a b c c"])
    assert frozenset("abc") == made.vocabulary
    assert (2 + 1) / (6 + 2) == made.rate
    shares = made.distances(["a", "x", "a x", ""])[:, 0]
    rate = made.rate
    assert [rate / 2, (1 + rate) / 2, (1 + rate) / 3, 1.0] == pytest.approx(shares.tolist())


def test_a_vocabulary_keeps_the_words_of_most_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than it has room for; a word often used in a single text is not common."""
    monkeypatch.setattr(novelty_inputs, "WORDS", 2)
    assert {"a", "b"} == known_words(["a b c c c c", "a b", "a"]).vocabulary


def test_numbers_are_in_spreads_from_their_median() -> None:
    """Clipped, with an indicator for what is missing or is no number."""
    read = read_columns({"x": np.array([0.0, 1.0, 2.0, 3.0, 4.0]), "y": np.arange(5)})
    assert {"x": (2.0, 2.0), "y": (2.0, 2.0)} == read.numbers
    given = {"x": np.array([4.0, np.nan, -np.inf]), "y": objects(1e9, None, "text")}
    wanted = [[1.0, 10.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [-10.0, 0.0, 0.0, 1.0]]
    np.testing.assert_array_equal(read.matrix(given), wanted)


def test_numbers_that_hardly_vary_have_a_spread() -> None:
    """The standard deviation if most are alike; next to nothing if all are."""
    sparse = np.array([0.0] * 9 + [10.0])
    read = read_columns({"sparse": sparse, "same": np.full(10, 0.1), "void": np.full(10, np.nan)})
    assert (0.0, pytest.approx(3.0)) == read.numbers["sparse"]
    many = np.full(1000, 0.1)
    assert many.std() > 0  # by rounding
    assert (0.1, pytest.approx(1e-7)) == read_columns({"many": many}).numbers["many"]
    same = read.matrix({"sparse": sparse[:2], "same": np.array([0.1, 0.2]), "void": sparse[:2]})
    assert [0.0, 10.0] == pytest.approx(same[:, 1].tolist())


def test_rarity_is_counted_in_bits() -> None:
    """A quarter is two bits, and what was never seen is twice the rarest there could be."""
    read = read_columns({"a": objects("x", "x", "x", None), "b": np.array([True, False] * 2)})
    given = {"a": objects(None, "x", "new", ["list"]), "b": np.array([True] * 4)}
    far = 2 * math.log2(5)
    assert [3.0, 1 + math.log2(4 / 3), 1 + far, 1 + far] == pytest.approx(read.rarity(given))


def test_columns_that_are_always_new_are_not_read() -> None:
    """Identifiers, texts and lists; numbers that may be null are numbers."""
    read = read_columns(
        {
            "id": objects(*map(str, range(100))),
            "lists": objects(*[[1]] * 100),
            "mixed": objects(*["a", 1] * 50),
            "nullable": objects(*[None, 3] * 50),
            "city": objects(*["Bern", "Basel"] * 49, "Genf", "Chur"),
        }
    )
    assert ("nullable", "city") == read.names


def test_columns_survive_json() -> None:
    """Flags, nulls and texts stay what they were."""
    given = {
        "flag": np.array([True, False, True]),
        "text": objects("x\ny", None, "x\ny"),
        "number": np.array([1 / 3, 2.0, np.nan]),
    }
    read = read_columns(given)
    again = columns_of(json.loads(json.dumps(read.as_json(), allow_nan=False)))
    assert read == again
    np.testing.assert_array_equal(read.rarity(given), again.rarity(given))


@pytest.mark.parametrize("numbers", [{"x": [0.0, 0.0]}, {"x": [0.0]}, {"x": [None, 1.0]}])
def test_numbers_that_cannot_be_read_by_are_refused(numbers: dict[str, list[float]]) -> None:
    """No spread of zero, and both are numbers."""
    with pytest.raises((TypeError, ValueError)):
        columns_of({"numbers": numbers, "categories": {}, "unseen": 1.0})
