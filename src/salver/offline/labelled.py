"""Labelled rows: what a model is judged or calibrated on, with the columns beyond its input.

It does not know what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Protocol

from salver.definition import Deployment
from salver.errors import ConfigError, InputUnreadable
from salver.offline.readers import open_reader
from salver.offline.rows import Chunk, Cursor, chunks
from salver.offline.sources import find
from salver.schema import Schema
from salver.types import Batch

_REASON = 300  # letters of a reason that are shown


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows of a file that fit the input model.

    Attributes:
        batch: The rows.
        given: The same rows as they were read, with columns beyond the input model's.
        unfit: How many other rows the file has, which do not fit.
    """

    batch: Batch
    given: list[dict[str, Any]]
    unfit: int = 0

    def take(self, indices: Iterable[int]) -> Labelled:
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        return Labelled(self.batch.take(chosen), [self.given[i] for i in chosen], self.unfit)

    def labels(self, column: str) -> tuple[str, ...]:
        """The texts of one column; empty where there is none."""
        return tuple(_text(row.get(column)) for row in self.given)


class Form(Protocol):
    """What rows are to fit: a deployment's input, or a form of its own."""

    @property
    def name(self) -> str:
        """Of whose input it is."""
        ...

    @property
    def schema(self) -> Schema:
        """What a row must look like."""
        ...


def read(
    path: str,
    form: Form,
    *,
    fill_defaults: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Labelled:
    """All rows of a file or folder that fit; others are left out.

    Args:
        path: Of the file or folder.
        form: What the rows are to fit, such as a deployment's input.
        fill_defaults: Whether columns may be absent whose fields have a default.
        say: Told how many rows are left out, and why the first one is; not asked if none is.

    Raises:
        InputUnreadable: If it cannot be read, or no row fits.
        MissingColumns: If it lacks columns of the input model.
    """
    schema, source = form.schema, find(path)
    blocks = open_reader(source, schema, fill_defaults=fill_defaults).blocks(Cursor())
    before = [0] * (len(source.files) + 1)
    batch, given = schema.check_rows([]).batch, []
    unfit, first = 0, ""
    for chunk in chunks(blocks, schema.fields, first=0, chunk_rows=10_000, bytes_before=before):
        batch += chunk.batch
        read_ = [block.as_read(i) for block in chunk.blocks for i in range(len(block))]
        given += [read_[position] for position in chunk.positions]
        unfit += len(chunk.rejected)
        if chunk.rejected and not first:
            first = f": the first, {_refusal(chunk)}"
    if not given:
        raise InputUnreadable(f"No row of {path} fits the input of {form.name}{first or '.'}")
    if unfit:
        say(
            f"{unfit:,} of {unfit + len(given):,} rows of {path} do not fit the input of "
            f"{form.name}, and are left out{first}"
        )
    return Labelled(batch, given, unfit)


def _refusal(chunk: Chunk) -> str:
    """Where the first row stands that does not fit, and why it does not."""
    position = min(chunk.rejected)
    block, i = chunk.locate(position)
    where = ", ".join(f"{name} {value}" for name, value in block.position(i).items())
    return f"{where}: {shorten(chunk.rejected[position].message, _REASON, placeholder=' ...')}"


def label_column(rows: Labelled, names: Collection[str], classes: Collection[str]) -> str:
    """The only column beyond the input whose values are all classes; empty if there is none.

    Args:
        rows: As read.
        names: Fields of the input model.
        classes: Of the model.
    """
    extra = [name for name in rows.given[0] if name not in names]
    texts = {name: set(rows.labels(name)) - {""} for name in extra}
    found = [name for name in extra if texts[name] and texts[name] <= set(classes)]
    return found[0] if len(found) == 1 else ""


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    # What were whole numbers, with some missing, is read as floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def chosen_label(
    rows: Labelled, given: str | None, path: str, deployment: Deployment, classes: Collection[str]
) -> str:
    """The column of the true class; empty if none is named and none fits.

    Args:
        rows: As read.
        given: Name that the user gave, or null.
        path: Of the file, for people.
        deployment: Whose input model the rows fit.
        classes: Of the model.

    Raises:
        ConfigError: If there is no such column, or none of its values is a class.
    """
    if given is None:
        return label_column(rows, deployment.schema.names, classes)
    if given not in rows.given[0]:
        raise ConfigError(
            f"There is no column {given!r} in {path}; it has {', '.join(rows.given[0])}."
        )
    if not set(rows.labels(given)) & set(classes):
        named = ", ".join(classes) or "none, for it gives no probabilities"
        raise ConfigError(
            f"No value of the column {given!r} of {path} is a class of {deployment.name} ({named})."
        )
    return given
