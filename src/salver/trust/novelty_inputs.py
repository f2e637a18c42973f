"""What texts and columns hold that the training data does not: the grounds of a novelty score.

For models without hidden states. It does not know how much of the unknown is ordinary: scales are
found in `salver.trust.novelty`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, Any]
Value = str | bool | None  # of a category
WORDS = 200_000  # in a vocabulary
CATEGORIES = 10_000  # in a column; of more, some are always new
SINGLES = 0.05  # share of rows with a value that occurs once, from which on new ones are ordinary
FAR = 10.0  # spreads from the median, to which numbers are clipped
_NO_SPACES = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W_{_NO_SPACES}]+")
_DIGIT = re.compile(r"\d")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in order.

    Every digit becomes a 0: a year is as known as any other year, and a version as another one.
    Each sign of a script without spaces is a word by itself.
    """
    return _WORD.findall(_DIGIT.sub("0", unicodedata.normalize("NFKC", text).lower()))


@dataclass(frozen=True, slots=True)
class Words:
    """How many words of a text are unknown.

    Attributes:
        vocabulary: Known words, see `words_of`.
        rate: Share of words that are unknown in an ordinary text, within 0 to 1.
        scales: One number: the share from which on a text is novel.
    """

    vocabulary: frozenset[str]
    rate: float
    scales: tuple[float, ...]
    kind: ClassVar[str] = "words"

    def distances(self, given: Sequence[str]) -> Array:
        """Shares of unknown words, float64 of shape (n, 1); 1 for a text without words.

        To each text belongs one word more, which is unknown at the ordinary rate: so one unknown
        word alone tells less than ten of ten, and any is less than no word at all.

        Args:
            given: n texts.
        """
        return np.array([[self._share(text)] for text in given]).reshape(len(given), 1)

    def _share(self, text: str) -> float:
        words = words_of(text)
        if not words:
            return 1.0
        unknown = sum(word not in self.vocabulary for word in words)
        return (unknown + self.rate) / (len(words) + 1)

    def score(self, given: Sequence[str]) -> Array:
        """How novel each of n texts is, float64 of shape (n,); 1 is on the edge."""
        return np.asarray(self.distances(given)[:, 0] / self.scales[0])

    def arrays(self) -> dict[str, Array]:
        """What `as_json` has no room for."""
        joined = "\n".join(sorted(self.vocabulary)).encode()
        return {"vocabulary": np.frombuffer(joined, dtype=np.uint8)}

    def as_json(self) -> dict[str, Any]:
        """What `novelty_of` makes the same score of, with `arrays`."""
        return {"kind": self.kind, "rate": self.rate, "scales": list(self.scales)}


def known_words(texts: Sequence[str]) -> Words:
    """The vocabulary of texts; its scale is the ordinary rate, below which it makes no sense.

    The rate is the share of words that no other text has, which is how many are unknown in a text
    that is left out (Good 1953), as if two words more had been seen, one of them unknown.
    """
    count: Counter[str] = Counter()
    texts_with: Counter[str] = Counter()
    for text in texts:
        words = words_of(text)
        count.update(words)
        texts_with.update(set(words))
    alone = sum(n for word, n in count.items() if texts_with[word] == 1)
    rate = (alone + 1) / (sum(count.values()) + 2)
    kept = sorted(count, key=lambda word: (-texts_with[word], word))[:WORDS]
    return Words(frozenset(kept), rate, (rate,))


@dataclass(frozen=True, slots=True)
class Columns:
    """How columns are read: as p numbers, or as categories.

    A column whose values are mostly new ones in every row (identifiers, free text), or are neither
    numbers nor text, is not read.

    Attributes:
        numbers: Median and spread (interquartile range) of each column of numbers.
        categories: Rarity of each known value, in bits, of each column of categories.
        unseen: Rarity of any other value, in bits.
    """

    numbers: Mapping[str, tuple[float, float]]
    categories: Mapping[str, Mapping[Value, float]]
    unseen: float

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns that are read."""
        return (*self.numbers, *self.categories)

    def matrix(self, given: Mapping[str, Array]) -> Array:
        """Numbers in spreads from their median, and then whether each is missing.

        Args:
            given: A column of shape (n,) for each name.

        Returns:
            float64 of shape (n, 2p), finite; a missing number is at the median.
        """
        values = np.array([_as_numbers(given[name]) for name in self.numbers])
        both = np.array(list(self.numbers.values())).reshape(-1, 2, 1)
        n = len(next(iter(given.values()), ()))
        values = values.reshape(len(both), n)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.clip((values - both[:, 0]) / both[:, 1], -FAR, FAR)
        is_missing = np.isnan(values)
        scaled[np.isnan(scaled)] = 0.0
        return np.concatenate([scaled, is_missing]).T

    def rarity(self, given: Mapping[str, Array]) -> Array:
        """Bits of the categories of each row, summed, as if columns were independent.

        That is the score of Goldstein & Dengel 2012.

        Args:
            given: A column of shape (n,) for each name.

        Returns:
            float64 of shape (n,).
        """
        total = np.zeros(len(next(iter(given.values()), ())))
        for name, bits in self.categories.items():
            values = given[name].tolist()
            total += [bits.get(v, self.unseen) if _is_category(v) else self.unseen for v in values]
        return total

    def as_json(self) -> dict[str, Any]:
        """What `columns_of` makes the same of."""
        return {
            "numbers": {name: list(both) for name, both in self.numbers.items()},
            "categories": {
                name: [[value, bits] for value, bits in known.items()]
                for name, known in self.categories.items()
            },
            "unseen": self.unseen,
        }


def columns_of(stored: Mapping[str, Any]) -> Columns:
    """What `Columns.as_json` has given, again.

    Raises:
        KeyError: If something is missing.
        TypeError: If something is of another type.
        ValueError: If a number is not finite, or is not positive where it must be.
    """
    numbers = {}
    for name, (middle, spread) in stored["numbers"].items():
        numbers[name] = (finite(middle), positive(spread))
    categories: dict[str, dict[Value, float]] = {}
    for name, known in stored["categories"].items():
        categories[name] = {value: finite(bits) for value, bits in known}
    return Columns(numbers, categories, finite(stored["unseen"]))


def finite(given: Any) -> float:
    """The number, if it is one that is finite; else TypeError or ValueError."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{given!r} is no number")
    if not math.isfinite(given):
        raise ValueError(f"{given!r} is not finite")
    return float(given)


def positive(given: Any) -> float:
    """The number, if it is one above 0; else TypeError or ValueError."""
    if finite(given) <= 0:
        raise ValueError(f"{given!r} is not above 0")
    return float(given)


def read_columns(given: Mapping[str, Array]) -> Columns:
    """How to read columns like these.

    Args:
        given: Columns of shape (n,), as `salver.types.Batch.columns` makes them.
    """
    n = len(next(iter(given.values()), ()))
    numbers, categories = {}, {}
    for name, column in given.items():
        if _holds_numbers(column):
            numbers[name] = _middle_and_spread(_as_numbers(column))
            continue
        values = column.tolist()
        if not all(_is_category(value) for value in values):
            continue
        count = Counter(values)
        singles = sum(times == 1 for times in count.values())
        # Two in few rows say nothing yet.
        if singles <= max(SINGLES * n, 2) and len(count) <= CATEGORIES:
            categories[name] = {value: math.log2(n / times) for value, times in count.items()}
    # Twice what the rarest value can have.
    return Columns(numbers, categories, 2 * math.log2(n + 1))


def _is_category(value: Any) -> bool:
    return value is None or isinstance(value, str | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _holds_numbers(column: Array) -> bool:
    """Also a nullable one, whose values are objects."""
    if column.dtype != object:
        return column.dtype.kind in "fiu"
    there = [value for value in column.tolist() if value is not None]
    return bool(there) and all(_is_number(value) for value in there)


def _as_numbers(column: Array) -> Array:
    """float64 of shape (n,), NaN for what is missing or no number."""
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    values = [float(v) if _is_number(v) else math.nan for v in column.tolist()]
    return np.array(values, dtype=np.float64)


def _middle_and_spread(values: Array) -> tuple[float, float]:
    there = values[np.isfinite(values)]
    if not there.size:
        return 0.0, 1.0
    low, middle, high = (float(q) for q in np.quantile(there, (0.25, 0.5, 0.75)))
    least = 1e-9 * abs(middle)  # rounding of a constant is no spread
    for spread in (high - low, float(there.std())):
        if least < spread < math.inf:
            return middle, spread
    return middle, 1e-6 * (abs(middle) or 1.0)  # of a constant, any other value is far
