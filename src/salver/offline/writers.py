"""Makes the bytes of parts: Parquet, JSON Lines or CSV, the same bytes for the same rows.

A writer keeps the layout that all rows so far need. It does not know folders nor disks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from salver.offline.csv_records import allow_long_cells
from salver.offline.layout import Layout, as_table, mappings_as_table, renamed_input, widened
from salver.offline.rows import as_mappings, dump
from salver.types import ClassProbabilities

Format = Literal["parquet", "jsonl", "csv"]
Results = Mapping[str, Sequence[Any]]


class Writer(Protocol):
    """Makes the bytes of parts.

    Attributes:
        layout: The columns that the rows encoded so far need.
    """

    layout: Layout

    def encode(self, inputs: Any, results: Results) -> bytes:
        """A part with the columns of the input and the results; widens the layout.

        Args:
            inputs: An Arrow table, or one mapping per row.
            results: One value per row in each column.

        Raises:
            TypeError, UnicodeEncodeError: If a result is no valid Unicode or exceeds 64 bits; the
                layout is then as before.
        """
        ...

    def widen(self, part: bytes, old: Layout) -> bytes:
        """A part that was encoded under `old`, as it is under the present layout."""
        ...


def writer_for(kind: Format, columns: Any) -> Writer:
    """The writer of a format.

    Args:
        kind: The format.
        columns: Arrow schema of the input; null if it is not known before reading.
    """
    inputs = pa.schema([]) if columns is None else columns
    if kind == "parquet":
        return ParquetWriter(inputs)
    return CsvWriter(inputs) if kind == "csv" else JsonLinesWriter()


def load() -> None:
    """Has Arrow import what it takes for its first table (pandas, where it is installed)."""
    _as_parquet(pa.table({}), pa.table({"a": [""]}), Layout())


class ParquetWriter:
    """Parquet; class probabilities are a struct of doubles."""

    def __init__(self, inputs: Any) -> None:
        self.layout = Layout(inputs)
        self._columns = tuple(inputs.names)  # none if only reading tells

    def encode(self, inputs: Any, results: Results) -> bytes:
        """See `Writer`."""
        names = self._columns or dict.fromkeys(name for row in inputs for name in row)
        given = inputs if isinstance(inputs, pa.Table) else mappings_as_table(inputs, names)
        found = as_table(results)
        layout = self.layout.joined(given.schema, found.schema)
        data = _as_parquet(given, found, layout)
        self.layout = layout
        return data

    def widen(self, part: bytes, old: Layout) -> bytes:
        """See `Writer`."""
        columns = pq.ParquetFile(pa.BufferReader(part)).read().columns
        n = len(old.inputs)
        given = _table(columns[:n], old.inputs)
        return _as_parquet(given, _table(columns[n:], old.results), self.layout)


def _table(columns: Sequence[Any], schema: Any) -> Any:
    # Parquet has no seconds, for example: what was read is cast to what was written.
    cast = [c.cast(f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(cast, schema=schema)


def _as_parquet(inputs: Any, results: Any, layout: Layout) -> bytes:
    columns = [*widened(inputs, layout.inputs).columns, *widened(results, layout.results).columns]
    table = pa.Table.from_arrays(columns, schema=layout.output)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(len(table), 1))
    data: bytes = sink.getvalue().to_pybytes()
    return data


class JsonLinesWriter:
    """JSON Lines; results are written as they are answered online."""

    def __init__(self) -> None:
        self.layout = Layout()  # for the names of results; each line names its own columns

    def encode(self, inputs: Any, results: Results) -> bytes:
        """See `Writer`."""
        rows = as_mappings(inputs) if isinstance(inputs, pa.Table) else inputs
        taken = set(results)
        lines = []
        for i, row in enumerate(rows):
            given = {renamed_input(name, taken): value for name, value in row.items()}
            lines.append(dump({**given, **{name: column[i] for name, column in results.items()}}))
        names = pa.schema([(name, pa.null()) for name in results])
        self.layout = self.layout.joined(pa.schema([]), names)
        return b"".join(line + b"\n" for line in lines)

    def widen(self, part: bytes, old: Layout) -> bytes:
        """See `Writer`; lines are never widened."""
        return part


class CsvWriter:
    """CSV (RFC 4180, lines end with LF); `probabilities.<class>` columns, other lists as JSON."""

    def __init__(self, inputs: Any) -> None:
        self.layout = Layout(_texts(inputs.names))
        self._columns = tuple(inputs.names)  # none if only reading tells

    def encode(self, inputs: Any, results: Results) -> bytes:
        """See `Writer`."""
        rows = as_mappings(inputs) if isinstance(inputs, pa.Table) else inputs
        flat = _flattened(results)
        names = self._columns or dict.fromkeys(name for row in rows for name in row)
        layout = self.layout.joined(_texts(names), _texts(flat))
        given = [[row.get(name) for name in layout.inputs.names] for row in rows]
        found = [flat.get(name) or [None] * len(given) for name in layout.results.names]
        data = _as_csv(layout, ([*row, *(c[i] for c in found)] for i, row in enumerate(given)))
        self.layout = layout
        return data

    def widen(self, part: bytes, old: Layout) -> bytes:
        """See `Writer`."""
        before = [*(("i", n) for n in old.inputs.names), *(("r", n) for n in old.results.names)]
        now = [
            *(("i", n) for n in self.layout.inputs.names),
            *(("r", n) for n in self.layout.results.names),
        ]
        allow_long_cells()
        _header, *rows = csv.reader(io.StringIO(part.decode(), newline=""))
        at = {key: i for i, key in enumerate(before)}
        wider = ([row[at[key]] if key in at else None for key in now] for row in rows)
        return _as_csv(self.layout, wider)


def _texts(names: Iterable[str]) -> Any:
    return pa.schema([(name, pa.string()) for name in names])


def _flattened(results: Results) -> dict[str, Sequence[Any]]:
    """Results with a column of its own for each key of a column of mappings."""
    flat: dict[str, Sequence[Any]] = {}
    for name, values in results.items():
        if isinstance(values, ClassProbabilities):
            for k, label in enumerate(values.classes):
                flat[f"{name}.{label}"] = [row[k] for row in values.values]
        elif any(isinstance(v, Mapping) for v in values):
            keys = dict.fromkeys(k for v in values if isinstance(v, Mapping) for k in v)
            for key in keys:
                column = [v.get(key) if isinstance(v, Mapping) else None for v in values]
                flat[f"{name}.{key}"] = column
            if any(v is not None and not isinstance(v, Mapping) for v in values):
                flat[name] = [None if isinstance(v, Mapping) else v for v in values]
        else:
            flat[name] = values
    return flat


_QUOTED = re.compile(r'[",\r\n]')


def _as_csv(layout: Layout, rows: Iterable[Sequence[Any]]) -> bytes:
    lines = [layout.output.names, *rows]
    return "".join(",".join(map(_cell, row)) + "\n" for row in lines).encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else dump(value).decode()
    if text is not value and text.startswith('"'):  # a date, say
        text = text[1:-1]
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
