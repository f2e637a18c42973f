"""Loads one deployment: from a reference and resolved checkpoints to a pipeline that answers.

The same steps run in a child process, in a thread and in a bare parity check. Loading does not
know where checkpoints come from, only the folders and digests they were resolved to.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salver.definition import Deployment
from salver.engine.samples import sample_rows
from salver.errors import CodeRefused, ConfigError, ReplicaStartFailed
from salver.models.checkpoint import Checkpoint
from salver.models.description import Description, refusal
from salver.models.frameworks import require_library
from salver.models.reference import CheckpointReference
from salver.models.served import ServedModel
from salver.models.variants import GOLDEN, PLACE, install
from salver.pipeline import Pipeline, Trust
from salver.policies import described
from salver.types import Batch, Row

TOKENIZER = "tokenizer.json"
CALIBRATION = "(calibration)"  # among the checkpoints, as a variant is
ATTACHED = (PLACE, CALIBRATION)  # what Salver has made, of the model's own

Resolved = Mapping[str, Mapping[str, Any]]  # place of the argument -> path, digest, source


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deployment that has answered its golden examples.

    Attributes:
        pipeline: Ready to run.
        examples: `{"input": row, "output": result}` of each golden example, as executed.
        tokenizer_file: The tokenizer that cuts the model's texts, if there is one.
    """

    pipeline: Pipeline
    examples: list[dict[str, Any]]
    tokenizer_file: str | None = None


def references(deployment: Deployment) -> dict[str, CheckpointReference]:
    """Checkpoint references among the arguments, by their place ("0", "1", ... or a keyword)."""
    places = {str(i): a for i, a in enumerate(deployment.args)} | dict(deployment.kwargs)
    return {p: a for p, a in places.items() if isinstance(a, CheckpointReference)}


def version_of(deployment: Deployment, resolved: Resolved, *, with_policies: bool = True) -> str:
    """A digest of all that decides an answer: code, arguments, checkpoints and policies.

    Arguments that are no plain values count by their type only.

    Args:
        deployment: With its options in force.
        resolved: Its checkpoints, with a variant and a calibration among them if they are used.
        with_policies: False for the model alone.
    """
    target = deployment.target
    try:
        source = Path(inspect.getfile(target)).read_bytes()
    except (OSError, TypeError):
        source = b""  # defined in a notebook
    places = {str(i): a for i, a in enumerate(deployment.args)} | dict(deployment.kwargs)
    arguments = {
        place: resolved[place]["digest"] if place in resolved else _stable(argument)
        for place, argument in places.items()
    }
    whole = {
        "target": f"{target.__module__}:{target.__qualname__}",
        "source": hashlib.sha256(source).hexdigest(),
        "arguments": arguments,
        "policies": [described(p) for p in deployment.policies] if with_policies else [],
        "batch_format": deployment.options.batch_format,
    }
    if PLACE in resolved:
        whole["variant"] = resolved[PLACE]["digest"]
    if CALIBRATION in resolved:
        whole["calibration"] = resolved[CALIBRATION]["digest"]
    if deployment.options.user_config is not None:
        whole["user_config"] = _stable(deployment.options.user_config)
    text = json.dumps(whole, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stable(argument: Any) -> str:
    try:
        return json.dumps(argument, sort_keys=True)
    except (TypeError, ValueError):
        kind = type(argument)
        return f"{kind.__module__}:{kind.__qualname__}"


def load(deployment: Deployment, resolved: Resolved, log: Callable[[str], None]) -> Loaded:
    """Builds the model and asks it its golden examples.

    Raises:
        CheckpointError: If a checkpoint is not what its digest says.
        ReplicaStartFailed: If a golden example fails or is answered differently.
        Exception: Whatever the model's constructor raises.
    """
    checkpoints = {
        place: Checkpoint.open(Path(r["path"]), digest=r["digest"], source=r.get("source"))
        for place, r in resolved.items()
    }
    allowed_code(deployment, resolved)
    model = instantiate(deployment, checkpoints)
    options = deployment.options
    pipeline = Pipeline(
        model,
        deployment.policies,
        options.batch_format,
        log,
        trust_of(checkpoints),
        options.details,
        version_of(deployment, resolved),
    )
    examples = _golden(deployment, pipeline, checkpoints)
    if PLACE in checkpoints:
        recorded = [_example(e) for e in checkpoints[PLACE].metadata.get(GOLDEN, [])]
        _check_answers(deployment, pipeline, recorded)
    return Loaded(pipeline, examples, tokenizer_file(model, checkpoints))


def trust_of(checkpoints: Mapping[str, Checkpoint]) -> Trust | None:
    """What was calibrated, if anything was."""
    if CALIBRATION not in checkpoints:
        return None
    from salver.trust.fitted import Fitted

    return Fitted.load(checkpoints[CALIBRATION].path)


def allowed_code(deployment: Deployment, resolved: Resolved) -> list[str]:
    """What a model runs when it is loaded, where its options allow that and it can be loaded here.

    A class of the user's own loads as it likes.

    Raises:
        CodeRefused: If it would run any and may not; says what, and how to allow it.
        MissingExtra: If its framework is not installed.
    """
    if deployment.target is not ServedModel:
        return []
    reasons: list[str] = []
    for place, one in resolved.items():
        if place in ATTACHED:
            continue  # Salver has made them, of graphs and numbers
        source = one.get("source") or one["path"]
        found = Description.of(Checkpoint.look(one["path"], source))
        if found.code and not deployment.options.allow_code:
            raise CodeRefused(refusal(source, found.code))
        require_library(found.framework)
        reasons += found.code
    return reasons


def instantiate(deployment: Deployment, checkpoints: Mapping[str, Checkpoint]) -> Any:
    """The user's class with its arguments, references replaced by checkpoints, configured.

    If a variant is among the checkpoints, it computes in the place of the model's own part.

    Raises:
        CheckpointError: If the variant does not fit.
        ConfigError: If there is a `user_config`, but no method that takes it.
    """
    args = [checkpoints.get(str(i), a) for i, a in enumerate(deployment.args)]
    kwargs = {k: checkpoints.get(k, a) for k, a in deployment.kwargs.items()}
    model = deployment.target(*args, **kwargs)
    if isinstance(model, ServedModel):
        columns = (field.name for field in deployment.schema.fields)
        model.read_from(dict(zip(deployment.schema.names, columns, strict=True)))
    if deployment.options.user_config is not None:
        _configure(deployment, model)
    if PLACE in checkpoints:
        install(model, checkpoints[PLACE])
    return model


def _configure(deployment: Deployment, model: Any) -> None:
    config = deployment.options.user_config
    if not callable(getattr(model, "reconfigure", None)):
        raise ConfigError(
            f"{deployment.name} was given user_config={config!r}, but has no method "
            "reconfigure(self, config) that would take it. Write one, or remove user_config."
        )
    model.reconfigure(config)


def tokenizer_file(model: Any, checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """The model's `tokenizer_file_`, or else the `tokenizer.json` of a checkpoint."""
    given = getattr(model, "tokenizer_file_", None)
    if given is None:
        listed = (c.file(TOKENIZER) for c in checkpoints.values() if TOKENIZER in c.files)
        given = next(listed, None)
    elif not isinstance(given, str | os.PathLike):
        raise ReplicaStartFailed(
            f"{type(model).__name__}.tokenizer_file_ is {given!r}; it takes the path of a "
            "tokenizer.json."
        )
    return None if given is None else os.path.abspath(given)


def check_examples(deployment: Deployment) -> None:
    """Checks the golden examples of the options before anything is loaded.

    Raises:
        ConfigError: For an example that is no row, or does not fit the input model.
    """
    _checked(deployment, [row for row, _ in map(_example, deployment.options.examples)])


def _golden(
    deployment: Deployment, pipeline: Pipeline, checkpoints: Mapping[str, Checkpoint]
) -> list[dict[str, Any]]:
    given = list(deployment.options.examples)
    for checkpoint in checkpoints.values():
        given += checkpoint.metadata.get("examples", [])
    examples = [_example(e) for e in given]
    if not examples:
        return _made_up(deployment, pipeline) if deployment.target is ServedModel else []
    rows = [row for row, _ in examples]
    batch = _check_answers(deployment, pipeline, examples)
    if deployment.target is ServedModel:
        _refuse_row_models(deployment, pipeline, batch[:1])
    decided = pipeline.run(batch)
    return [{"input": r, "output": decided[i].as_json()} for i, r in enumerate(rows)]


def _check_answers(
    deployment: Deployment, pipeline: Pipeline, examples: Sequence[tuple[dict[str, Any], Any]]
) -> Batch:
    """Asks examples, and compares what the model says with what was recorded."""
    rows = [row for row, _ in examples]
    batch = _checked(deployment, rows)
    said = pipeline.run_without_policies(batch)
    for i, (row, expected) in enumerate(examples):
        outcome = said[i]
        if (failure := outcome.failure) is not None:
            # A traceback tells of the model's own code, and nothing of what it returned.
            is_output = failure.code == "bad_model_output"
            why = failure.message if is_output else failure.detail or failure.message
            raise ReplicaStartFailed(
                f"{deployment.name} failed on its golden example {row!r}: {why}"
            )
        if expected is not None and outcome["prediction"] != expected:
            raise ReplicaStartFailed(
                f"{deployment.name} answered {outcome['prediction']!r} to its golden example "
                f"{row!r}; recorded was {expected!r}. The weights or the preprocessing are not "
                "those that were recorded."
            )
    return batch


def _made_up(deployment: Deployment, pipeline: Pipeline) -> list[dict[str, Any]]:
    """An example for a model that came without one; nobody knows of its texts what fits.

    Raises:
        ReplicaStartFailed: If the model cannot take a row of numbers that fits its signature.
    """
    batch = sample_rows(deployment.schema, [], 1)
    if batch is None:
        return []
    outcome = pipeline.run(batch)[0]
    if outcome.failure is None:
        _refuse_row_models(deployment, pipeline, batch)
        row = dict(zip(deployment.schema.names, batch.rows[0], strict=True))
        return [{"input": row, "output": outcome.as_json()}]
    if all(field.dtype in ("int64", "float64", "bool") for field in batch.fields):
        raise ReplicaStartFailed(
            f"{deployment.name} failed on a row that fits its signature, {batch.rows[0]}: "
            f"{outcome.failure.detail or outcome.failure.message}Log the model with the signature "
            "of what it was trained on."
        )
    return []


def _refuse_row_models(deployment: Deployment, pipeline: Pipeline, batch: Batch) -> None:
    """A model that takes one row and not three would be asked row by row, and may mean others."""
    if not pipeline.takes_batches(batch.take([0, 0, 0])):
        raise ReplicaStartFailed(
            f"{deployment.name} answers one row, and fails on three at once. Its signature is not "
            "that of what it was trained on, or it is made for one row: log it for batches."
        )


def _example(given: Any) -> tuple[dict[str, Any], Any]:
    row, prediction = given, None
    if isinstance(given, Mapping) and "input" in given and set(given) <= {"input", "prediction"}:
        row, prediction = given["input"], given.get("prediction")
    if isinstance(row, Mapping):
        return dict(row), prediction
    raise ConfigError(
        f"A golden example was given as {given!r}; it takes a row, or "
        "{'input': row, 'prediction': label}."
    )


def _checked(deployment: Deployment, rows: Sequence[Row]) -> Batch:
    checked = deployment.schema.check_rows(rows)
    for i, failure in checked.rejected.items():
        raise ConfigError(
            f"The golden example {rows[i]!r} of {deployment.name} does not fit its input model: "
            f"{failure.message}"
        )
    return checked.batch
