from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from salver.errors import UnsafePath
from salver.paths import check_relative, open_regular, safe_join


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file and a folder, and a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    inside = tmp_path / "root"
    (inside / "folder").mkdir(parents=True)
    (inside / "model.pt").write_bytes(b"weights")
    (inside / "folder" / "vocab.txt").write_text("a b")
    return inside


SPELLINGS = {
    "empty": "",
    "parent": "..",
    "parent first": "../secret.txt",
    "parent inside": "folder/../../secret.txt",
    "parent that stays inside": "folder/../model.pt",
    "absolute": "/etc/passwd",
    "absolute twice": "//etc/passwd",
    "backslash": "folder\\vocab.txt",
    "backslash parent": "..\\secret.txt",
    "drive": "C:/secret.txt",
    "drive without slash": "C:secret.txt",
    "drive inside": "folder/C:secret.txt",
    "NUL": "model.pt\0.txt",
    "dot": ".",
    "dot inside": "folder/./vocab.txt",
    "double slash": "folder//vocab.txt",
    "trailing slash": "folder/",
    "lone surrogate": "model\ud800.pt",
    "long name": "a" * 256,
    "long name of few letters": "é" * 128,
    "long path": "/".join(["abcdefgh"] * 500),
}


@pytest.mark.parametrize("relative", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_path_that_is_spelt_wrong_is_refused(root: Path, relative: str) -> None:
    """Whatever is not one plain relative spelling is refused, and by spelling alone."""
    with pytest.raises(UnsafePath, match=r"Give a path inside the folder"):
        check_relative(relative)
    with pytest.raises(UnsafePath):
        safe_join(root, relative)


@pytest.mark.parametrize(
    "relative", ["model.pt", "folder", "folder/vocab.txt", "%2e%2e", "a b#?.é"]
)
def test_a_path_inside_is_joined(root: Path, relative: str) -> None:
    """A plain path is joined as it is; percent signs and the like mean themselves."""
    assert root / relative == safe_join(root, relative)


def test_a_path_to_come_is_joined(root: Path) -> None:
    """What does not exist yet can be named, however deep."""
    assert root / "new" / "part-0.parquet" == safe_join(root, "new/part-0.parquet")


def test_the_root_itself_may_be_a_link(root: Path) -> None:
    """Where the root lies is the operator's choice."""
    link = root.parent / "link"
    link.symlink_to(root)

    assert link / "model.pt" == safe_join(link, "model.pt")


@pytest.mark.parametrize(
    ("link", "to", "asked"),
    [
        ("link.txt", "../secret.txt", "link.txt"),
        ("link.txt", "model.pt", "link.txt"),
        ("link.txt", "nowhere", "link.txt"),
        ("up", "..", "up/secret.txt"),
        ("inner", "folder", "inner/vocab.txt"),
        ("folder/up", "../..", "folder/up/secret.txt"),
    ],
    ids=["last", "last, inside", "dangling", "parent", "parent, inside", "deep"],
)
def test_a_symbolic_link_is_refused(root: Path, link: str, to: str, asked: str) -> None:
    """A link is refused in any component, wherever it leads."""
    (root / link).symlink_to(to)

    with pytest.raises(UnsafePath, match="symbolic link"):
        safe_join(root, asked)


def test_a_hard_link_is_refused_where_it_matters(root: Path) -> None:
    """A second name for a file is refused on demand only, for caches have good reasons for it."""
    os.link(root.parent / "secret.txt", root / "hard.txt")

    assert root / "hard.txt" == safe_join(root, "hard.txt")
    with pytest.raises(UnsafePath, match="hard link"):
        safe_join(root, "hard.txt", allow_hard_links=False)


@pytest.mark.timeout(10)
def test_a_fifo_is_refused_without_waiting_for_a_writer(root: Path) -> None:
    """Neither looking at a FIFO nor opening it hangs."""
    os.mkfifo(root / "pipe")

    with pytest.raises(UnsafePath, match="neither a file nor a folder"):
        safe_join(root, "pipe")
    with pytest.raises(UnsafePath, match="not a regular file"):
        open_regular(root / "pipe")


def test_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is no file."""
    monkeypatch.chdir(root)  # the names of sockets must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")

        with pytest.raises(UnsafePath, match="neither a file nor a folder"):
            safe_join(root, "socket")


def test_a_device_is_refused() -> None:
    """A device is no file."""
    with pytest.raises(UnsafePath, match="neither a file nor a folder"):
        safe_join(Path("/dev"), "zero")


def test_a_file_in_place_of_a_folder_is_refused(root: Path) -> None:
    """A path through a file says which component is one."""
    with pytest.raises(UnsafePath, match=r"'model.pt' is a file, not a folder"):
        safe_join(root, "model.pt/x")


def test_opening_follows_no_link_that_was_swapped_in(root: Path) -> None:
    """A file that became a link after it was looked at is not opened."""
    path = safe_join(root, "model.pt")
    path.unlink()
    path.symlink_to(root.parent / "secret.txt")

    with pytest.raises(UnsafePath, match="cannot be opened as a regular file"):
        open_regular(path)


def test_opening_reads_a_regular_file(root: Path) -> None:
    """A regular file opens for reading; a missing one is FileNotFoundError."""
    with open_regular(root / "model.pt") as file:
        assert file.read() == b"weights"
    with pytest.raises(FileNotFoundError):
        open_regular(root / "nothing")
    with pytest.raises(UnsafePath):
        open_regular(root / "folder")
