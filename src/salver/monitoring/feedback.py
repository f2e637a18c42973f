"""True labels from a file, for answers that are on record here or at a running service.

It does not know what the labels say of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from salver.account.records import Label, class_text
from salver.account.store import Store
from salver.client import Client
from salver.errors import ConfigError, TooManyRows
from salver.offline.labelled import read
from salver.online.feedback import MAX_LABEL
from salver.reports.terminal import plain
from salver.schema import Schema

AT_ONCE = 1000  # labels in one request, as many rows as a service takes


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns of a file of labels.

    Attributes:
        request_id: Of the request that the row came with.
        label: The true class.
        row: Position in the request; the column may be missing.
    """

    request_id: str = "request_id"
    label: str = "label"
    row: str = "row"


@dataclass(frozen=True, slots=True)
class Told:
    """The labels of a file.

    Attributes:
        labels: Those that name a row.
        notes: What is wrong with the others, for people.
    """

    labels: list[Label]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Form:
    """What a row of the file must look like."""

    name: str
    schema: Schema


def labels_in(path: str, columns: Columns, deployment: str = "") -> Told:
    """The labels of a CSV, JSON Lines or Parquet file.

    Args:
        path: Of the file or folder.
        columns: Which of its columns say what.
        deployment: Whose answers they are of; empty for all that an id stands for.

    Raises:
        MissingColumns: If there are no request ids.
        ConfigError: If there are no labels.
        InputUnreadable: If it cannot be read.
    """
    of_request: Any = Field(alias=columns.request_id, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    of_row: Any = Field(0, alias=columns.row, ge=0)
    model = create_model("Feedback", request_id=(str, of_request), row=(int, of_row))
    notes: list[str] = []
    rows = read(path, _Form("salver feedback", Schema(model)), fill_defaults=True, say=notes.append)
    if not any(columns.label in row for row in rows.given):
        raise ConfigError(
            f"{path} has no column {columns.label!r}; it has {plain(', '.join(rows.given[0]))}. Name "
            "that of the true class with --label."
        )
    at = time.time()
    texts = [class_text(row.get(columns.label)) or "" for row in rows.given]
    labels = [
        Label(request_id, row, text, at, deployment)
        for (request_id, row), text in zip(rows.batch.rows, texts, strict=True)
        if 0 < len(text) <= MAX_LABEL
    ]
    if len(labels) < len(texts):
        notes.append(
            f"{len(texts) - len(labels):,} rows have no class as their {columns.label}, and are left "
            "out."
        )
    return Told(labels, notes)


def store(labels: Sequence[Label], path: Path) -> int:
    """Keeps labels in an account; says how many are of answers in it.

    Raises:
        AccountError: If there is no account at the path, or it cannot be written.
    """
    with Store.existing(path) as account:
        return sum(account.label(part) for part in _parts(labels))


def post(labels: Sequence[Label], url: str, api_key: str | None) -> int:
    """Tells a running service labels; says how many are of answers on its record.

    Raises:
        SalverError: If the service cannot be asked, or refuses.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url was given {url!r}; it takes a URL such as http://127.0.0.1:8000.")
    with Client(url, api_key=api_key) as client:
        return sum(_posted(client, part) for part in _parts(labels))


def _posted(client: Client, labels: Sequence[Label]) -> int:
    names = ("request_id", "row", "label", "deployment")
    try:
        return client.feedback([{n: getattr(one, n) for n in names} for one in labels])
    except TooManyRows:  # the service takes fewer at once
        half = len(labels) // 2
        if not half:
            raise
        return _posted(client, labels[:half]) + _posted(client, labels[half:])


def _parts(labels: Sequence[Label]) -> list[Sequence[Label]]:
    return [labels[start : start + AT_ONCE] for start in range(0, len(labels), AT_ONCE)]
