"""What was calibrated, stored and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.outputs import BadModelOutput
from salver.policies import HeldOut, Scored
from salver.trust.calibrators import Temperature, confidence
from salver.trust.fitted import Fitted
from salver.trust.novelty import fit_layers, fit_words
from salver.types import Batch, Field

pytest.importorskip("sklearn")
TEXTS = ["the rook takes the pawn", "sail before the wind", "stew with salt and butter"] * 20


def fitted(*, layers: bool = True) -> Fitted:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 60)
    score, novelties = (
        fit_layers(None, random.normal(size=(60, 2, 4)).astype(np.float32))
        if layers
        else fit_words(None, TEXTS)
    )
    calibrator = Temperature(2.0)
    scored = Scored(
        {"prediction": ["abc"[i] for i in probabilities.argmax(axis=1)]},
        probabilities,
        ("a", "b", "c"),
        np.zeros(60, dtype=bool),
        confidence(probabilities, calibrator),
        novelties,
    )
    labels = random.integers(0, 3, 60)
    return Fitted(
        calibrator, score, HeldOut(scored, labels == probabilities.argmax(axis=1), labels)
    )


def batch(*texts: str) -> Batch:
    return Batch((Field("text", "string"),), [(text,) for text in texts])


@pytest.mark.parametrize("layers", [True, False])
def test_what_is_stored_is_read_again(tmp_path: Path, layers: bool) -> None:
    """To the last bit, so that all machines answer alike."""
    first = fitted(layers=layers)
    first.save(tmp_path)
    again = Fitted.load(tmp_path)
    given = np.random.default_rng(1).dirichlet(np.ones(3), 5)
    assert first.confidence(given).tolist() == again.confidence(given).tolist()
    states = np.ones((2, 2, 4), dtype=np.float32) if layers else None
    rows = batch("the rook", "zzq 88")
    found, expected = again.novelty(rows, states), first.novelty(rows, states)
    assert found is not None
    assert expected is not None
    assert expected.tolist() == found.tolist()
    before, after = first.held_out, again.held_out
    assert before.scored.columns == after.scored.columns
    assert before.scored.classes == after.scored.classes
    for name in ("probabilities", "confidence", "novelty"):
        assert np.array_equal(getattr(before.scored, name), getattr(after.scored, name))
    assert before.right is not None
    assert after.right is not None
    assert before.labels is not None
    assert after.labels is not None
    assert before.right.tolist() == after.right.tolist()
    assert before.labels.tolist() == after.labels.tolist()


def test_hidden_states_that_are_gone_are_an_error_of_the_model() -> None:
    """It gave them when it was calibrated."""
    with pytest.raises(BadModelOutput, match="hidden_states"):
        fitted().novelty(batch("a"), None)


@pytest.mark.parametrize("name", ["calibration.json", "arrays.npz"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    """Nothing of it is unpickled."""
    fitted().save(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="salver calibrate again"):
        Fitted.load(tmp_path)
