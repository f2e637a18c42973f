"""The journal of an offline job: what was started, and what is committed.

One JSON object a line: first what the job is (its identity), then one entry per chunk, then one
per part that was widened at the end. An entry counts only while the files that it names are on
the disk as it says. It does not know rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import orjson

from salver.errors import ManifestMismatch
from salver.offline.folder import JOURNAL, OutputFolder, refused
from salver.offline.layout import Layout
from salver.offline.rows import Cursor

Written = dict[str, Any]  # name, bytes and sha256 of a file
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk that is committed.

    Attributes:
        chunk: Its number.
        next: Where the next chunk starts.
        rows: Rows of it.
        bad: Rows of it that failed.
        codes: How many failed, by code.
        abstained: Rows at which a policy withheld the model's own answer.
        part: Its part, or null if no row got a result.
        quarantine: Its quarantine file, or null if no row failed.
        layout: Layout of all parts up to this one.
    """

    chunk: int
    next: Cursor
    rows: int
    bad: int
    codes: Mapping[str, int]
    abstained: int
    part: Written | None
    quarantine: Written | None
    layout: Layout


class Journal:
    """Appends to the journal of a folder, and reads it back.

    Attributes:
        entries: Committed chunks in order, without gaps.
        widened: Parts that were widened since, by chunk, with their layout.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self.entries: list[Entry] = []
        self.widened: dict[int, tuple[Written, Layout]] = {}

    @classmethod
    def start(cls, folder: OutputFolder, identity: Mapping[str, Any]) -> Journal:
        """Starts the journal of a new job."""
        folder.write(JOURNAL, _line({"start": identity}))
        return cls(folder)

    @classmethod
    def resume(cls, folder: OutputFolder, identity: Mapping[str, Any]) -> Journal:
        """Reads the journal back, up to the first chunk whose files are not as it says.

        Raises:
            ManifestMismatch: If it is the journal of another job.
        """
        journal = cls(folder)
        start, *lines = _whole_lines(folder.read(JOURNAL))
        refuse_other(start.get("start", {}), identity)
        layout = Layout()
        for line in lines:
            if "widened" in line:
                then = Layout.from_json(line["layout"])
                journal.widened[line["widened"]] = (line["part"], then)
                continue
            if line["layout"] is not None:
                layout = Layout.from_json(line["layout"])
            given = {**line, "next": Cursor(*line["next"]), "layout": layout}
            journal.entries.append(Entry(**given))
        journal._trust_the_disk()
        folder.write(JOURNAL, b"".join([_line({"start": identity}), *journal._as_lines()]))
        return journal

    def commit(self, entry: Entry) -> None:
        """Adds a chunk whose files are on the disk."""
        self._append(self._entry_line(entry))
        self.entries.append(entry)

    def widen(self, chunk: int, part: Written, layout: Layout) -> None:
        """Says what the part of a chunk will be; to be called before it is replaced.

        The part is then trusted in its old and in its new form, whenever the job is killed.
        """
        self._append(_widened_line(chunk, part, layout))
        self.widened[chunk] = (part, layout)

    def present(self, entry: Entry) -> tuple[Written | None, Layout]:
        """The part of a chunk as it is now, and its layout."""
        return self.widened.get(entry.chunk, (entry.part, entry.layout))

    def files(self) -> set[str]:
        """Names of all files that count."""
        written = [w for e in self.entries for w in (e.part, e.quarantine) if w]
        return {w["file"] for w in written}

    def _trust_the_disk(self) -> None:
        holds = self._folder.holds
        trusted = 0
        for i, entry in enumerate(self.entries):
            wider = self.widened.get(i)
            if wider is not None and not holds(wider[0]):
                del self.widened[i]
                wider = None
            if entry.chunk != i or not holds(entry.quarantine):
                break
            if wider is None and not holds(entry.part):
                break
            trusted += 1
        del self.entries[trusted:]
        self.widened = {i: w for i, w in self.widened.items() if i < trusted}

    def _as_lines(self) -> list[bytes]:
        entries, self.entries = self.entries, []
        lines = []
        for entry in entries:
            lines.append(self._entry_line(entry))
            self.entries.append(entry)
        return lines + [_widened_line(i, *w) for i, w in self.widened.items()]

    def _entry_line(self, entry: Entry) -> bytes:
        # Layouts are long and rarely change, so that only changes are written.
        before = self.entries[-1].layout if self.entries else None
        layout = None if before == entry.layout else entry.layout.to_json()
        return _line({f.name: getattr(entry, f.name) for f in fields(entry)} | {"layout": layout})

    def _append(self, line: bytes) -> None:
        try:
            with (self._folder.path / JOURNAL).open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise refused(self._folder.path, error) from error


def begun(data: bytes) -> dict[str, Any]:
    """The identity of the job that a journal was begun with; empty if it is cut off before."""
    start: dict[str, Any] = _whole_lines(data)[0].get("start", {})
    return start


def refuse_other(started: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Holds what a folder was started with against what is to be done now.

    Raises:
        ManifestMismatch: Naming each difference.
    """
    before, now = _flat(started), _flat(identity)
    differing = [k for k in dict.fromkeys([*before, *now]) if before.get(k) != now.get(k)]
    if not differing:
        return
    shown = [
        f"{key} (started with {before.get(key, 'nothing')!r}, now {now.get(key, 'nothing')!r})"
        for key in differing[:_SHOWN]
    ]
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ManifestMismatch(
        f"This job is not the one that the output folder was started with: {'; '.join(shown)}{more}. "
        "Resume with the model, input and options of then, or say overwrite (--overwrite) to start "
        "anew."
    )


def as_plain_json(value: Any) -> Any:
    """The value as it comes back from a JSON file; what JSON does not know becomes its text."""
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, list) and all(isinstance(v, dict) and "file" in v for v in value):
        value = {v["file"]: {k: w for k, w in v.items() if k != "file"} for v in value}
    if isinstance(value, dict):
        flat: dict[str, Any] = {}
        for key, inner in value.items():
            flat |= _flat(inner, f"{path}.{key}" if path else str(key))
        return flat
    return {path: value}


def _widened_line(chunk: int, part: Written, layout: Layout) -> bytes:
    return _line({"widened": chunk, "part": part, "layout": layout.to_json()})


def _line(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value, default=list) + b"\n"


def _whole_lines(data: bytes) -> list[dict[str, Any]]:
    """The lines up to the first that was not written whole."""
    lines = []
    for line in data.splitlines(keepends=True):
        try:
            parsed = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        if not line.endswith(b"\n"):
            break
        lines.append(parsed)
    return lines or [{}]
