"""Finds parts of labelled rows that are answered worse than all others, by more than chance.

It knows columns of plain values, and whether each row was right. It does not know what a column
means, nor why a part is answered worse. A part is found by looking at many, so what it misses is
larger on these rows than it will be on others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.errors import ConfigError
from salver.trust.drift import cuts_of, range_names

Array = np.ndarray[Any, Any]
Plain = str | bool | int | float
LEAST = 20  # rows of a part
FEW = 20  # different values of a column that is cut by value
ROWS_EACH = 5  # of such a value, on average
RANGES = 5  # of a column of numbers, or of the lengths of texts
FALSE_DISCOVERIES = 0.05  # expected share of parts that are called real and are not, at most
LONGEST = 40  # characters of a value that are shown
_BITS = 1000  # a whole number with more does not fit a float


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the rows, against all others.

    Attributes:
        column: Its name, or "length of" it.
        value: The value, or a range of values, as text.
        hits: Right rows in it.
        of: Rows in it.
        others_hits: Right rows outside.
        others_of: Rows outside.
        p_value: How likely so few of its rows are right by chance, corrected for the number of
            parts that were looked at.
        is_real: Whether that is at most 5 %.
    """

    column: str
    value: str
    hits: int
    of: int
    others_hits: int
    others_of: int
    p_value: float
    is_real: bool


@dataclass(frozen=True, slots=True)
class _Cut:
    """A column cut into parts: their names, and the part that each of n rows is in."""

    column: str
    names: list[str]
    places: Array


def parts(columns: Mapping[str, Sequence[Any]], right: Array) -> tuple[list[Slice], int]:
    """Parts of at least 20 rows, but not of all, the real ones first and then the least likely.

    Each is tested against all other rows: whether a smaller share of it is right, by the exact test
    of Fisher (1935). Of the parts that are called real, 5 % at most are expected not to be, although
    parts overlap and columns depend on each other (Benjamini & Yekutieli 2001).

    A column with at most 20 different values, of 5 rows each on average, is cut by value, and so is one
    of texts most of which occur 20 times or more; values of fewer than 20 rows, and all but the 20
    most frequent, are put together as "(other)". Other columns are cut into up to 5 ranges of
    about equally many rows: numbers by their size, texts by their length. Rows without a value, None
    or NaN, are the part "(missing)". Columns that hold anything else, such as lists, or numbers
    beside texts, have no parts.

    Args:
        columns: Plain Python values of the n rows, by the name of the column.
        right: bool of shape (n,): whether a row was right.

    Returns:
        The parts, and how many were looked at.

    Raises:
        ConfigError: If a column has another number of rows, or `right` is not bool.
    """
    right = _checked(columns, right)
    cuts = [cut for name, values in columns.items() if (cut := _cut(name, values)) is not None]
    found = [one for cut in cuts for one in _counted(cut, right)]
    chances = [fewer_by_chance(*one[2:]) for one in found]
    slices = [
        Slice(*one, p_value=p_value, is_real=p_value <= FALSE_DISCOVERIES)
        for one, p_value in zip(found, _corrected(chances), strict=True)
    ]
    order = sorted(range(len(slices)), key=lambda i: (chances[i], _gap(slices[i])))
    return [slices[i] for i in order], len(slices)


def fewer_by_chance(hits: int, of: int, others_hits: int, others_of: int) -> float:
    """Probability of at most `hits` right rows in a part, if right rows are spread by chance.

    The lower tail of the hypergeometric distribution (Fisher 1935), by logarithms of the gamma
    function, so that it keeps its digits however small it is.

    Args:
        hits: Right rows in the part, 0 to `of`.
        of: Rows in the part.
        others_hits: Right rows outside, 0 to `others_of`.
        others_of: Rows outside.
    """
    right, wrong = hits + others_hits, of + others_of - hits - others_hits
    ways = _ways(right, hits) + _ways(wrong, of - hits) - _ways(right + wrong, of)
    k = np.arange(hits, max(0, of - wrong), -1, dtype=np.float64)
    # How much less likely one right row fewer is.
    steps = np.log(k) + np.log(wrong - of + k) - np.log(right - k + 1) - np.log(of - k + 1)
    return min(float(np.exp(ways + np.append(0.0, np.cumsum(steps))).sum()), 1.0)


def _ways(n: int, k: int) -> float:
    """Logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _checked(columns: Mapping[str, Sequence[Any]], right: Array) -> Array:
    is_right = np.asarray(right)
    if is_right.ndim != 1 or (is_right.size and is_right.dtype != np.bool_):
        raise ConfigError(
            f"`right` has shape {is_right.shape} and dtype {is_right.dtype}; give one bool for "
            "each row."
        )
    for name, values in columns.items():
        if len(values) != len(is_right):
            raise ConfigError(
                f"Column {name!r} has {len(values)} rows and `right` has {len(is_right)}; give "
                "one value for each row, None where there is none."
            )
    return is_right.astype(np.bool_)


def _counted(cut: _Cut, right: Array) -> list[tuple[str, str, int, int, int, int]]:
    """The first attributes of `Slice`, of parts with neither too few rows nor all."""
    rows, hits = len(right), int(right.sum())
    sizes = np.bincount(cut.places, minlength=len(cut.names)).tolist()
    inside = np.bincount(cut.places[right], minlength=len(cut.names)).tolist()
    return [
        (cut.column, name, k, n, hits - k, rows - n)
        for name, n, k in zip(cut.names, sizes, inside, strict=True)
        if LEAST <= n < rows
    ]


def _corrected(p_values: Sequence[float]) -> list[float]:
    """p-values in the order given, corrected by Benjamini & Yekutieli (2001)."""
    given = np.asarray(p_values, dtype=np.float64)
    ranks = np.arange(1, len(given) + 1)
    order = np.argsort(given, kind="stable")
    steps = given[order] * len(given) * np.sum(1 / ranks) / ranks
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return [float(one) for one in adjusted]


def _gap(one: Slice) -> float:
    return one.hits / one.of - one.others_hits / one.others_of


def _cut(name: str, values: Sequence[Any]) -> _Cut | None:
    given = [_plain(value) for value in values]
    known = [value for value in given if value is not None]
    if not all(isinstance(value, Plain) for value in known):
        return None
    counts = Counter(known)
    is_text = all(isinstance(value, str) for value in known)
    often = sum(count for count in counts.values() if count >= LEAST)
    if len(counts) <= FEW and len(known) >= ROWS_EACH * len(counts):
        return _by_value(name, given, counts)
    if is_text and 2 * often >= len(known):  # such as countries, a few of which are most rows
        return _by_value(name, given, dict(counts.most_common(FEW)))
    if is_text:
        lengths = [None if value is None else len(value) for value in given]
        return _by_range(f"length of {name}", lengths)
    if any(isinstance(value, str) for value in known):
        return None
    return _by_range(name, given)


def _plain(value: Any) -> Any:
    """The value as one of Python's own; None for NaN, infinity for what does not fit a float."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int) and value.bit_length() > _BITS:
        return math.inf if value > 0 else -math.inf
    return value


def _by_value(name: str, values: Sequence[Plain | None], counts: Mapping[Plain, int]) -> _Cut:
    often = [value for value, count in counts.items() if count >= LEAST]
    place: dict[Plain | None, int] = {value: i for i, value in enumerate(often)}
    place[None] = len(often) + 1
    places = np.array([place.get(value, len(often)) for value in values], dtype=np.intp)
    return _Cut(name, [*map(_shown, often), "(other)", "(missing)"], places)


def _by_range(name: str, values: Sequence[Any]) -> _Cut:
    numbers = np.array([math.nan if one is None else one for one in values], dtype=np.float64)
    is_missing = np.isnan(numbers)
    cuts = cuts_of(numbers, RANGES)
    names = range_names(cuts, numbers[~is_missing])
    places = np.where(is_missing, len(names), np.searchsorted(cuts, numbers))
    return _Cut(name, [*names, "(missing)"], places)


def _shown(value: Plain) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    text = " ".join(str(value).split())
    if not text:
        return "(empty)"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
