"""The bare class, called directly: what it says, and what calibration and rules make of that.

Everything that a pipeline does to an output is spelled once more here, for comparing with it. This
module does not know what it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from salver.definition import Deployment
from salver.engine.loading import instantiate, trust_of, version_of
from salver.engine.local import LocalEngine
from salver.models.checkpoint import Checkpoint
from salver.pipeline import Trust, columns_of
from salver.policies import Scored, kept
from salver.types import Batch

Answer = Mapping[str, Any] | None  # null: the row was refused or failed
Batches = Iterable[tuple[Sequence[int], Batch]]


def bare_answers(
    engine: LocalEngine, deployment: Deployment, n: int, batches: Batches
) -> list[Answer]:
    """The answer to each row.

    Args:
        engine: Which has found the checkpoints.
        deployment: With its options in force.
        n: Rows, of which some fit in no batch.
        batches: Positions of rows, and the rows.
    """
    resolved = engine.checkpoints(deployment.name)
    checkpoints = {p: Checkpoint.open(r["path"], digest=r["digest"]) for p, r in resolved.items()}
    model = instantiate(deployment, checkpoints)
    trust = trust_of(checkpoints)
    version = version_of(deployment, resolved)
    asked = partial(_call, model, deployment, trust, version)
    answers: list[Answer] = [None] * n
    for positions, batch in batches:
        for position, answer in zip(positions, asked(batch), strict=True):
            answers[position] = answer
    return answers


def _call(
    model: Any, deployment: Deployment, trust: Trust | None, version: str, batch: Batch
) -> list[Answer]:
    """The class itself on one batch, and row by row if that fails."""
    columns = columns_of(batch, deployment.options.batch_format)
    try:
        scored = _scored(model(columns), model, trust, batch)
        return _decided(scored, deployment, trust, version)
    except Exception:  # noqa: BLE001 - a model may raise anything; the other paths must agree
        if len(batch) == 1:
            return [None]
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        return [a for half in halves for a in _call(model, deployment, trust, version, half)]


def _scored(output: Any, model: Any, trust: Trust | None, batch: Batch) -> Scored:
    """The model's own output, and what was calibrated for it, spelled once more."""
    n = len(batch)
    if isinstance(output, list | tuple):
        output = {"prediction": output}
    if isinstance(output, np.ndarray):
        output = {"probabilities" if output.ndim == 2 else "prediction": output}
    hidden = dict(output).get("hidden_states")
    inner = ("probabilities", "hidden_states")
    columns = {k: np.asarray(v).tolist() for k, v in dict(output).items() if k not in inner}
    classes = list(getattr(model, "classes_", ()))
    raw = dict(output).get("probabilities")
    probabilities = None if raw is None else np.asarray(raw, dtype=np.float64)
    if probabilities is not None and classes and "prediction" not in columns:
        best = np.nan_to_num(probabilities).argmax(axis=1)
        columns = {"prediction": [classes[i] for i in best], **columns}
    if any(len(column) != n for column in columns.values()):
        raise ValueError("not one entry per row")
    scored = Scored(columns, probabilities, tuple(classes), np.zeros(n, dtype=bool))
    if trust is None:
        return scored
    if hidden is not None:
        hidden = np.asarray(hidden, dtype=np.float32)
        hidden = hidden[:, None, :] if hidden.ndim == 2 else hidden
    confidence = None if probabilities is None else trust.confidence(probabilities)
    return replace(scored, confidence=confidence, novelty=trust.novelty(batch, hidden))


def _decided(
    scored: Scored, deployment: Deployment, trust: Trust | None, version: str
) -> list[Answer]:
    """The business rules, and the details that every answer carries."""
    n = len(scored.abstained)
    known = {"version": [version] * n, "truncated": scored.columns.get("truncated")}
    columns = {name: column for name, column in scored.columns.items() if name != "truncated"}
    scored = replace(scored, columns=columns)
    for policy in kept(deployment.policies, trust.held_out if trust else None):
        scored = policy(scored)
    known["abstained"] = list(scored.reasons) or None
    for name, numbers in (("confidence", scored.confidence), ("novelty", scored.novelty)):
        known[name] = None if numbers is None else numbers.tolist()
    columns = dict(scored.columns)
    for name in deployment.options.details:
        columns.setdefault(name, known[name] or [None] * n)
    answers: list[Answer] = []
    for i in range(n):
        answer = {name: column[i] for name, column in columns.items()}
        if scored.probabilities is not None:
            values, classes = scored.probabilities[i].tolist(), scored.classes
            answer["probabilities"] = (
                dict(zip(map(str, classes), values, strict=True)) if classes else values
            )
        answers.append(answer if _is_finite(answer) else None)
    return answers


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or bool(np.isfinite(value))
