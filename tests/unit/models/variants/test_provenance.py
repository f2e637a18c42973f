"""What a variant was made from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from salver.models.variants import provenance
from salver.models.variants.provenance import changed, sources, versions


def test_source_files_of_the_users_own_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were imported, and no library."""
    (tmp_path / "own_network.py").write_text("layers = 3")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("own_network")
    try:
        found = sources("own_service")
    finally:
        del sys.modules["own_network"]
    assert str(tmp_path / "own_network.py") in found
    assert not [path for path in found if "numpy" in path or path.endswith("salver/errors.py")]


def test_an_installed_package_counts_if_the_class_is_of_it() -> None:
    """Its version need not change with its code."""
    assert [path for path in sources("numpy") if path.endswith("numpy/__init__.py")]


def test_what_changes_is_named(tmp_path: Path) -> None:
    """A file, and a file that is gone."""
    path = tmp_path / "net.py"
    path.write_text("1")
    digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    files = {str(path): digest}
    assert "" == changed(files, versions())
    path.write_text("2")
    assert f"{path} has changed" == changed(files, versions())
    path.unlink()
    assert f"{path} is gone" == changed(files, versions())


def test_another_version_of_a_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both, and also where there was none."""
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "2.13.0"})
    assert "torch was 2.12.0 and is 2.13.0" == changed({}, {"torch": "2.12.0"})
    assert "torch was absent and is 2.13.0" == changed({}, {})
    assert "" == changed({}, {"torch": "2.13.0"})
