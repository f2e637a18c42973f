"""The rows that candidates are judged and calibrated on: never the same ones.

It does not know what a candidate is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.definition import Deployment
from salver.errors import ConfigError, InputUnreadable
from salver.offline.readers import open_reader
from salver.offline.rows import Cursor, chunks
from salver.offline.sources import find
from salver.types import Batch

LEAST = 100  # to judge on: of fewer rows, the 99th percentile is simply the largest
MOST = 1000  # that are judged on; more would take long and say little more
CALIBRATION = 320  # more made int8 graphs no better where it was measured
SHARE = 1 / 3  # of one file, for calibration


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows of a file that fit the input model.

    Attributes:
        batch: The rows.
        given: The same rows as they were read, with columns beyond the input model's.
    """

    batch: Batch
    given: list[dict[str, Any]]

    def take(self, indices: Iterable[int]) -> Labelled:
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        return Labelled(self.batch.take(chosen), [self.given[i] for i in chosen])

    def labels(self, column: str) -> tuple[str, ...]:
        """The texts of one column."""
        return tuple(str(row.get(column)) for row in self.given)


def read(path: str, deployment: Deployment) -> Labelled:
    """All rows of a file or folder that fit; others are left out.

    Raises:
        InputUnreadable: If it cannot be read, or no row fits.
    """
    schema, source = deployment.schema, find(path)
    blocks = open_reader(source, schema).blocks(Cursor())
    before = [0] * (len(source.files) + 1)
    batch, given = schema.check_rows([]).batch, []
    for chunk in chunks(blocks, schema.fields, first=0, chunk_rows=10_000, bytes_before=before):
        batch += chunk.batch
        read_ = [block.as_read(i) for block in chunk.blocks for i in range(len(block))]
        given += [read_[position] for position in chunk.positions]
    if not given:
        raise InputUnreadable(f"No row of {path} fits the input of {deployment.name}.")
    return Labelled(batch, given)


def divided(held_out: Labelled, others: Labelled | None) -> tuple[Labelled, Labelled]:
    """Rows to judge on, and rows to calibrate on; none, and no equal of one, is in both.

    Args:
        held_out: Rows that the model was not trained on.
        others: Rows for calibration, such as those of training; null takes some of the held-out.

    Raises:
        ConfigError: If too few are left to judge on.
    """
    order = np.random.default_rng(0).permutation(len(held_out.given)).tolist()
    if others is None:
        few = min(CALIBRATION, int(len(order) * SHARE))
        calibration, order = held_out.take(order[:few]), order[few:]
    else:
        chosen = np.random.default_rng(1).permutation(len(others.given))[:CALIBRATION]
        calibration = others.take(chosen.tolist())
    used = {repr(row) for row in calibration.batch.rows}
    left = [i for i in order if repr(held_out.batch.rows[i]) not in used]
    if len(left) < LEAST:
        raise ConfigError(
            f"{len(left)} rows are left to judge candidates on, and it takes at least {LEAST}: of "
            "fewer, nothing can be said of the 99th percentile. Give more held-out rows with --on"
            + ("." if others else ", or rows for calibration of their own with --calibrate-on.")
        )
    return held_out.take(left[:MOST]), calibration


def label_column(rows: Labelled, names: Collection[str], classes: Collection[str]) -> str:
    """The only column beyond the input whose values are all classes; empty if there is none.

    Args:
        rows: As read.
        names: Fields of the input model.
        classes: Of the model.
    """
    extra = [name for name in rows.given[0] if name not in names]
    found = [name for name in extra if set(rows.labels(name)) <= set(classes)]
    return found[0] if len(found) == 1 else ""
