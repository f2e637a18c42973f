"""Reads folders of images: each file is a row, its bytes as base64 in the one field for them.

It does not decode an image, and does not know where rows go.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from salver.errors import MissingColumns
from salver.offline.columns import refuse_missing
from salver.offline.csv_records import MAX_ROW_BYTES, too_long
from salver.offline.rows import Block, Cursor
from salver.offline.sources import InputFile, Source
from salver.offline.text_readers import opened
from salver.schema import Schema
from salver.types import Failure

NAME = "file"  # the column of the output that says which image a row is


class ImageReader:
    """One row per file.

    Args:
        source: The files.
        schema: Checks the rows; exactly one of its fields holds bytes as base64.
        fill_defaults: Whether other fields may be left to their defaults.

    Raises:
        MissingColumns: If the schema has no such field, or needs others.
    """

    columns = None  # of the file there is only its name

    def __init__(self, source: Source, schema: Schema, *, fill_defaults: bool) -> None:
        self._source = source
        self._schema = schema
        self._field = _bytes_field(schema)
        refuse_missing(source.files[0].name, [self._field], schema, fill_defaults)

    def blocks(self, start: Cursor, block_rows: int = 1) -> Iterator[Block]:
        """The files from `start` on; a block is one, however large blocks may be."""
        del block_rows
        for i in range(start.file, len(self._source.files)):
            if start.file == i and start.row:
                continue  # a job that is resumed has it
            yield self._block(i, self._source.files[i])

    def _block(self, index: int, file: InputFile) -> Block:
        return Block(
            file=file.name,
            first=0,
            lines=None,
            checked=[self._checked(file)],
            given=[{NAME: file.name}],
            size=file.size,
            end=Cursor(index, row=1),
            bytes_done=file.size,
        )

    def _checked(self, file: InputFile) -> Any:
        if file.size > MAX_ROW_BYTES:
            return Failure("malformed_row", f"{file.name}: {too_long(file.size)}.")
        with opened(self._source, file, 0) as (stream, _):
            row = {self._field: base64.b64encode(stream.read()).decode()}
        result = self._schema.check_rows([row])
        return result.rejected.get(0) or result.batch.rows[0]


def _bytes_field(schema: Schema) -> str:
    properties = schema.json_schema()["properties"]
    found = [name for name in schema.names if _holds_bytes(properties.get(name, {}))]
    if len(found) == 1:
        return found[0]
    has = f"has {', '.join(map(repr, found))}" if found else "has none"
    raise MissingColumns(
        f"Images go into the one field of {schema.model.__name__} that holds bytes as base64, and it "
        f"{has}. Give a table whose columns are the fields, or a model with one field of "
        "pydantic.Base64Bytes (`binary` in a signature of MLflow)."
    )


def _holds_bytes(described: Any) -> bool:
    members = [described, *described.get("anyOf", ())]
    return any("base64" in (m.get("contentEncoding"), m.get("format")) for m in members)
