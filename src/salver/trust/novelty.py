"""How unlike the training data an input is, so that a service can say that it does not know it.

Larger is more novel; 1 is the 95 % quantile of ordinary rows that the score was not fitted on. Of a
model that gives hidden states, `Layers` looks at those; `Words` and `Table` are stand-ins that look
at the input alone. Nothing here knows what the model makes of the row, nor from which score on it
is refused.

Fitting needs scikit-learn; scoring needs NumPy alone. A row's score does not depend on the rows
beside it, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from salver.errors import CheckpointError, ConfigError
from salver.trust.novelty_inputs import (
    Array,
    Columns,
    Words,
    columns_of,
    finite,
    known_words,
    positive,
    read_columns,
)

__all__ = [
    "Layers",
    "Novelty",
    "Table",
    "Words",
    "fit_layers",
    "fit_table",
    "fit_words",
    "novelty_of",
]

FEWEST = 20  # rows; of fewer, nobody can say what 95 of 100 are like
FOLDS = 5
ORDINARY = 0.95
_ROUNDING = float(np.finfo(np.float32).eps)
_AGAIN = "Run salver calibrate again."


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """How far hidden states are from those of the training data (Lee et al. 2018).

    One Gaussian for each of l layers of d numbers. The last layers of a fine-tuned model know its
    classes and little else; the middle ones still know what its input looks like.

    Attributes:
        means: float32 of shape (l, d).
        whitenings: float32 of shape (l, d, d); a row less the mean, times this, has the identity as
            its covariance.
        scales: The distance of each layer from which on a row is novel.
    """

    means: Array
    whitenings: Array
    scales: tuple[float, ...]
    kind: ClassVar[str] = "layers"
    _means: Array = field(init=False, repr=False)
    _whitenings: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # In float32, directions that hardly vary would be lost in the rounding of others.
        object.__setattr__(self, "_means", self.means.astype(np.float64))
        object.__setattr__(self, "_whitenings", self.whitenings.astype(np.float64))

    def distances(self, given: Array) -> Array:
        """Mahalanobis distances, float64 of shape (n, l); not finite where hidden states are not.

        Args:
            given: Hidden states, float of shape (n, l, d).

        Raises:
            CheckpointError: If they are of another shape.
        """
        states = np.asarray(given, dtype=np.float64)
        if states.ndim != 3 or states.shape[1:] != self.means.shape:
            layers, d = self.means.shape
            raise CheckpointError(
                f"The novelty score is of hidden states of shape (rows, {layers}, {d}), but the "
                f"model gave shape {states.shape}. {_AGAIN}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            white = np.matmul((states - self._means).transpose(1, 0, 2), self._whitenings)
            return np.asarray(np.sqrt(np.einsum("lnd,lnd->nl", white, white)))

    def score(self, given: Array) -> Array:
        """How novel each row is, float64 of shape (n,): its most novel layer counts.

        Args:
            given: See `distances`.

        Raises:
            CheckpointError: See `distances`.
        """
        return _largest(self.distances(given), self.scales)

    def arrays(self) -> dict[str, Array]:
        """What `as_json` has no room for."""
        return {"means": self.means, "whitenings": self.whitenings}

    def as_json(self) -> dict[str, Any]:
        """What `novelty_of` makes the same score of, with `arrays`."""
        return {"kind": self.kind, "scales": list(self.scales)}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """How far columns are from those of the training data: its numbers, and how rare its values.

    Attributes:
        columns: How p columns of numbers, and others of categories, are read.
        numbers: A single layer of d = 2p numbers; null if p is 0.
        scales: The distance of numbers, and the bits of categories, from which on a row is novel.
    """

    columns: Columns
    numbers: Layers | None
    scales: tuple[float, ...]
    kind: ClassVar[str] = "table"

    def distances(self, given: Mapping[str, Array]) -> Array:
        """Mahalanobis distance of the numbers, and rarity of the categories in bits.

        Args:
            given: Columns of shape (n,), as `salver.types.Batch.columns` makes them.

        Returns:
            float64 of shape (n, 2).

        Raises:
            CheckpointError: If there is no column of a name.
        """
        missing = [name for name in self.columns.names if name not in given]
        if missing:
            raise CheckpointError(
                f"The novelty score reads columns that the rows do not have: {missing}. {_AGAIN}"
            )
        rarity = self.columns.rarity(given)
        if self.numbers is None:
            return np.column_stack([np.zeros_like(rarity), rarity])
        apart = self.numbers.distances(self.columns.matrix(given)[:, None])
        return np.column_stack([apart, rarity])

    def score(self, given: Mapping[str, Array]) -> Array:
        """How novel each row is, float64 of shape (n,): the larger of both counts.

        Args:
            given: See `distances`.

        Raises:
            CheckpointError: See `distances`.
        """
        return _largest(self.distances(given), self.scales)

    def arrays(self) -> dict[str, Array]:
        """What `as_json` has no room for."""
        return {} if self.numbers is None else self.numbers.arrays()

    def as_json(self) -> dict[str, Any]:
        """What `novelty_of` makes the same score of, with `arrays`."""
        scales = list(self.scales)
        return {"kind": self.kind, "scales": scales, "columns": self.columns.as_json()}


Novelty = Layers | Words | Table
_Kind = TypeVar("_Kind", Layers, Words, Table)
_Given = TypeVar("_Given")


def _largest(distances: Array, scales: tuple[float, ...]) -> Array:
    return np.asarray((distances / np.array(scales)).max(axis=1))


def fit_layers(train: Array | None, held_out: Array) -> tuple[Layers, Array]:
    """A Gaussian of each layer, its covariance shrunk (Ledoit & Wolf 2004).

    Args:
        train: Hidden states of rows that the model was trained on, float of shape (n, l, d), n at
            least 20; null fits on the held-out rows.
        held_out: Those of other rows, float of shape (m, l, d), m at least 20.

    Returns:
        The score, and what each held-out row scores as if it had not been seen, float64 of shape
        (m,): by Gaussians that were fitted without it. Without training rows, and with few for the
        size, that is a little more than a new row will score, for the last Gaussian sees them all.

    Raises:
        ConfigError: If there are too few rows, or they are of other shapes or not finite.
    """
    for states in (held_out,) if train is None else (held_out, train):
        if states.ndim != 3 or states.shape[1:] != held_out.shape[1:] or not states[:1].size:
            raise ConfigError(
                f"Hidden states are of shape {states.shape}; novelty needs (rows, layers, size), "
                "the same for training rows and held-out ones."
            )
        if not np.isfinite(states).all():
            raise ConfigError(
                "Some hidden states are not finite; leave out rows that the model fails on."
            )
    return _fitted(
        _gaussians, Layers.distances, lambda states, at: states[at], len, train, held_out
    )


def fit_words(train: Sequence[str] | None, held_out: Sequence[str]) -> tuple[Words, Array]:
    """The words of the training texts.

    Args:
        train: n texts that the model was trained on, at least 20; null takes the held-out ones.
        held_out: m others, at least 20.

    Returns:
        The score, and what each held-out text scores as if it had not been seen, float64 of shape
        (m,).

    Raises:
        ConfigError: If there are too few texts, or no words in them.
    """
    # Of all texts, or those of fewer would score apart from each other where all words are known.
    rate = known_words(held_out if train is None else train).rate
    made, scores = _fitted(
        lambda texts: replace(known_words(texts), rate=rate, scales=(rate,)),
        Words.distances,
        lambda texts, at: [texts[i] for i in at],
        len,
        train,
        held_out,
    )
    if not made.vocabulary:
        raise ConfigError("The texts hold no words, so novelty cannot be told by them.")
    return made, scores


def fit_table(
    train: Mapping[str, Array] | None, held_out: Mapping[str, Array]
) -> tuple[Table, Array]:
    """The numbers and categories of the training rows.

    Args:
        train: Columns of rows that the model was trained on, of shape (n,), n at least 20; null
            takes the held-out ones. See `salver.types.Batch.columns`.
        held_out: The same columns of other rows, of shape (m,), m at least 20.

    Returns:
        The score, and what each held-out row scores as if it had not been seen, float64 of shape
        (m,).

    Raises:
        ConfigError: If there are too few rows, a column is missing, or none can be read.
    """
    missing = set(train or ()) - set(held_out)
    if missing:
        raise ConfigError(f"The held-out rows lack columns of the training rows: {sorted(missing)}")
    made, scores = _fitted(
        _read_table,
        Table.distances,
        lambda columns, at: {name: column[at] for name, column in columns.items()},
        lambda columns: len(next(iter(columns.values()), ())),
        train,
        held_out,
    )
    if not made.columns.names:
        raise ConfigError(
            f"Novelty cannot be told by the columns {sorted(held_out)}: none holds numbers, or "
            "texts that occur in several rows each."
        )
    return made, scores


def _gaussians(states: Array) -> Layers:
    """One for each layer; no scale is less than one standard deviation."""
    both = [_gaussian(states[:, layer].astype(np.float64)) for layer in range(states.shape[1])]
    means, whitenings = (np.stack(parts).astype(np.float32) for parts in zip(*both, strict=True))
    return Layers(means, whitenings, (1.0,) * len(both))


def _gaussian(rows: Array) -> tuple[Array, Array]:
    """Mean of shape (d,) and whitening of shape (d, d), from rows of shape (n, d)."""
    from sklearn.covariance import LedoitWolf

    found = LedoitWolf(store_precision=False).fit(rows)
    variances, directions = np.linalg.eigh(found.covariance_)
    # What does not vary at all still does so by rounding.
    least = max((_ROUNDING * float(np.abs(rows).max())) ** 2, 1e-30)
    return found.location_, directions / np.sqrt(np.maximum(variances, least))


def _read_table(given: Mapping[str, Array]) -> Table:
    """No scale is less than one standard deviation, or one bit."""
    columns = read_columns(given)
    numbers = _gaussians(columns.matrix(given)[:, None]) if columns.numbers else None
    return Table(columns, numbers, (1.0, 1.0))


def _fitted(
    make: Callable[[_Given], _Kind],
    measure: Callable[[_Kind, _Given], Array],
    take: Callable[[_Given, Array], _Given],
    size: Callable[[_Given], int],
    train: _Given | None,
    held_out: _Given,
) -> tuple[_Kind, Array]:
    """A score with its scales, and the scores of the held-out rows."""
    for what, rows in (("held-out", held_out), ("training", train)):
        if rows is not None and size(rows) < FEWEST:
            raise ConfigError(
                f"{size(rows)} {what} rows are too few to tell by what is novel; give at least "
                f"{FEWEST}."
            )
    if train is None:
        made, n = make(held_out), size(held_out)
        distances = np.empty((n, len(made.scales)))
        # Shuffled, for files are often sorted.
        for out in np.array_split(np.random.default_rng(0).permutation(n), FOLDS):
            within = np.setdiff1d(np.arange(n), out)
            distances[out] = measure(make(take(held_out, within)), take(held_out, out))
    else:
        made = make(train)
        distances = measure(made, held_out)
    made = replace(made, scales=_scales(distances, made.scales))
    return made, _largest(distances, made.scales)


def _scales(distances: Array, least: tuple[float, ...]) -> tuple[float, ...]:
    """Quantiles of each column, then all by one factor so that 1 is the quantile of the largest."""
    found = tuple(max(_edge(column), low) for column, low in zip(distances.T, least, strict=True))
    factor = max(_edge(_largest(distances, found)), 1.0)
    return tuple(scale * factor for scale in found)


def _edge(values: Array) -> float:
    """What one more value is beyond in 5 % of all cases at most (Vovk et al. 2005)."""
    n = len(values)
    return float(np.sort(values)[min(math.ceil(ORDINARY * (n + 1)), n) - 1])


def novelty_of(stored: Mapping[str, Any], arrays: Mapping[str, Array]) -> Novelty:
    """The score that was stored.

    Args:
        stored: What its `as_json` gave.
        arrays: What its `arrays` gave.

    Raises:
        CheckpointError: If it is of an unknown kind, or arrays are of other shapes.
    """
    kind = stored.get("kind")
    try:
        scales = tuple(positive(scale) for scale in stored["scales"])
        if kind == Layers.kind:
            return _layers(arrays, scales, len(scales))
        if kind == Words.kind and len(scales) == 1:
            return _words(arrays["vocabulary"], finite(stored["rate"]), scales)
        if kind == Table.kind and len(scales) == 2:
            columns = columns_of(stored["columns"])
            d = 2 * len(columns.numbers)
            return Table(columns, _layers(arrays, (1.0,), 1, d) if d else None, scales)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The stored novelty score of kind {kind!r} cannot be read ({error!r}). {_AGAIN}"
        ) from error
    raise CheckpointError(
        f"The stored novelty score is of kind {kind!r}; this version of Salver knows "
        f"{Layers.kind}, {Table.kind} and {Words.kind}. {_AGAIN}"
    )


def _layers(
    arrays: Mapping[str, Array], scales: tuple[float, ...], layers: int, d: int | None = None
) -> Layers:
    means, whitenings = arrays["means"], arrays["whitenings"]
    d = means.shape[-1] if d is None else d
    if not (layers and means.shape == (layers, d) and whitenings.shape == (layers, d, d)):
        raise ValueError(f"arrays of shapes {means.shape} and {whitenings.shape}")
    if not (means.dtype == whitenings.dtype == np.float32):
        raise ValueError(f"arrays of {means.dtype} and {whitenings.dtype}")
    if not (np.isfinite(means).all() and np.isfinite(whitenings).all()):
        raise ValueError("numbers that are not finite")
    return Layers(means, whitenings, scales)


def _words(vocabulary: Array, rate: float, scales: tuple[float, ...]) -> Words:
    if vocabulary.dtype != np.uint8 or vocabulary.ndim != 1 or not vocabulary.size:
        raise ValueError(f"a vocabulary of {vocabulary.dtype} and shape {vocabulary.shape}")
    return Words(frozenset(vocabulary.tobytes().decode().split("\n")), rate, scales)
