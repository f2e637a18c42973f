"""Which files an input names: one file, a folder or a glob, local or on any pyarrow filesystem.

It knows names, sizes and digests. It does not know what stands in the files.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from salver.errors import InputUnreadable
from salver.offline.folder import INCOMPLETE, MARKERS

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?\[]")
_TOKENS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input.

    Attributes:
        name: Path below the folder that was given: how messages and the manifest call it.
        path: Path on the filesystem.
        size: Bytes on the filesystem, compressed if the file is.
        modified_ns: Time of the last change, nanoseconds since 1970; null if unknown.
        compression: pyarrow's name of it, or null.
    """

    name: str
    path: str
    size: int
    modified_ns: int | None
    compression: str | None

    @property
    def suffix(self) -> str:
        """The suffix that tells the format, in lower case: `.csv` for `a.CSV.gz`."""
        return _suffixes(self.name)[0]


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one input: in the order in which they are read, all of one format."""

    filesystem: Any
    format: str
    files: tuple[InputFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def bytes_before(self) -> list[int]:
        """Bytes of all files before each, and of all."""
        return list(accumulate((f.size for f in self.files), initial=0))

    def fingerprint(self) -> list[dict[str, Any]]:
        """What the files are: the digest of local ones, size and time of change of others."""
        return [{"file": f.name, "bytes": f.size, **self._digest(f)} for f in self.files]

    def refuse_changed(self) -> None:
        """Holds the files against what they were when the source was found.

        Raises:
            InputUnreadable: If a file was changed meanwhile: what was read is then no one state.
        """
        for f in self.files:
            info = self.filesystem.get_file_info(f.path)
            if (info.size, info.mtime_ns) != (f.size, f.modified_ns):
                raise InputUnreadable(
                    f"{f.name} was changed while it was read, so the results belong to no one state "
                    "of it. Run the job again with overwrite (--overwrite)."
                )

    def _digest(self, f: InputFile) -> dict[str, Any]:
        if not isinstance(self.filesystem, pafs.LocalFileSystem):
            return {"modified_ns": f.modified_ns}
        with Path(f.path).open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def find(given: str) -> Source:
    """The files that `given` names.

    Args:
        given: Path or URI of a file, a folder (all files below it) or a glob (`*`, `?`, `[...]`,
            and `**` for any folders). Names that start with `_` or `.` are skipped, and so are
            folders below that hold the output of an offline job.

    Raises:
        InputUnreadable: If there is no such file, or the files are not of one known format.
    """
    try:
        filesystem, infos, base = _listed(given)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputUnreadable(f"The input {given!r} cannot be reached: {error}") from None
    if not infos:
        raise InputUnreadable(
            f"The input {given!r} leads to no file. Give a file, a folder with files, or a glob; "
            "names that start with '_' or '.' are skipped."
        )
    files = tuple(_input_file(info, base) for info in sorted(infos, key=lambda i: i.path))
    formats = {FORMATS[f.suffix]: f.name for f in files}
    if len(formats) > 1:
        examples = ", ".join(f"{kind} ({name})" for kind, name in sorted(formats.items()))
        raise InputUnreadable(
            f"The input {given!r} holds several formats: {examples}. Choose one with a glob such as "
            "'folder/*.csv'."
        )
    return Source(filesystem, next(iter(formats)), files)


def _listed(given: str) -> tuple[Any, list[Any], str]:
    """Filesystem, file infos, and the folder below which the files are named."""
    filesystem, path = _resolved(given)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return filesystem, [info], str(PurePosixPath(path).parent)
    if info.type == pafs.FileType.Directory:
        return filesystem, _below(filesystem, path), path
    if not _MAGIC.search(given):
        raise OSError(f"there is no such file or folder.{_nearest(filesystem, path)}")
    fixed, pattern = _split_glob(given)
    filesystem, base = _resolved(fixed)
    matches = re.compile(_as_regex(pattern)).fullmatch
    special = any(part.startswith(("_", ".")) for part in pattern.split("/"))
    infos = _below(filesystem, base, recursive="/" in pattern or "**" in pattern, special=special)
    return filesystem, [i for i in infos if matches(_relative(i.path, base))], base


def _resolved(given: str) -> tuple[Any, str]:
    if _URI.match(given):
        filesystem, path = pafs.FileSystem.from_uri(given)
        return filesystem, path
    return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(given))


def _below(
    filesystem: Any, folder: str, *, recursive: bool = True, special: bool = False
) -> list[Any]:
    infos = filesystem.get_file_info(pafs.FileSelector(folder, recursive=recursive))
    names = {i.path for i in infos}
    if f"{folder}/{INCOMPLETE}" in names:
        raise OSError(
            "it is the output of an offline job that is not finished. Run that job again with "
            "resume (--resume) first."
        )
    # An older output below the input would otherwise be read as more input.
    outputs = {str(PurePosixPath(n).parent) for n in names if n.rsplit("/", 1)[-1] in MARKERS}
    return [
        i
        for i in infos
        if i.type == pafs.FileType.File
        and (special or not _hidden(_relative(i.path, folder)))
        and not any(str(p) in outputs - {folder} for p in PurePosixPath(i.path).parents)
    ]


def _hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.split("/"))


def _relative(path: str, base: str) -> str:
    return path[len(base) :].lstrip("/") if path.startswith(base) else path


def _split_glob(given: str) -> tuple[str, str]:
    first = _MAGIC.search(given)
    assert first is not None
    cut = given.rfind("/", 0, first.start()) + 1
    return given[:cut] or ".", given[cut:]


def _as_regex(pattern: str) -> str:
    known = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    out = []
    for token in _TOKENS.split(pattern):
        if token.startswith("[") and token.endswith("]"):
            out.append("[" + token[1:-1].replace("!", "^", 1).replace("\\", "\\\\") + "]")
        else:
            out.append(known.get(token) or re.escape(token))
    return "".join(out)


def _suffixes(name: str) -> tuple[str, str | None]:
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix)
    return (PurePosixPath(path.stem).suffix if compression else path.suffix), compression


def _input_file(info: Any, base: str) -> InputFile:
    name = _relative(info.path, base)
    suffix, compression = _suffixes(name)
    if suffix not in FORMATS or (compression and FORMATS[suffix] not in ("csv", "jsonl")):
        raise InputUnreadable(
            f"{name} has no known format. Known names end with {', '.join(FORMATS)}; of these "
            f"CSV and JSON Lines also with {', '.join(COMPRESSIONS)}. Rename it, or choose files with a glob such as "
            "'folder/*.csv'."
        )
    return InputFile(name, info.path, info.size, info.mtime_ns, compression)


def _nearest(filesystem: Any, path: str) -> str:
    parent = PurePosixPath(path).parent
    selector = pafs.FileSelector(str(parent), allow_not_found=True)
    names: Iterable[str] = [i.base_name for i in filesystem.get_file_info(selector)]
    close = difflib.get_close_matches(PurePosixPath(path).name, names, n=2)
    return f" Beside it stands {' and '.join(map(repr, close))}." if close else ""
