"""Opens an input: one reader per format, all giving blocks of checked rows.

It does not know where rows go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from salver.errors import InputUnreadable
from salver.offline.columns import refuse_duplicates, refuse_missing
from salver.offline.image_reader import ImageReader
from salver.offline.rows import Block, Cursor, plain_values
from salver.offline.sources import InputFile, Source
from salver.offline.text_readers import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    CsvReader,
    JsonLinesReader,
)
from salver.schema import Schema
from salver.types import Failure


class Reader(Protocol):
    """Reads the files of one input.

    Attributes:
        columns: Arrow schema of the rows as read; null if it is not known before reading.
    """

    @property
    def columns(self) -> Any:
        """Arrow schema of the rows as read, or null."""
        ...

    def blocks(self, start: Cursor, block_rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """The rows from `start` on, in order, at most `block_rows` in a block.

        Raises:
            InputUnreadable: If a file turns out to be damaged.
        """
        ...


def open_reader(
    source: Source, schema: Schema, *, delimiter: str | None = None, fill_defaults: bool = False
) -> Reader:
    """The reader for the source's format; looks into every file's head.

    Raises:
        InputUnreadable: If a file cannot be read.
        MissingColumns: If a file lacks columns of the schema.
    """
    if source.format == "csv":
        return CsvReader(source, schema, delimiter=delimiter, fill_defaults=fill_defaults)
    if source.format == "image":
        return ImageReader(source, schema, fill_defaults=fill_defaults)
    if source.format == "jsonl":
        return JsonLinesReader(source, schema, fill_defaults=fill_defaults)
    return ParquetReader(source, schema, fill_defaults=fill_defaults)


class ParquetReader:
    """Rows of Parquet files; columns keep their Arrow types.

    Args:
        source: The files.
        schema: Checks the rows, as plain Python values.
        fill_defaults: Whether a column may be missing whose field has a default.

    Raises:
        InputUnreadable: If a file is damaged, or the types of two files do not go together.
        MissingColumns: If a file lacks columns of the schema.
    """

    def __init__(self, source: Source, schema: Schema, *, fill_defaults: bool) -> None:
        self._source = source
        self._schema = schema
        self.columns: Any = None
        for file in source.files:
            with _opened(source, file) as parquet:
                found = _bare(parquet.schema_arrow)
            refuse_duplicates(file.name, found.names)
            refuse_missing(file.name, found.names, schema, fill_defaults)
            self.columns = self._joined(found, file)

    def _joined(self, found: Any, file: InputFile) -> Any:
        if self.columns is None:
            return found
        try:
            return pa.unify_schemas([self.columns, found], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputUnreadable(
                f"The columns of {file.name} do not go with those of the files before it: {error}. "
                "Run one job for each kind of file."
            ) from None

    def blocks(self, start: Cursor, block_rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """The rows from `start` on."""
        for i in range(start.file, len(self._source.files)):
            yield from self._file(i, start.row if start.file == i else 0, block_rows)

    def _file(self, index: int, row: int, block_rows: int) -> Iterator[Block]:
        file = self._source.files[index]
        try:
            with _opened(self._source, file) as parquet:
                total = max(parquet.metadata.num_rows, 1)
                for batch in _batches(parquet, row, block_rows):
                    row += len(batch)
                    done = file.size * row // total
                    yield self._block(file, batch, Cursor(index, row), done)
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{file.name} cannot be read after row {row}: {error}") from error

    def _block(self, file: InputFile, batch: Any, end: Cursor, done: int) -> Block:
        names = [name for name in self._schema.names if name in batch.schema.names]
        columns = []
        garbled: dict[int, Failure] = {}
        for name in names:
            values, bad = plain_values(batch.column(name))
            columns.append(values)
            for i in bad:
                message = f"{name}: the text is no valid UTF-8"
                garbled.setdefault(i, Failure("invalid_input", message, path=(name,)))
        rows = [dict(zip(names, r, strict=True)) for r in zip(*columns, strict=True)]
        if not names:
            rows = [{} for _ in range(len(batch))]
        result = self._schema.check_rows(rows)
        checked: list[Any] = [None] * len(batch)
        for i, passed in zip(result.positions, result.batch.rows, strict=True):
            checked[i] = passed
        for i, failure in (*result.rejected.items(), *garbled.items()):
            checked[i] = failure
        given = self._with_types(batch)
        first = end.row - len(batch)
        return Block(file.name, first, None, checked, given, batch.nbytes, end, done)

    def _with_types(self, batch: Any) -> Any:
        """The batch with the types that the columns have over all files."""
        bare = batch.replace_schema_metadata(None)
        if bare.schema.equals(self.columns, check_metadata=True):
            return bare
        found = batch.schema.names
        columns = [
            batch.column(f.name).cast(f.type)
            if f.name in found
            else pa.nulls(len(batch), type=f.type)
            for f in self.columns
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.columns)


def _opened(source: Source, file: InputFile) -> Any:
    """The file, read in small pieces: not a row group at a time, which may be all of it."""
    try:
        stream = source.filesystem.open_input_file(file.path)
        return pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(f"{file.name} is no readable Parquet file: {error}") from None


def _bare(schema: Any) -> Any:
    """The schema without metadata, which belongs to the file and not to its rows."""
    return pa.schema([f.remove_metadata() for f in schema])


def _batches(parquet: Any, row: int, block_rows: int) -> Iterator[Any]:
    """Record batches from `row` on, cut at the same places wherever reading starts."""
    start = 0
    for group in range(parquet.num_row_groups):
        meta = parquet.metadata.row_group(group)
        end = start + meta.num_rows
        if row < end:
            per_row = max(meta.total_byte_size // max(meta.num_rows, 1), 1)
            size = max(1, min(block_rows, BLOCK_BYTES // per_row))
            at = start
            for batch in parquet.iter_batches(size, row_groups=[group], use_threads=False):
                at += len(batch)
                if at > row:
                    yield batch
        start = end
