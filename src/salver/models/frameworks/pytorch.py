"""PyTorch: programs of `torch.export`, TorchScript, pickled modules, and weights with a class.

- `model.pt2` (MLflow's default, or a lone file) is a graph and needs no code of its author's.
- A folder with `module.json` and weights (`model.safetensors`, or `state_dict.pt`) names the class
  that takes them: `{"module": "package.net:Net", "kwargs": {...}, "inputs": [...]}`. The class is
  imported from the user's own path. `inputs` are written as in an MLflow signature.
- TorchScript and pickles run code. A lone TorchScript file does not say what it takes: put it
  into a folder with a `module.json` that holds `inputs` alone.

A tensor is answered as `prediction`; a dict by its keys, a tuple as `output_0`, `output_1`. This
module does not know where the files came from, nor what the outputs mean.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from salver.errors import CheckpointError
from salver.models.description import Artifact, Model
from salver.models.frameworks import exported
from salver.models.frameworks.networks import Network, Wanted, device
from salver.models.signature import Signature, no_signature, tensor
from salver.models.unpickling import with_torch

LIBRARY = "torch"
MODULES = ("torch",)
EXTRA = "torch"
FLAVORS = ("pytorch",)

REFERENCE = "module.json"
_WEIGHTS = ("model.safetensors", "state_dict.pt")
_PROGRAM = ".pt2"
_OWN = (_PROGRAM, ".pt", ".pth", ".torchscript")


def recognise(names: tuple[str, ...]) -> bool:
    """A lone file of PyTorch's, or `module.json` with one."""
    others = [name for name in names if name != REFERENCE]
    is_weights = len(others) < len(names) and any(name in _WEIGHTS for name in others)
    return is_weights or (len(others) == 1 and others[0].endswith(_OWN))


def code_in(artifact: Artifact) -> list[str]:
    """A class that is named, TorchScript, pickles, and what archives hold beyond graphs."""
    target = _reference(artifact).get("module")
    if target is not None:
        return [f"{REFERENCE} names {target!r}, which would be imported and called"]
    name = _file(artifact)
    if name.endswith(_PROGRAM):
        return [f"{name}: {why}" for why in exported.code_in_archive(artifact.path(name))]
    if _is_torchscript(artifact.path(name)):
        return [f"{name} is TorchScript, a program that can write files when it runs"]
    return [f"{name} is a pickle, which can run anything when it is read"]


def signature_of(artifact: Artifact) -> Signature:
    """The `inputs` of `module.json`, or those of an exported program."""
    inputs = _reference(artifact).get("inputs")
    if inputs is not None:
        return Signature.load(inputs, REFERENCE)
    name = _file(artifact)
    if not name.endswith(_PROGRAM) or code_in(artifact):
        raise no_signature(name)
    columns = []
    for one in _wanted_by(_program(artifact, name)):
        dtype = str(one.dtype).removeprefix("torch.")
        kind = tensor("float32" if dtype == "bfloat16" else dtype, one.shape or ())
        columns.append({**kind, "name": one.name})
    return Signature.load(columns, name)


def load(artifact: Artifact, signature: Signature) -> Model:
    """The module behind `Network`."""
    reference = _reference(artifact)
    if "module" in reference:
        return _asked(_built(artifact, reference), signature)
    name = _file(artifact)
    if name.endswith(_PROGRAM):
        return _exported(_program(artifact, name), signature)
    import torch

    if _is_torchscript(artifact.path(name)):
        jit: Any = torch.jit
        return _asked(jit.load(artifact.path(name), map_location="cpu"), signature)
    found = with_torch(artifact.path(name))  # a pickle of a module, which the user has allowed
    if not isinstance(found, torch.nn.Module):
        raise CheckpointError(
            f"{name} holds a {type(found).__name__}, not a module. Put weights into a folder as "
            f"state_dict.pt, beside a {REFERENCE} that names the class that takes them."
        )
    return _asked(found, signature)


def _reference(artifact: Artifact) -> dict[str, Any]:
    """What `module.json` says; empty without one."""
    if artifact.flavor or REFERENCE not in artifact.names:
        return {}
    try:
        found = json.loads(artifact.path(REFERENCE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{REFERENCE} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or not set(found) <= {"module", "kwargs", "inputs"}:
        raise CheckpointError(
            f"{REFERENCE} is {found!r}; it takes an object with 'module' (\"package.net:Net\"), "
            "'kwargs' and 'inputs'."
        )
    return found


def _file(artifact: Artifact) -> str:
    folder = artifact.flavor.get("model_data")
    if folder is None:
        return next(name for name in artifact.names if name != REFERENCE)
    name = f"{folder}/model.pt2"
    return name if name in artifact.names else f"{folder}/model.pth"


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _built(artifact: Artifact, reference: dict[str, Any]) -> Any:
    """The module that `module.json` names, with its weights."""
    import torch
    from safetensors.torch import load_file

    target, kwargs = str(reference["module"]), reference.get("kwargs") or {}
    module_name, _, attribute = target.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), attribute)(**kwargs)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{REFERENCE} names {target!r} with {kwargs!r}, which fails: {error}. Give "
            '"package.net:Net", importable where the service starts, and its arguments.'
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise CheckpointError(f"{target} makes a {type(made).__name__}; it must make a Module.")
    name = next((name for name in _WEIGHTS if name in artifact.names), None)
    if name is None:
        raise CheckpointError(f"Beside {REFERENCE} there is neither {' nor '.join(_WEIGHTS)}.")
    path = artifact.path(name)
    try:
        is_safe = name.endswith(".safetensors")
        state = load_file(path) if is_safe else torch.load(path, "cpu", weights_only=True)
        made.load_state_dict(state)
    except Exception as error:  # a damaged file raises any error of its parser
        raise CheckpointError(f"{name} are not weights of {target}: {error}") from error
    return made


def _asked(module: Any, signature: Signature) -> Network:
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        script: Any = module
        arguments = script.forward.schema.arguments[1:]
        wanted = [Wanted(a.name, not a.has_default_value()) for a in arguments]
    else:
        parameters = inspect.signature(module.forward).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        wanted = [Wanted(p.name, p.default is p.empty) for p in named]
    return Network(
        module.eval().to(device()), signature, wanted or [Wanted("input", is_keyword=False)]
    )


def _program(artifact: Artifact, name: str) -> Any:
    """The exported program of an archive.

    Raises:
        CheckpointError: If PyTorch's own reader finds other records than those that were judged.
    """
    import torch
    from torch.export.pt2_archive import PT2ArchiveReader

    path = str(artifact.path(name))
    try:
        if not code_in(artifact):
            with PT2ArchiveReader(path) as archive:
                found = exported.code_in_records(archive.get_file_names(), archive.read_bytes)
                if why := next(found, None):
                    raise CheckpointError(f"{name} differs by who reads it: {why}.")
                samples = archive.read_bytes(exported.SAMPLES)
            if samples:  # PyTorch unpickles freely what cannot be read so
                torch.load(io.BytesIO(samples), "cpu", weights_only=True)
        return torch.export.load(path)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged archive raises any error of its parsers
        raise CheckpointError(f"{name} is no program that PyTorch loads: {error}") from error


def _wanted_by(program: Any) -> list[Wanted]:
    """The inputs of a program, in its own order.

    Raises:
        CheckpointError: If one of them is no tensor.
    """
    positional, keywords = program.call_spec.in_spec.children()
    leaves = [*positional.children(), *keywords.children()]
    names = program.graph_signature.user_inputs
    found: dict[str, Any] = {node.name: node.meta.get("val") for node in program.graph.nodes}
    values: list[Any] = [found.get(name) if isinstance(name, str) else None for name in names]
    if not all(leaf.is_leaf() for leaf in leaves) or any(not hasattr(v, "shape") for v in values):
        raise CheckpointError(
            f"The program takes {program.call_spec.in_spec}, not only tensors. Export a module "
            "whose forward() takes tensors."
        )
    count = positional.num_children
    given = [*names[:count], *keywords.context]
    return [
        Wanted(
            name,
            dtype=value.dtype,
            shape=tuple(size if isinstance(size, int) else -1 for size in value.shape),
            is_keyword=i >= count,
        )
        for i, (name, value) in enumerate(zip(given, values, strict=True))
    ]


def _exported(program: Any, signature: Signature) -> Network:
    wanted = _wanted_by(program)
    if any(map(_is_training, program.graph.nodes)):
        raise CheckpointError(
            "The program was exported in training mode, so its dropout and normalisation would "
            "make answers depend on chance and on other rows. Call model.eval() before exporting."
        )
    # Guards are source text from the archive, which is not to be compiled; the signature says what
    # shapes there are. Versions before 2.9 have none.
    has_guards = "check_guards" in inspect.signature(program.module).parameters
    module = program.module(check_guards=False) if has_guards else program.module()
    return Network(module, signature, wanted, _rows_at_once(program, wanted))


def _is_training(node: Any) -> bool:
    """Whether a node of a graph drops values by chance, or normalises by the rows at hand."""
    place = {"aten.dropout.default": 2, "aten.batch_norm.default": 5}.get(str(node.target))
    return place is not None and len(node.args) > place and node.args[place] is True


def _rows_at_once(program: Any, wanted: list[Wanted]) -> tuple[int, int | None]:
    """The fewest and the most rows that a program takes; null if any number."""
    names = program.graph_signature.user_inputs
    first = next(node for node in program.graph.nodes if node.name == names[0])
    if not wanted[0].shape:
        raise CheckpointError("The program takes a number, not rows of a batch.")
    size = first.meta["val"].shape[0]
    if isinstance(size, int):
        return size, size
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return 1, None
    highest = int(bounds.upper) if str(bounds.upper).isdigit() else None
    return max(1, int(bounds.lower)), highest
