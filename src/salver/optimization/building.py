"""The process that makes candidates: `python -m salver.optimization.building`.

It is told on standard input, which stays open as long as there is someone to make them for. It loads
the model as a replica does, listens to what its part is given on the rows for
calibration, and makes one checkpoint after the other. What became of each is one line of JSON on
standard output; who reads them sees which one was under way if the process ends in between.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from salver.engine.frames import HEADER, batch_from_message, unpack
from salver.errors import CheckpointError, SalverError, last_line
from salver.models.checkpoint import Checkpoint
from salver.models.variants import GOLDEN, METADATA, Variant
from salver.models.variants.parts import Call, Part, parts_of
from salver.models.variants.parts import Path as Place
from salver.models.variants.provenance import sources, versions
from salver.models.variants.runtimes import instructions, open_runtime
from salver.optimization.graphs import Graphs, copy_graph
from salver.optimization.recipes import OWN, RECIPES, Recipe, recipes_for
from salver.pipeline import columns_of
from salver.types import Field


def main() -> None:
    """Answers one question."""
    (length,) = HEADER.unpack(sys.stdin.buffer.read(HEADER.size))
    question = unpack(sys.stdin.buffer.read(length))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answers = os.dup(1)
    os.dup2(2, 1)  # exporters print; standard output is for answers
    with os.fdopen(answers, "w", encoding="utf-8") as out:

        def say(**answer: Any) -> None:
            out.write(json.dumps(answer) + "\n")
            out.flush()

        try:
            _build(question, say)
        except SalverError as error:
            say(error=error.message)
        except Exception:  # noqa: BLE001 - a class of the user's own may raise anything
            say(error=traceback.format_exc())


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the other end is closed, for nothing more is ever written
    os._exit(1)


def _build(question: Mapping[str, Any], say: Any) -> None:
    sys.path[:] = question["sys_path"]
    from salver.engine import loading, targets

    service = targets.load_service(question["target"])
    deployment = service.deployments[question["deployment"]]
    deployment = deployment.with_options(
        deployment.options.replace(question["overrides"], "the overrides")
    )
    checkpoints = {
        place: Checkpoint.open(one["path"], one["digest"], one.get("source"))
        for place, one in question["resolved"].items()
    }
    loading.allowed_code(deployment, question["resolved"])
    model = loading.instantiate(deployment, checkpoints)
    fields = tuple(Field(*f) for f in question["fields"])
    batches = [batch_from_message(fields, rows) for rows in question["batches"]]
    given = [columns_of(batch, deployment.options.batch_format) for batch in batches]
    place, part, calls = heard(model, given)
    say(kind=part.kind)
    made_from = sources(deployment.target.__module__.partition(".")[0]), versions()
    graphs = Graphs(part, calls, Path(question["folder"]))
    usual = {recipe.name for recipe in recipes_for(part.kind)}
    wanted = [name for name in question["wanted"] if name.startswith(OWN) or name in usual]
    for at, name in enumerate(wanted):
        say(begun=name)
        folder = Path(question["folder"], str(at))  # users give names of their own
        folder.mkdir()
        try:
            made = _candidate(name, question, graphs, folder)
            variant = _described(made, name, place, part, calls[0], made_from)
            metadata = {METADATA: variant.dump(), GOLDEN: question["golden"]}
            Checkpoint.create(folder, metadata)
            say(made=name, folder=str(folder), precision=made[1])
        except Exception as error:  # noqa: BLE001 - of libraries whose errors share no base
            is_ours = isinstance(error, SalverError)
            reason = str(error) if is_ours else f"{type(error).__name__}: {last_line(error)}"
            say(failed=name, reason=reason)


def heard(model: Any, batches: Sequence[Any]) -> tuple[Place, Part, list[Call]]:
    """The one part of a model that computes, where it is, and what it was given.

    Args:
        model: Loaded.
        batches: What it is called with.

    Raises:
        CheckpointError: If there is none, or there are several.
    """
    model(batches[0])  # a class may load what it needs when it is first asked
    parts = parts_of(model)
    with ExitStack() as stack:
        listened = {p: stack.enter_context(part.listening()) for p, part in parts.items()}
        for batch in batches:
            model(batch)
    asked = {place: calls for place, calls in listened.items() if calls}
    if not asked:
        raise CheckpointError(
            f"{type(model).__name__} computes with nothing that salver optimize can exchange: it "
            "looks for a network of PyTorch, a session of ONNX Runtime, an estimator of scikit-learn or "
            "a booster that is given a table, in its attributes."
        )
    if len(asked) > 1:
        named = ", ".join(".".join(map(str, place)) for place in asked)
        raise CheckpointError(
            f"{type(model).__name__} computes with {len(asked)} parts ({named}), and salver "
            "optimize exchanges one. Make each a deployment of its own, and compose them."
        )
    ((place, calls),) = asked.items()
    form, _ = Counter(repr(call.form) for call in calls).most_common(1)[0]
    return place, parts[place], [call for call in calls if repr(call.form) == form]


Made = tuple[str, str, str]  # file, precision, runtime


def _candidate(name: str, question: Mapping[str, Any], graphs: Graphs, folder: Path) -> Made:
    if name.startswith(OWN):
        copy_graph(question["own"][name], folder / "model.onnx")
        return _opened(folder / "model.onnx", "onnxruntime", "own")
    recipe: Recipe = next(one for one in RECIPES if one.name == name)
    file = graphs.make(recipe, folder)
    return _opened(folder / file, recipe.runtime, recipe.precision)


def _opened(path: Path, runtime: str, precision: str) -> Made:
    """Opened once, so that what cannot be loaded is not made."""
    return path.name, open_runtime(runtime, path, precision).precision, runtime


def _described(
    made: Made,
    name: str,
    place: Place,
    part: Part,
    call: Call,
    made_from: tuple[Mapping[str, str], Mapping[str, str]],
) -> Variant:
    file, precision, runtime = made
    return Variant(
        name,
        part.kind,
        place,
        runtime,
        precision,
        file,
        tuple((n, str(array.dtype)) for n, array in call.arrays.items()),
        dict(call.constants),
        instructions(),
        *made_from,
    )


if __name__ == "__main__":
    main()
