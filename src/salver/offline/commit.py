"""Commits the chunks of an offline job, and ends it: parts, quarantine, journal, manifest.

It does not know readers nor replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import orjson

from salver import __version__
from salver.errors import InvalidOption, ManifestMismatch, TooManyBadRows
from salver.offline.folder import JOURNAL, MANIFEST, QUARANTINE, OutputFolder, local_folder
from salver.offline.journal import Entry, Journal, Written, as_plain_json, begun, refuse_other
from salver.offline.results import Results, merged
from salver.offline.rows import Chunk, Cursor
from salver.offline.writers import Format, writer_for

MANIFEST_VERSION = 1
_NOT_SHAPING = {"resume", "overwrite", "max_bad_rows"}  # options that change no byte of a part


@dataclass(frozen=True)
class JobOptions:
    """How a job reads and writes.

    Attributes:
        format: Of the parts: "parquet", "jsonl" or "csv".
        resume: Go on where a job with the same model, input and options was interrupted.
        overwrite: Delete the output of an earlier job first.
        max_bad_rows: Most rows that may fail before the job stops; null means that any number
            goes to quarantine.
        delimiter: Of CSV input; null finds it in the header.
        fill_defaults: Whether the input may lack a column whose field has a default.
        chunk_rows: Rows that are committed together.

    Raises:
        InvalidOption: For a value that an option cannot take.
    """

    format: Format = "parquet"
    resume: bool = False
    overwrite: bool = False
    max_bad_rows: int | None = None
    delimiter: str | None = None
    fill_defaults: bool = False
    chunk_rows: int = 4096

    def __post_init__(self) -> None:
        if self.format not in ("parquet", "jsonl", "csv"):
            raise InvalidOption("format", self.format, "'parquet', 'jsonl' or 'csv'")
        if self.resume and self.overwrite:
            raise InvalidOption("overwrite", True, "false where resume is true: choose one")
        if self.max_bad_rows is not None and not _is_count(self.max_bad_rows, 0):
            raise InvalidOption("max_bad_rows", self.max_bad_rows, "a whole number >= 0, or null")
        if not _is_count(self.chunk_rows, 1):
            raise InvalidOption("chunk_rows", self.chunk_rows, "a whole number >= 1")
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n' or ord(self.delimiter) > 127
        ):
            raise InvalidOption("delimiter", self.delimiter, "one ASCII character, or null")


def _is_count(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def identity_of(
    deployment: str,
    version: str,
    plan: Mapping[str, Any],
    options: JobOptions,
    prints: list[dict[str, Any]],
) -> dict[str, Any]:
    """All that decides the bytes of the output; two jobs with the same identity are the same.

    Args:
        deployment: Name of the deployment.
        version: Digest of what answers.
        plan: What else shapes the answers.
        options: How to read and write.
        prints: What the files of the input are.
    """
    shaping = {f.name: getattr(options, f.name) for f in fields(options)}
    identity: dict[str, Any] = as_plain_json(
        {
            "format_version": MANIFEST_VERSION,
            "salver": __version__,
            "deployment": deployment,
            "version": version,
            "plan": plan,
            "options": {k: v for k, v in shaping.items() if k not in _NOT_SHAPING},
            "input": prints,
        }
    )
    return identity


def completed(folder: OutputFolder, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a finished job, with the status "already complete".

    Raises:
        ManifestMismatch: If it is another job, or its files were changed since.
    """
    manifest: dict[str, Any] = orjson.loads(folder.read(MANIFEST))
    refuse_other({key: manifest.get(key) for key in identity}, identity)
    written = [w for p in manifest["parts"] for w in (p["part"], p["quarantine"])]
    if changed := [w["file"] for w in written if not folder.holds(w)]:
        raise ManifestMismatch(
            f"The job in {folder.path} was finished, but these files are no longer what its "
            f"manifest says: {', '.join(changed[:5])}. Say overwrite (--overwrite) to start anew."
        )
    (folder.path / JOURNAL).unlink(missing_ok=True)
    return {**manifest, "status": "already complete"}


def begun_batch_size(output: str) -> int | None:
    """Rows in a batch of the job that an output folder was begun with; null if there is none.

    Raises:
        InvalidOption: If the folder is not on a local disk.
    """
    folder = OutputFolder(local_folder(output))
    name = MANIFEST if folder.finished else JOURNAL
    if not (folder.path / name).is_file():
        return None
    data = folder.read(name)
    identity = orjson.loads(data) if folder.finished else begun(data)
    size = identity.get("plan", {}).get("max_batch_size")
    return size if _is_count(size, 1) else None


class Committer:
    """Puts chunks into the folder, in order.

    Args:
        folder: Held by this job.
        identity: What the job is.
        options: How to write.
        columns: Arrow schema of the input, or null if it is not known before reading.
    """

    def __init__(
        self,
        folder: OutputFolder,
        identity: Mapping[str, Any],
        options: JobOptions,
        columns: Any,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._options = options
        self._writer = writer_for(options.format, columns)
        self._journal = Journal(folder)
        self._bad = 0

    def open(self) -> None:
        """Prepares the folder: from the start, or where an earlier run stopped.

        Raises:
            ManifestMismatch: If the earlier run was of another job.
            OutputExists: If what is to be overwritten holds files of others.
        """
        folder = self._folder
        if self._options.resume and (folder.path / JOURNAL).exists():
            self._journal = Journal.resume(folder, self._identity)
            folder.remove_all_but(self._journal.files())
        else:
            if folder.begun:
                folder.clear()
            folder.begin()
            self._journal = Journal.start(folder, self._identity)
        entries = self._journal.entries
        self._bad = sum(entry.bad for entry in entries)
        if entries:
            self._writer.layout = entries[-1].layout

    @property
    def next_chunk(self) -> int:
        """Number of the next chunk."""
        return len(self._journal.entries)

    def done(self) -> tuple[int, int, Cursor]:
        """Rows that are committed, how many of them failed, and where reading goes on."""
        entries = self._journal.entries
        return sum(e.rows for e in entries), self._bad, entries[-1].next if entries else Cursor()

    def commit(self, chunk: Chunk, results: Results) -> None:
        """Part and quarantine first, then the line of the journal that makes them count.

        Raises:
            TooManyBadRows: If more rows failed than the job allows; the chunk is not committed.
            OfflineError: If the disk refuses.
        """
        data = results.encode(self._writer)
        failed = len(results.failures)
        self._refuse_too_many(results, failed)
        name = f"part-{chunk.index:05d}"
        part = None if data is None else self._folder.write(self._named(name), data)
        bad = results.quarantine()
        quarantine = bad and self._folder.write(f"{QUARANTINE}/{name}.jsonl", bad)
        self._journal.commit(
            Entry(
                chunk=chunk.index,
                next=chunk.end,
                rows=len(chunk),
                bad=failed,
                codes=results.codes(),
                abstained=results.abstained,
                part=part,
                quarantine=quarantine or None,
                layout=self._writer.layout,
            )
        )
        self._bad += failed

    def finish(self, refuse_changed: Callable[[], None]) -> dict[str, Any]:
        """Gives all parts one layout, writes the manifest, and marks the folder as complete.

        Args:
            refuse_changed: Raises if the input is no longer what it was.

        Returns:
            The manifest.
        """
        refuse_changed()
        self._widen()
        manifest = {**self._identity, **self._totals()}
        text = orjson.dumps(manifest, option=orjson.OPT_INDENT_2)
        self._folder.write(MANIFEST, text + b"\n")
        self._folder.finish()
        return manifest

    def _named(self, name: str) -> str:
        return f"{name}.{self._options.format}"

    def _refuse_too_many(self, results: Results, failed: int) -> None:
        limit = self._options.max_bad_rows
        if limit is None or self._bad + failed <= limit:
            return
        raise TooManyBadRows(
            f"{self._bad + failed} rows failed up to here; max_bad_rows allows {limit}. The first "
            f"that is not in {self._folder.path / QUARANTINE}: {results.first_failure()} Mend the "
            "input, or resume with a higher limit."
        )

    def _widen(self) -> None:
        """Encodes again the parts that were written before the layout was what it is now."""
        journal, folder, layout = self._journal, self._folder, self._writer.layout
        for entry in journal.entries:
            part, then = journal.present(entry)
            if part is not None and then != layout:
                wider = self._writer.widen(folder.read(part["file"]), then)
                journal.widen(entry.chunk, folder.described(part["file"], wider), layout)
                folder.write(part["file"], wider)

    def _totals(self) -> dict[str, Any]:
        entries = self._journal.entries
        parts = [self._of_manifest(entry) for entry in entries]
        if not any(p["part"] for p in parts):
            # A table without rows, rather than no table.
            empty = self._folder.write(self._named("part-00000"), self._writer.encode([], {}))
            parts = parts or [{"rows": 0, "bad": 0, "part": None, "quarantine": None}]
            parts[0]["part"] = empty
        rows = sum(e.rows for e in entries)
        totals = {
            "rows": rows,
            "ok": rows - self._bad,
            "bad": self._bad,
            "bad_by_code": merged([e.codes for e in entries]),
            "abstained": sum(e.abstained for e in entries),
        }
        names = self._writer.layout.results.names
        return {"totals": totals, "result_columns": names, "parts": parts}

    def _of_manifest(self, entry: Entry) -> dict[str, Any]:
        part: Written | None = self._journal.present(entry)[0]
        return {
            "rows": entry.rows,
            "bad": entry.bad,
            "part": part,
            "quarantine": entry.quarantine,
        }
