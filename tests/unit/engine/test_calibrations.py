"""Calibrations among the checkpoints of a deployment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from salver import Checkpoint, Precision, checkpoint, deployment
from salver.engine.calibrations import model_version, with_calibrations
from salver.engine.loading import CALIBRATION, version_of
from salver.errors import ConfigError
from salver.models import choices
from salver.models.choices import Choice
from salver.models.variants import PLACE as VARIANT
from salver.policies import HeldOut, Scored
from salver.testing import StubModel
from salver.trust.calibrators import Identity
from salver.trust.fitted import Fitted


class Text(BaseModel):
    text: str


tagger: Any = deployment(input=Text, name="tagger")(StubModel)


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A checkpoint, and a cache with nothing in it."""
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    digest = Checkpoint.create(tmp_path / "model").digest
    return {"0": {"path": str(tmp_path / "model"), "digest": digest}}


def bound(tmp_path: Path, **options: Any) -> Any:
    return tagger.options(**options).bind(checkpoint(str(tmp_path / "model")))


def calibrate(tmp_path: Path, one: Any, resolved: Any, note: str = "a note", n: int = 300) -> str:
    """As `salver calibrate` leaves it: right wherever it is sure."""
    sure = np.linspace(0.3, 1.0, n)
    scored = Scored(
        {}, np.stack([sure, 1 - sure], axis=1), ("a", "b"), np.zeros(n, dtype=bool), sure
    )
    folder = tmp_path / f"made {note}"
    folder.mkdir()
    Fitted(Identity(), None, HeldOut(scored, sure > 0.6, np.zeros(n, dtype=int))).save(folder)
    digest = Checkpoint.create(folder, {"note": note}).digest
    kept = tmp_path / "cache" / "checkpoints" / digest
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, kept)
    choice = Choice("tagger", "identity", digest, note, "now")
    original = [r["digest"] for place, r in resolved.items() if place != VARIANT]
    choices.write(choices.CALIBRATED, original, model_version(one, resolved), choice, "")
    return digest


def test_a_calibration_is_found_whatever_the_policies(
    tmp_path: Path, resolved: dict[str, dict[str, Any]]
) -> None:
    """It is one of the model; and part of the version of its answers."""
    digest = calibrate(tmp_path, bound(tmp_path), resolved)
    strict = bound(tmp_path, policy=Precision(0.9))
    found, notes = with_calibrations([strict], {"tagger": resolved})
    assert digest == found["tagger"][CALIBRATION]["digest"]
    assert ["tagger: a note"] == notes
    assert version_of(strict, resolved) != version_of(strict, found["tagger"])
    other = bound(tmp_path, batch_format="pandas")
    assert CALIBRATION not in with_calibrations([other], {"tagger": resolved})[0]["tagger"]


def test_a_variant_has_its_own_or_that_of_the_original(
    tmp_path: Path, resolved: dict[str, dict[str, Any]]
) -> None:
    """To which it is faithful."""
    one = bound(tmp_path)
    varied = {**resolved, VARIANT: {"path": "there", "digest": "f" * 64}}
    first = calibrate(tmp_path, one, resolved)
    found, _ = with_calibrations([one], {"tagger": varied})
    assert first == found["tagger"][CALIBRATION]["digest"]
    own = calibrate(tmp_path, one, varied, "of the variant")
    found, _ = with_calibrations([one], {"tagger": varied})
    assert own == found["tagger"][CALIBRATION]["digest"]
    found, _ = with_calibrations([one], {"tagger": resolved})
    assert first == found["tagger"][CALIBRATION]["digest"]


def test_promises_are_checked_before_anything_is_loaded(
    tmp_path: Path, resolved: dict[str, dict[str, Any]]
) -> None:
    """Those that nobody has held-out rows for, and those that these rows do not allow."""
    given = {"tagger": resolved}
    with pytest.raises(ConfigError, match="salver calibrate"):
        with_calibrations([bound(tmp_path, policy=Precision(0.9))], given)
    calibrate(tmp_path, bound(tmp_path), resolved, n=60)
    with_calibrations([bound(tmp_path, policy=Precision(0.5))], given)
    with pytest.raises(ConfigError, match=r"^tagger: .*held-out rows"):
        with_calibrations([bound(tmp_path, policy=Precision(0.999))], given)


def test_a_lost_calibration_is_said(tmp_path: Path, resolved: dict[str, dict[str, Any]]) -> None:
    """The model does without, if its policies can."""
    one = bound(tmp_path)
    shutil.rmtree(tmp_path / "cache" / "checkpoints" / calibrate(tmp_path, one, resolved))
    found, notes = with_calibrations([one], {"tagger": resolved})
    assert CALIBRATION not in found["tagger"]
    assert "the cache has lost its calibration" in notes[0]


def test_a_damaged_calibration_is_as_good_as_lost(
    tmp_path: Path, resolved: dict[str, dict[str, Any]]
) -> None:
    """A promise says what to do; a model without one does without."""
    one = bound(tmp_path)
    digest = calibrate(tmp_path, one, resolved)
    (tmp_path / "cache" / "checkpoints" / digest / "calibration.json").write_text("{}")
    found, notes = with_calibrations([one], {"tagger": resolved})
    assert CALIBRATION not in found["tagger"]
    assert "salver calibrate again" in notes[0]
    with pytest.raises(ConfigError, match="salver calibrate"):
        with_calibrations([bound(tmp_path, policy=Precision(0.5))], {"tagger": resolved})
