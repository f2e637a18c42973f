"""JAX: functions that were exported with their parameters in them; so are Flax modules served.

MLflow has no flavour for JAX. What can be served without a class of the user's is the bytes of

    jax.export.export(jax.jit(lambda x: module.apply(params, x)))(shapes).serialize()

in a file `*.jax` or `*.stablehlo`. They hold a graph of StableHLO and the shapes, types and names
of what goes in and comes out, and no Python. Inputs are named by the keys of dicts and keyword
arguments; outputs likewise, and a lone array is the `prediction`. The first axis of each counts
rows. Where it is a symbol (`jax.export.symbolic_shape("b, 3")`), batches are filled up to a power of
two, for XLA compiles each size that it meets; where it is a number, to that number.

JAX reads the bytes with flatbuffers and MLIR, never with pickle, and makes containers only of types
that this process has registered. But a graph may call functions of the process by name (custom
calls), and when it reads one JAX does not check which. Here only those are taken that JAX itself
exports for numpy's linear algebra and for shapes; a graph with another is refused, whatever is
allowed. What is left to trust is XLA's compiler. Names of classes are not known: the format has
none.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import in_batches
from salver.models.signature import Column, Signature, tensor

LIBRARY = "jax"
MODULES = ("jax", "flatbuffers")
EXTRA = "jax"
FLAVORS: tuple[str, ...] = ()

_SUFFIXES = (".jax", ".stablehlo")
_STABLEHLO = b"ML\xefR"  # how a graph begins that is not in JAX's envelope
_WIDER = {"bfloat16": "float32"}  # numpy has no bfloat16
_DTYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64",
}  # fmt: skip
_CALL = re.compile(r"custom_call @(\w[\w.]*)\(")
_KNOWN_CALLS = re.compile(
    r"(lapack|cusolver|cublas|hipsolver|hipblas|cu_|hip_)\w*_ffi|shape_assertion|Sharding"
    r"|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|AllocateBuffer"
    r"|ApproxTopK|stablehlo\.dynamic_(approx_top_k|reduce_window|rng_bit_generator|top_k)"
)
_EXPORT = "Export it again: jax.export.export(jax.jit(f))(...).serialize()."


def recognise(names: tuple[str, ...]) -> bool:
    """A lone exported function."""
    return len(names) == 1 and names[0].endswith(_SUFFIXES)


def code_in(artifact: Artifact) -> list[str]:
    """None: a graph that calls what it should not is refused, as the module's description says."""
    artifact.path(artifact.names[0])
    return []


def signature_of(artifact: Artifact) -> Signature:
    """The arguments of the function."""
    exported = _exported(artifact)
    avals = zip(_names(exported.in_tree, "input"), exported.in_avals, strict=True)
    return Signature(tuple(_column(name, aval) for name, aval in avals))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The function behind `Function`."""
    return Function(_exported(artifact), signature)


class Function:
    """Asks an exported function.

    Args:
        exported: JAX's.
        signature: Its arguments, by name.

    Raises:
        CheckpointError: If they are others.
    """

    def __init__(self, exported: Any, signature: Signature) -> None:
        import jax

        dtypes = [aval.dtype for aval in exported.in_avals]
        self._dtypes = dict(zip(_names(exported.in_tree, "input"), dtypes, strict=True))
        given = [column.name for column in signature.columns]
        if set(given) != set(self._dtypes):
            raise CheckpointError(
                f"The signature names the inputs {given}, and the function takes "
                f"{list(self._dtypes)}."
            )
        self._outputs = _names(exported.out_tree, "prediction")
        rows = exported.in_avals[0].shape[0]
        self._size = rows if isinstance(rows, int) else None

        def flat(*leaves: Any) -> Any:
            positional, named = jax.tree_util.tree_unflatten(exported.in_tree, leaves)
            return jax.tree_util.tree_leaves(exported.call(*positional, **named))

        self._call = jax.jit(flat)

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """Every output by name, one entry per row."""
        feed = {name: np.asarray(inputs[name], dtype) for name, dtype in self._dtypes.items()}
        n = len(next(iter(feed.values())))
        size = self._size or 1 << (n - 1).bit_length()
        found = in_batches(feed, size, self._run)
        return dict(zip(self._outputs, found, strict=True))

    def _run(self, batch: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        import jax

        with jax.enable_x64(True):  # else it makes float32 of a float64 that was exported
            return [_plain(value) for value in self._call(*batch.values())]


def _plain(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    array = array.astype(_WIDER.get(array.dtype.name, array.dtype))
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _names(tree: Any, alone: str) -> list[str]:
    """Names of the leaves of a tree: keys of dicts, and places where there are no keys.

    Args:
        tree: Of the arguments, (positional, by keyword), or of the answer.
        alone: The name of one that has no key.
    """
    import jax

    leaves = jax.tree_util.tree_unflatten(tree, list(range(tree.num_leaves)))
    if alone == "input":
        positional, named = leaves
        leaves = positional
        if named:
            leaves = {**{f"{alone}_{i}": value for i, value in enumerate(positional)}, **named}
        elif len(positional) == 1:  # often a dict of inputs, whose own names will do
            leaves = positional[0]
    paths, _ = jax.tree_util.tree_flatten_with_path(leaves)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _leaf in paths]
    names = [alone if not n else f"{alone}_{n}" if n.isdigit() else n for n in names]
    numbered = [number for _path, number in paths]
    return [name for _number, name in sorted(zip(numbered, names, strict=True))]


def _column(name: str, aval: Any) -> Column:
    dtype = _WIDER.get(aval.dtype.name, aval.dtype.name)
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"The function's argument {name!r} is of {aval.dtype.name}, which rows cannot hold. "
            "Convert it within the function, and export that."
        )
    shape = [size if isinstance(size, int) else -1 for size in aval.shape]
    return Column(name, tensor(dtype, [-1, *shape[1:]]))


def _exported(artifact: Artifact) -> Any:
    import jax

    name = artifact.names[0]
    content = artifact.path(name).read_bytes()
    if content.startswith(_STABLEHLO):
        raise CheckpointError(
            f"{name} is bare StableHLO, without the names of its inputs and outputs. {_EXPORT}"
        )
    try:
        exported = jax.export.deserialize(bytearray(content))
        text = exported.mlir_module()
    except Exception as error:  # of a damaged file it lets any error of its parsers through
        raise CheckpointError(
            f"{name} is no function that JAX reads ({type(error).__name__}: {error}). {_EXPORT}"
        ) from error
    _check_calls(name, text)
    _check_place(name, exported)
    _check_rows(name, exported)
    return exported


def _check_calls(name: str, text: str) -> None:
    """Refuses a graph that calls functions of the process beyond those that are known."""
    start = text.find("custom_call")
    while start >= 0:
        found = _CALL.match(text, start)
        if found is None or not _KNOWN_CALLS.fullmatch(found[1]):
            called = text[start : start + 80].splitlines()[0]
            raise CheckpointError(
                f"{name} calls a function of the process that runs it ({called!r}), which Salver "
                "does not do for a file. Export the function without custom calls."
            )
        start = text.find("custom_call", start + 1)


def _check_place(name: str, exported: Any) -> None:
    import jax

    here = jax.default_backend()
    if here not in exported.platforms or exported.nr_devices != 1:
        raise CheckpointError(
            f"{name} was exported for {exported.nr_devices} device(s) of "
            f"{', '.join(exported.platforms)}, and here is {here}. Export it for it: "
            f"jax.export.export(jax.jit(f), platforms=[{here!r}])."
        )
    if exported.ordered_effects or exported.unordered_effects:
        raise CheckpointError(f"{name} has effects beside its answer. Export it without them.")


def _check_rows(name: str, exported: Any) -> None:
    """Checks that the first axis of everything counts rows."""
    avals = [*exported.in_avals, *exported.out_avals]
    counts = {str(aval.shape[0]) if aval.shape else "" for aval in avals}
    count = next(iter(counts), "")
    if not exported.in_avals or len(counts) != 1 or not (count.isdigit() or count.isidentifier()):
        shapes = ", ".join(str(aval) for aval in avals)
        raise CheckpointError(
            f"{name} has no common first axis that counts rows ({shapes}). Export it for a batch: "
            'jax.export.symbolic_shape("b, ...") with the same symbol for each argument.'
        )
