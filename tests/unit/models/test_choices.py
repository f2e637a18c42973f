"""Choices: files beside a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from salver.errors import CheckpointError
from salver.models import choices
from salver.models.choices import Choice

CHOICE = Choice("Tagger", "openvino-bf16", "d" * 64, "twice as fast", "2026-01-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_a_choice_is_found_by_checkpoint_and_version() -> None:
    """Not by another of either."""
    page = choices.write(choices.OPTIMIZED, ["a" * 64], "1", CHOICE, "<html>")
    assert "<html>" == page.read_text()
    assert CHOICE == choices.read(choices.OPTIMIZED, ["a" * 64], "1")
    assert choices.read(choices.OPTIMIZED, ["a" * 64], "2") is None
    assert choices.read(choices.OPTIMIZED, ["b" * 64], "1") is None


def test_several_checkpoints_count_in_any_order() -> None:
    """They are arguments of one model."""
    choices.write(choices.OPTIMIZED, ["a", "b"], "1", CHOICE, "")
    assert CHOICE == choices.read(choices.OPTIMIZED, ["b", "a"], "1")


def test_another_version_with_a_variant_is_noticed() -> None:
    """Only of the same deployment, and if it has one."""
    choices.write(choices.OPTIMIZED, ["a"], "1", CHOICE, "")
    assert choices.of_other_versions(choices.OPTIMIZED, ["a"], "Tagger")
    assert not choices.of_other_versions(choices.OPTIMIZED, ["a"], "Other")
    choices.write(choices.OPTIMIZED, ["a"], "1", Choice("Tagger", None, "", "", ""), "")
    assert not choices.of_other_versions(choices.OPTIMIZED, ["a"], "Tagger")


def test_a_damaged_choice_is_an_error(cache: Path) -> None:
    """That says what to do."""
    choices.write(choices.OPTIMIZED, ["a"], "1", CHOICE, "")
    (choices.folder_of(choices.OPTIMIZED, ["a"]) / "1.json").write_text("{")
    with pytest.raises(CheckpointError, match="salver optimize again"):
        choices.read(choices.OPTIMIZED, ["a"], "1")


def test_another_user_may_read_a_choice() -> None:
    """Of a cache that is shared, or baked into an image."""
    page = choices.write(choices.OPTIMIZED, ["a"], "1", CHOICE, "")
    assert 0o644 == page.stat().st_mode & 0o777
