"""SavedModels: what their graphs would touch, found without TensorFlow.

`saved_model.pb` is a protobuf message. It is read here field by field, as far as it takes to list
the operators of every function. Only operators that are known to stay inside the graph pass:
whatever else there is, now or in a later TensorFlow, counts as code. What is read here is more
than what TensorFlow would look at, so that no second spelling of a field can hide anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from salver.errors import CheckpointError
from salver.models.description import Artifact
from salver.models.frameworks.protobuf import fields, inner, integers
from salver.models.frameworks.saved_model_ops import COMPUTING, LOADING_TEXT, OF_SAVERS

FILE = "saved_model.pb"


def code_in_saved_model(artifact: Artifact, folder: str) -> list[str]:
    """Why loading or asking the SavedModel in `folder` may run code; none if it does not.

    Args:
        artifact: With the files.
        folder: Where the SavedModel is in it; empty if it is the artifact itself.

    Raises:
        CheckpointError: If it cannot be read.
    """
    name = f"{folder}/{FILE}" if folder else FILE
    content = memoryview(artifact.path(name).read_bytes())
    try:
        metas = list(inner(content, 2))
        if len(metas) != 1 or not any(inner(metas[0], 7)):
            return [f"{name} is of TensorFlow 1, which runs a graph of the model to load it"]
        for file in _texts(metas[0], 6, 2):
            artifact.path(f"{folder}/assets/{file}" if folder else f"assets/{file}")
        beyond = sorted(_beyond(metas[0]))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is no readable SavedModel: {error}") from error
    if not beyond:
        return []
    shown = ", ".join(ascii(op[:60])[1:-1] for op in beyond[:8]) + (", ..." if beyond[8:] else "")
    return [
        f"{name} calls {shown}, which may touch files, the network or Python when the graph runs, "
        "or which Salver does not know"
    ]


@dataclass(frozen=True, slots=True)
class _Node:
    """One call of an operator or function: its name, what it takes, functions it is given."""

    name: str
    op: str
    inputs: list[str]
    functions: list[str]

    @property
    def calls(self) -> set[str]:
        return {self.op, *self.functions}


@dataclass(frozen=True, slots=True)
class _Function:
    """One function of the library; `attributes` are the names of what is said about it."""

    name: str
    arguments: list[str]
    nodes: list[_Node]
    attributes: list[str]


def _nodes(message: memoryview, field: int) -> list[_Node]:
    return [
        _Node("".join(_texts(n, 1)), op, list(_texts(n, 3)), list(_functions(n, 5)))
        for n in inner(message, field)
        for op in _texts(n, 2)  # a field that is there twice is two calls
    ]


def _library(meta: memoryview) -> list[_Function]:
    return [
        _Function(
            "".join(_texts(f, 1, 1)),
            list(_texts(f, 1, 2, 1)),
            # What is said about a function may name functions too.
            [*_nodes(f, 3), _Node("", "NoOp", [], list(_functions(f, 5)))],
            list(_texts(f, 5, 1)),
        )
        for f in inner(meta, 2, 2, 1)
    ]


def _beyond(meta: memoryview) -> set[str]:
    """Operators that are not known to stay inside the graph."""
    main = [node for graph in inner(meta, 2) for node in _nodes(graph, 1)]
    functions = _library(meta)
    of_functions = [node for function in functions for node in function.nodes]
    # An operator's name begins with a capital: a function may not pass for one.
    own = {f.name for f in functions if f.name.startswith(_OF_FUNCTIONS)}
    savers = _savers(meta, functions, main + of_functions)
    found: set[str] = set()
    for node in main:
        found |= node.calls - own - COMPUTING
    for function in functions:
        inside = COMPUTING | OF_SAVERS if function.name in savers else COMPUTING
        for node in function.nodes:
            if node.op not in LOADING_TEXT or not _is_own_asset(meta, function, node, of_functions):
                found |= node.calls - own - inside
    return found


_OF_FUNCTIONS = ("__inference_", "__forward_", "__backward_", *"abcdefghijklmnopqrstuvwxyz")


def _savers(meta: memoryview, functions: list[_Function], everything: list[_Node]) -> set[str]:
    """Functions that only `save` and `restore` of TensorFlow 1 would call, which nobody does.

    TensorFlow 2 writes both into every SavedModel, and reads variables without them.
    """
    names = {text.split(":")[0] for field in (2, 3) for text in _texts(meta, 3, field)} - {""}
    called = {f for node in everything if node.name in names for f in node.functions}
    elsewhere = {f for node in everything if node.name not in names for f in node.calls}
    # Functions that implement the same interface are put in each other's place.
    swapped = {f.name for f in functions if any("implements" in a for a in f.attributes)}
    return called - elsewhere - swapped - set(_texts(meta, 7, 2, 1))


def _is_own_asset(meta: memoryview, function: _Function, node: _Node, nodes: list[_Node]) -> bool:
    """Whether the text file that a table is filled from is an asset of the model.

    That is so if its path is an argument which is bound to an asset, and no other function calls
    this one, which could pass another path. The main graph may: TensorFlow 2 does not run it.
    """
    entries = [entry for entry in inner(meta, 7, 2) if function.name in _texts(entry, 1)]
    path = node.inputs[1] if len(node.inputs) > 1 else ""
    if len(entries) != 1 or function.arguments.count(path) != 1:
        return False
    if any(function.name in other.calls for other in nodes):
        return False
    bound = [number for message in inner(entries[0], 2) for number in integers(message, 2)]
    at = function.arguments.index(path) - len(function.arguments) + len(bound)
    objects = list(inner(meta, 7, 1))
    if not 0 <= at < len(bound) or not 0 <= bound[at] < len(objects):
        return False
    kinds = {number for number, _ in fields(objects[bound[at]])} & _KINDS
    return kinds == {_ASSET}


_ASSET = 5
_KINDS = {*range(4, 11), 12, 13, 14, 16}  # what an object may be, and who else would make it


def _functions(message: memoryview, field: int) -> Iterator[str]:
    """Names of functions among the attributes that `field` maps names to, at any depth."""
    for value in inner(message, field, 2):
        for function in (*inner(value, 10), *inner(value, 1, 9)):
            yield from _texts(function, 1)
            yield from _functions(function, 2)


def _texts(message: memoryview, *path: int) -> Iterator[str]:
    return (bytes(value).decode(errors="replace") for value in inner(message, *path))
