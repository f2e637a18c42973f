"""What was calibrated for one model, as it is stored, loaded and applied.

A folder of two files: `calibration.json` and `arrays.npz`. It does not know where the folder lies,
nor which model it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.outputs import HIDDEN_STATES, BadModelOutput
from salver.policies import HeldOut, Scored
from salver.trust.calibrators import Calibrator, calibrator_of, confidence
from salver.trust.novelty import Layers, Novelty, Words, novelty_of
from salver.types import Batch

Array = np.ndarray[Any, Any]
FORMAT = 1
_JSON, _ARRAYS = "calibration.json", "arrays.npz"
_OWN = "novelty."  # before the names of arrays of the novelty score


@dataclass(frozen=True, slots=True)
class Fitted:
    """See the module's description; what a `Pipeline` calls its trust.

    Attributes:
        calibrator: Of the class probabilities; null for a model that gives none.
        score: Of novelty; null if the model gives no ground for one.
        held_out: The m rows that nothing was fitted on, with what they score as unseen rows would.
        lengths: float64 of shape (m,): characters of text of these rows; null if that is not known.
    """

    calibrator: Calibrator | None
    score: Novelty | None
    held_out: HeldOut
    lengths: Array | None = None

    def confidence(self, probabilities: Array) -> Array | None:
        """See `salver.pipeline.Trust`."""
        return None if self.calibrator is None else confidence(probabilities, self.calibrator)

    def novelty(self, batch: Batch, hidden_states: Array | None) -> Array | None:
        """See `salver.pipeline.Trust`."""
        return None if self.score is None else novelty(self.score, batch, hidden_states)

    def save(self, folder: Path) -> None:
        """Writes the files into an empty folder."""
        given = self.held_out.scored
        arrays = {
            "probabilities": given.probabilities,
            "confidence": given.confidence,
            "novelty": given.novelty,
            "right": self.held_out.right,
            "labels": self.held_out.labels,
            "lengths": self.lengths,
        }
        whole = {name: array for name, array in arrays.items() if array is not None}
        described: dict[str, Any] = {
            "format": FORMAT,
            "classes": list(given.classes),
            "predictions": given.columns.get("prediction"),
            "calibrator": None if self.calibrator is None else self.calibrator.as_json(),
            "novelty": None if self.score is None else self.score.as_json(),
        }
        if self.score is not None:
            whole |= {_OWN + name: array for name, array in self.score.arrays().items()}
        np.savez(folder / _ARRAYS, **whole)  # type: ignore[arg-type]  # of its own allow_pickle
        (folder / _JSON).write_text(json.dumps(described), "utf-8")

    @staticmethod
    def load(folder: Path) -> Fitted:
        """Reads what `save` has written; no file is unpickled.

        Raises:
            CheckpointError: If it is not what this version of Salver writes.
        """
        try:
            described = json.loads((folder / _JSON).read_text("utf-8"))
            with np.load(folder / _ARRAYS, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if described["format"] != FORMAT:
                raise ValueError(
                    f"its format is {described['format']}, and this one knows {FORMAT}"
                )
            return _loaded(described, arrays)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder} holds no calibration that this version of Salver reads ({error}). Run "
                "salver calibrate again."
            ) from error


def _loaded(described: Mapping[str, Any], arrays: Mapping[str, Array]) -> Fitted:
    predictions = described["predictions"]
    n = max(len(a) for name, a in arrays.items() if not name.startswith(_OWN))
    scored = Scored(
        {} if predictions is None else {"prediction": predictions},
        arrays.get("probabilities"),
        tuple(described["classes"]),
        np.zeros(n, dtype=bool),
        arrays.get("confidence"),
        arrays.get("novelty"),
    )
    own = {name.removeprefix(_OWN): a for name, a in arrays.items() if name.startswith(_OWN)}
    calibrator, score = described["calibrator"], described["novelty"]
    return Fitted(
        None if calibrator is None else calibrator_of(calibrator),
        None if score is None else novelty_of(score, own),
        HeldOut(scored, arrays.get("right"), arrays.get("labels")),
        arrays.get("lengths"),
    )


def novelty(score: Novelty, batch: Batch, hidden_states: Array | None) -> Array:
    """How unlike the training data each row of a batch is, of shape (n,).

    Raises:
        BadModelOutput: If the score needs hidden states and there are none.
    """
    if isinstance(score, Layers):
        if hidden_states is None:
            raise BadModelOutput(
                f"it gives no {HIDDEN_STATES!r}, which it gave when it was calibrated."
            )
        return score.score(hidden_states)
    return (
        score.score(texts_of(batch)) if isinstance(score, Words) else score.score(batch.columns())
    )


def texts_of(batch: Batch) -> list[str]:
    """All texts of each row, joined by a space."""
    return [" ".join(value for value in row if isinstance(value, str)) for row in batch.rows]
