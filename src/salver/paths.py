"""The one guard for every path that comes from an artefact or a request.

A path is judged twice: by its spelling (`check_relative`, which touches no disk) and by what lies
there (`safe_join`, which follows no link). This module does not know what the files mean, and it
trusts the root folder it is given: that one is the operator's choice.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from salver.errors import UnsafePath

_DRIVE = re.compile(r"[A-Za-z]:")
# The limits of Linux: longer names exist on no file system that can hold a checkpoint.
_LONGEST_NAME = 255
_LONGEST_PATH = 4096


def check_relative(relative: str) -> tuple[str, ...]:
    """The components of a relative path with `/` between them, judged by spelling alone.

    Each file has one spelling: `a/./b`, `a//b` and `a/` are refused like `../b`.

    Raises:
        UnsafePath: For an empty or absolute path, `.` or `..`, a backslash, a NUL, a drive letter,
            text that is not Unicode, or a name longer than a file system holds.
    """

    components = relative.split("/")
    if why := _misspelling(relative, components):
        shown = relative if len(relative) <= 80 else relative[:77] + "..."
        raise UnsafePath(
            f"The path {shown!r} {why}. Give a path inside the folder, such as 'weights/model.pt'."
        )
    return tuple(components)


def _misspelling(relative: str, components: list[str]) -> str | None:
    encoded = relative.encode(errors="replace")
    rules = [
        (not relative, "is empty"),
        ("\0" in relative, "contains a NUL character"),
        ("\\" in relative, "contains a backslash"),
        (relative.startswith("/"), "is absolute"),
        (".." in components, "leaves the folder through '..'"),
        ("" in components or "." in components, "has an empty or '.' component"),
        (any(map(_DRIVE.match, components)), "names a drive"),
        (encoded.decode() != relative, "is not valid Unicode"),
        (len(encoded) > _LONGEST_PATH, "is too long"),
        (max(map(len, encoded.split(b"/"))) > _LONGEST_NAME, "has a component that is too long"),
    ]
    return next((why for broken, why in rules if broken), None)


def safe_join(root: Path, relative: str, *, allow_hard_links: bool = True) -> Path:
    """`root/relative`, once it is sure to lie inside `root`.

    What does not exist yet is fine, so that outputs can be named too. A FIFO, a socket or a device
    is refused by looking, never by opening it.

    Args:
        root: A trusted folder; may itself be a link.
        relative: A path from outside, with `/` between its components.
        allow_hard_links: False refuses a file that has a second name, through which it could be
            changed later. Files that others made often have one for good reasons (package caches,
            snapshots), so this is for folders that only Salver writes.

    Raises:
        UnsafePath: When the spelling is refused (see `check_relative`), or a component is a link
            or neither a file nor a folder, or a folder is needed where a file lies.
    """
    components = check_relative(relative)
    path = root
    for depth, component in enumerate(components):
        path = path / component
        try:
            found = path.lstat()
        except FileNotFoundError:
            return root.joinpath(*components)
        except OSError as error:
            raise UnsafePath(
                f"The path {relative!r} cannot be looked at in {root}: {error.strerror}. "
                "Check the permissions of the folder."
            ) from error
        is_last = depth == len(components) - 1
        if why := _refusal(found, is_last, allow_hard_links):
            raise UnsafePath(
                f"The path {relative!r} in {root} is refused: {component!r} {why}. "
                "Put the file itself into the folder."
            )
    return path


def _refusal(found: os.stat_result, is_last: bool, allow_hard_links: bool) -> str | None:
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        return "is neither a file nor a folder"
    if not is_last:
        return "is a file, not a folder"
    if found.st_nlink > 1 and not allow_hard_links:
        return f"is a hard link ({found.st_nlink} names for one file)"
    return None


def walk(root: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files of a folder by their relative names, in no order.

    Raises:
        UnsafePath: For what is neither a file nor a folder, and for names that are refused.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            name = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from walk(root / entry.name, name + "/")
            elif not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise UnsafePath(
                    f"{entry.path} is {kind}; a checkpoint holds regular files only. "
                    "Put a copy of the file itself there."
                )
            else:
                check_relative(name)
                yield name, entry


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file to read; never follows a link in the last component, never waits.

    `safe_join` looks and this opens: a file that was swapped in between is caught here.

    Raises:
        UnsafePath: When the path is a link, a folder, a FIFO or a device by now.
        FileNotFoundError: When nothing is there.
    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafePath(
            f"{path} cannot be opened as a regular file: {error.strerror}. "
            "Put the file itself there, readable for this user."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePath(f"{path} is not a regular file. Put the file itself there.")
    return os.fdopen(descriptor, "rb")
