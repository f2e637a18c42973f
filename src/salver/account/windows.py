"""How answered rows changed over time, and which parts of them are answered worst.

It does not know where rows were kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from salver.account.promises import share
from salver.account.results import Observed, Part, Window
from salver.account.rows import Rows
from salver.trust import drift
from salver.trust.slices import parts as slices

WINDOWS = 20
LEAST = 50  # rows of a window, but for the only one
NOVELTY = "Novelty"
CHANCE = 0.05  # of a population stability index


def windows(rows: Rows, reference: Rows | None) -> list[Window]:
    """Up to 20 windows of equally many rows, in the order of time."""
    count = max(1, min(WINDOWS, len(rows) // LEAST))
    edges = np.linspace(0, len(rows), count + 1).astype(int)
    return [
        _window(rows.take(slice(start, end)), reference)
        for start, end in pairwise(edges.tolist())
        if end > start
    ]


def precision_of(rows: Rows) -> Observed:
    """Right ones among labelled rows that were answered."""
    return share(int(rows.right[rows.judged].sum()), int(rows.judged.sum()))


def answered_of(rows: Rows) -> Observed:
    """Rows with the model's own answer, of those with a result."""
    return share(int(rows.answered.sum()), int((~rows.failed).sum()))


def novel_of(rows: Rows) -> Observed:
    """Rows with a result that were withheld as novel."""
    return share(int((rows.withheld_by == NOVELTY).sum()), int((~rows.failed).sum()))


def parts(rows: Rows, inputs: Sequence[Mapping[str, Any] | None]) -> tuple[list[Part], int]:
    """Parts of the labelled rows that were answered, the worst first, and how many were looked at.

    Args:
        rows: All of them, n.
        inputs: What was asked with each of the n; null where that was not kept.
    """
    given = np.flatnonzero(rows.judged)
    kept = [inputs[i] or {} for i in given.tolist()]
    names = list(dict.fromkeys(name for one in kept for name in one))
    columns: dict[str, list[Any]] = {name: [one.get(name) for one in kept] for name in names}
    texts = [name for name, values in columns.items() if any(isinstance(v, str) for v in values)]
    if len(texts) == 1 and 2 * len(set(columns[texts[0]])) > len(given):
        del columns[texts[0]]  # could be cut by length alone, as by that of all texts
    columns["text length"] = rows.length[given].tolist()
    columns["answer"] = rows.prediction[given].tolist()
    found, seen = slices(columns, rows.right[given])
    return [
        Part(
            one.column,
            one.value,
            share(one.hits, one.of),
            one.others_hits / one.others_of if one.others_of else None,
            one.p_value,
            one.is_real,
        )
        for one in found
    ], seen


def _window(rows: Rows, reference: Rows | None) -> Window:
    shares = Counter(rows.answers())
    results = int((~rows.failed).sum())
    sure = rows.confidence[~np.isnan(rows.confidence)]
    return Window(
        start=float(rows.at[0]),
        end=float(rows.at[-1]),
        rows=len(rows),
        failed=len(rows) - results,
        answered=answered_of(rows),
        right=precision_of(rows),
        novel=novel_of(rows),
        confidence=float(sure.mean()) if len(sure) else None,
        psi=None if reference is None else _psi(reference, rows),
        shares={name: count / results for name, count in sorted(shares.items())},
    )


def _psi(reference: Rows, rows: Rows) -> float | None:
    counts = [Counter(one.answers()) for one in (reference, rows)]
    names = sorted({*counts[0], *counts[1]})
    sizes = [one.total() for one in counts]
    # What chance alone gives on average; where that is much, the index tells nothing.
    if not all(sizes) or (len(names) - 1) * sum(1 / size for size in sizes) > CHANCE:
        return None
    return drift.population_stability_index(*(np.array([c[n] for n in names]) for c in counts))
