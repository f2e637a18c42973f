"""Asks the model itself, in this process: what it says to rows, and what it holds of them inside.

It does not know what the answers are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from salver.errors import ConfigError
from salver.lengths import Lengths
from salver.offline.results import batches
from salver.outputs import Array
from salver.pipeline import Pipeline
from salver.policies import Scored
from salver.types import Batch

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model said to n rows, in their order.

    Attributes:
        rows: Positions of those that it answered, m of them.
        scored: The m answers.
        hidden: float32 of shape (m, l, d): hidden states; null if it gives none.
    """

    rows: Array
    scored: Scored
    hidden: Array | None


def heard(pipeline: Pipeline, batch: Batch, size: int, lengths: Lengths, tell: Progress) -> Heard:
    """Asks all rows, in batches of similar length; a batch that fails is asked row by row.

    Args:
        pipeline: Of the model, without policies.
        batch: The rows.
        size: Most rows in a batch.
        lengths: Measures rows.
        tell: Told how many rows of how many are done.

    Raises:
        ConfigError: If the model answers no row at all.
    """
    found: list[_Row] = []
    done = 0
    for group in batches(batch, size, lengths):
        found += _asked(pipeline, batch, group)
        done += len(group)
        tell(done, len(batch))
    if not found:
        raise ConfigError("The model fails at every row, so there is nothing to calibrate.")
    return _together(sorted(found, key=lambda row: row.position))


class _Row(NamedTuple):
    """One row: where it was, its answer as row `at` of `scored`, and its hidden states."""

    position: int
    scored: Scored
    at: int
    hidden: Array | None


def _asked(pipeline: Pipeline, batch: Batch, group: Sequence[int]) -> list[_Row]:
    try:
        scored, failures, hidden = pipeline.heard(batch.take(group))
    except Exception:  # noqa: BLE001 - a model may raise anything
        if len(group) == 1:
            return []
        return [row for one in group for row in _asked(pipeline, batch, [one])]
    return [
        _Row(position, scored, at, None if hidden is None else hidden[at])
        for at, position in enumerate(group)
        if at not in failures and (hidden is None or np.isfinite(hidden[at]).all())
    ]


def _together(found: Sequence[_Row]) -> Heard:
    first = found[0].scored
    given = [
        None if r.scored.probabilities is None else r.scored.probabilities[r.at] for r in found
    ]
    if any((one is None) != (given[0] is None) for one in given):
        raise ConfigError("The model gives probabilities with some rows, and none with others.")
    hidden = [row.hidden for row in found if row.hidden is not None]
    columns: dict[str, list[Any]] = {
        name: [row.scored.columns[name][row.at] for row in found]
        for name in first.columns
        if all(name in row.scored.columns for row in found)
    }
    scored = Scored(
        columns,
        None if given[0] is None else np.array(given, dtype=np.float64),
        first.classes,
        np.zeros(len(found), dtype=bool),
    )
    return Heard(
        np.array([row.position for row in found]),
        scored,
        np.array(hidden) if len(hidden) == len(found) else None,
    )
