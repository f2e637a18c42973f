"""TensorFlow and Keras: `.keras` files, and SavedModels, which are asked by a serving signature.

What a file would run when it is loaded is known to `keras_archive` and `saved_model`, which do not
import TensorFlow. This module does not know where the files came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.keras_archive import code_in_archive
from salver.models.frameworks.saved_model import FILE, code_in_saved_model
from salver.models.signature import Array, Column, Signature, no_signature, tensor
from salver.models.unpickling import with_cloudpickle
from salver.settings import default_environment, math_threads

LIBRARY = "tensorflow"
MODULES = ("tensorflow", "keras")
EXTRA = "tensorflow"
FLAVORS = ("tensorflow", "keras")

_HDF5 = (".h5", ".hdf5")
_DTYPES = {"string": "str", "bfloat16": "float32", "bool": "bool"}
_NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_NUMBERS |= {"float16", "float32", "float64"}


def recognise(names: tuple[str, ...]) -> bool:
    """One `.keras` file or SavedModel, or a lone file of the HDF5 format that Keras had before."""
    lone = len(names) == 1 and names[0].endswith(_HDF5) and not names[0].endswith(".weights.h5")
    return lone or sum(_is_model(name) for name in names) == 1


def code_in(artifact: Artifact) -> list[str]:
    """Layers and operators that are not known to be harmless, and any HDF5 file."""
    name = _model_file(artifact)
    if name.endswith(".keras"):
        return code_in_archive(artifact.path(name), name)
    if name.endswith(_HDF5):
        return [
            f"{name} is of Keras' older format, which may hold code that Salver does not look for "
            "(model.save('model.keras') writes the newer one)"
        ]
    return code_in_saved_model(artifact, name.rpartition("/")[0])


def signature_of(artifact: Artifact) -> Signature:
    """The inputs of the model, or of the serving signature; not of one that would run code."""
    if code_in(artifact):
        raise no_signature(_model_file(artifact))
    return Signature(tuple(_function(artifact).inputs))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The model behind `Asked`."""
    return Asked(_function(artifact), signature)


@dataclass(frozen=True, slots=True)
class Function:
    """What is asked.

    Attributes:
        inputs: In the order that `run` takes them.
        batch: How many rows it takes at once; null if any number.
        run: From arrays to named arrays.
        classes: How many classes the only output has probabilities of; 0 if that is not certain.
        model: Must live as long, for functions of TensorFlow do not hold their variables.
    """

    inputs: list[Column]
    batch: int | None
    run: Callable[[Sequence[Array]], dict[str, Array]]
    classes: int
    model: Any


class Asked:
    """Asks a function; answers with its outputs by name, or `prediction` if there is one.

    Args:
        function: Of the model.
        signature: Columns that are named as inputs are fed to them; the only one to the only one.

    Raises:
        CheckpointError: If the signature does not fit the inputs of the function.
    """

    def __init__(self, function: Function, signature: Signature) -> None:
        self._function = function
        given = {column.name: column for column in signature.columns}
        wanted = [column.name for column in function.inputs]
        self._names = list(given) if len(given) == len(wanted) == 1 else wanted
        if not set(self._names) <= set(given):
            raise CheckpointError(
                f"The signature names the inputs {list(given)}, and the model takes {wanted}. Log "
                "the model with a signature whose columns are the model's inputs."
            )
        for name, column in zip(self._names, function.inputs, strict=True):
            _check_fit(given[name], column)
        if function.classes:
            self.classes_ = list(range(function.classes))

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """Every output, one entry per row; of a classifier the probabilities."""
        given = [inputs[name] for name in self._names]
        if self._function.batch is None and not any(map(_differ, given)):
            return self._named(self._asked(given))
        # A model that was made for one row at a time, or rows of different shapes.
        rows = [self._asked([_row(values, i) for values in given]) for i in range(len(given[0]))]
        return self._named({name: [row[name][0] for row in rows] for name in rows[0]})

    def _asked(self, given: list[Array]) -> dict[str, Array]:
        pairs = zip(given, self._function.inputs, strict=True)
        return self._function.run([_fed(values, column) for values, column in pairs])

    def _named(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        if len(outputs) > 1:
            return dict(outputs)
        (only,) = outputs.values()
        return {"probabilities" if self._function.classes else "prediction": only}


def _fed(values: Array, column: Column) -> Array:
    if column.dtype != "str":
        # Neither a fraction nor a missing value becomes an integer.
        values = values.astype(str(column.dtype), casting="same_kind", copy=False)
    return values[:, None] if column.shape == (1,) and values.ndim == 1 else values


def _differ(values: Array) -> bool:
    """Whether rows are arrays of different shapes."""
    return values.dtype == object and any(isinstance(value, np.ndarray) for value in values)


def _row(values: Array, i: int) -> Array:
    return values[i][None] if isinstance(values[i], np.ndarray) else values[i : i + 1]


def _check_fit(given: Column, wanted: Column) -> None:
    """Raises CheckpointError where no value of `given` could be fed to the input `wanted`."""
    texts = "str" in (given.dtype, wanted.dtype)
    types = given.dtype == wanted.dtype if texts else given.dtype in (*_NUMBERS, "bool")
    types = types and (texts or np.can_cast(str(given.dtype), str(wanted.dtype), "same_kind"))
    shapes = len(given.shape) == len(wanted.shape) and all(
        -1 in (a, b) or a == b for a, b in zip(given.shape, wanted.shape, strict=True)
    )
    if not types or not (shapes or (given.shape, wanted.shape) == ((), (1,))):
        raise CheckpointError(
            f"The signature says that {given.name!r} is {given.dtype} of the shape {given.shape} "
            f"for each row, and the model's input {wanted.name!r} is {wanted.dtype} of the shape "
            f"{wanted.shape}. Log the model with a signature of its inputs."
        )


def _is_model(name: str) -> bool:
    return name.endswith(".keras") or name.rpartition("/")[2] == FILE


def _model_file(artifact: Artifact) -> str:
    """Name of the `.keras` or HDF5 file, or of the `saved_model.pb`."""
    where = artifact.flavor.get("saved_model_dir", artifact.flavor.get("data"))
    names: Sequence[str] = artifact.names
    if where is not None:
        artifact.path(where)
        names = [name for name in names if name.startswith(f"{where}/")]
    found = [n for n in names if _is_model(n)] or [n for n in names if n.endswith(_HDF5)]
    if len(found) != 1:
        raise CheckpointError(
            f"There should be one .keras file or SavedModel, and there is {found or 'none'}. Log "
            "the model again."
        )
    return found[0]


def _function(artifact: Artifact) -> Function:
    name, is_allowed = _model_file(artifact), bool(code_in(artifact))
    path = artifact.path(name)
    _start()
    try:
        if name.rpartition("/")[2] == FILE:
            return _of_saved_model(path.parent, artifact.flavor.get("signature_def_key"))
        return _of_keras(path, _custom_objects(artifact) if is_allowed else None)
    except CheckpointError:
        raise
    except Exception as error:  # what they raise for damaged files is of many classes
        raise CheckpointError(f"{name} is no model that TensorFlow loads: {error}") from error


def _start() -> None:
    """Before the first use: no logs but errors, and the threads of this replica."""
    default_environment({"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"})
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    threads = math_threads()
    if threads and tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def _custom_objects(artifact: Artifact) -> dict[str, Any]:
    """Classes that MLflow pickled; the user has allowed that this model runs code."""
    found: dict[str, Any] = {}
    for name in ("global_custom_objects.cloudpickle", "custom_objects.cloudpickle"):
        for pickled in artifact.with_suffix(f"/{name}"):
            found |= with_cloudpickle(artifact.path(pickled))
    return found


def _of_keras(path: Path, custom_objects: dict[str, Any] | None) -> Function:
    """A Keras model, traced once for any number of rows; null for the safe loader."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(
        path, custom_objects=custom_objects, compile=False, safe_mode=custom_objects is None
    )
    inputs = getattr(model, "inputs", None)
    if not inputs or any(given.sparse or given.ragged for given in inputs):
        raise CheckpointError(
            f"{path.name} does not say which dense tensors it takes. Build it with keras.Input, or "
            "serve what model.export() writes."
        )
    is_sequential = isinstance(model, keras.Sequential)
    structure = inputs[0] if is_sequential else model.input
    specs = [tf.TensorSpec(i.shape, i.dtype, i.name) for i in inputs]

    def predict(*tensors: Any) -> dict[str, Any]:
        answer = model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)
        if isinstance(answer, dict):
            return answer
        values = keras.tree.flatten(answer)
        names = ["prediction"] if len(values) == 1 else model.output_names
        if len(set(names)) < len(values):
            names = [f"output_{i}" for i in range(len(values))]
        return dict(zip(names, values, strict=True))

    function = tf.function(predict, input_signature=specs, autograph=False)
    return _traced(model, function.get_concrete_function(), specs, classes=_classes(model))


def _classes(model: Any) -> int:
    """How many classes the model gives probabilities of; 0 if it might be something else."""
    import keras

    last = model
    while isinstance(last, keras.Sequential) or hasattr(last, "output_names"):
        if len(last.outputs) != 1:
            return 0
        try:
            is_sequential = isinstance(last, keras.Sequential)
            last = last.layers[-1] if is_sequential else last.get_layer(last.output_names[0])
        except ValueError:  # the last is an operation, and no layer
            return 0
    with_activation = (keras.layers.Dense, keras.layers.Activation)
    is_softmax = (isinstance(last, keras.layers.Softmax) and last.axis == -1) or (
        isinstance(last, with_activation) and last.activation is keras.activations.softmax
    )
    shape = model.outputs[0].shape
    return (shape[1] or 0) if is_softmax and len(shape) == 2 and shape[1] != 1 else 0


def _of_saved_model(folder: Path, signature: str | None) -> Function:
    """The serving signature, or what calling the object does if it has been traced for rows."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    known = dict(loaded.signatures)
    key = signature or ("serving_default" if len(known) > 1 else next(iter(known), None))
    if key in known:
        named = known[key].structured_input_signature[1]
        specs = list(named.values())
        return _traced(loaded, known[key], specs, names=list(named))
    traced = loaded.__call__.concrete_functions if callable(loaded) else []
    for function in sorted(traced, key=lambda f: _batch(f.inputs[:1]) is not None):
        specs, named = function.structured_input_signature
        if specs and not named and all(isinstance(spec, tf.TensorSpec) for spec in specs):
            return _traced(loaded, function, list(specs))
    raise CheckpointError(
        f"{folder.name} has the signatures {list(known)}. Save it with one: tf.saved_model.save("
        "module, path, signatures=module.__call__), with input_signature in its tf.function."
    )


def _traced(
    model: Any,
    function: Any,
    specs: list[Any],
    names: list[str] | None = None,
    classes: int = 0,
) -> Function:
    """A concrete function of TensorFlow as one of arrays.

    Args:
        model: As in `Function`, like `classes`.
        function: Already traced, so that no batch size makes it trace again.
        specs: Of its inputs.
        names: Of the inputs, if it takes them by name.
        classes: See there.
    """
    import tensorflow as tf

    def run(arrays: Sequence[Array]) -> dict[str, Array]:
        fed = [
            tf.cast(tf.convert_to_tensor(a), s.dtype) for a, s in zip(arrays, specs, strict=True)
        ]
        answer = function(*fed) if names is None else function(**dict(zip(names, fed, strict=True)))
        outputs = answer if isinstance(answer, dict) else {"prediction": answer}
        return {name: _plain(value.numpy()) for name, value in outputs.items()}

    batch = _batch(specs)
    if batch not in (None, 1):
        raise CheckpointError(
            f"The model takes {batch} rows at once, no more and no less. Save it for any number: "
            "with None as the first of the input's shape."
        )
    shown = names or [spec.name or f"input_{i}" for i, spec in enumerate(specs)]
    return Function(list(map(_column, shown, specs)), batch, run, classes, model)


def _batch(specs: Sequence[Any]) -> int | None:
    """How many rows are fixed by the shapes."""
    return next((s.shape[0] for s in specs if s.shape.rank and s.shape[0] is not None), None)


def _column(name: str, spec: Any) -> Column:
    dtype = _DTYPES.get(spec.dtype.name, spec.dtype.name)
    if not spec.shape.rank or dtype not in {*_NUMBERS, *_DTYPES.values()}:
        raise CheckpointError(
            f"The model's input {name!r} is {spec.dtype.name} of the shape {spec.shape}; Salver "
            "feeds numbers, booleans and texts, with the rows as the first dimension."
        )
    return Column(name, tensor(dtype, [-1 if size is None else size for size in spec.shape]))


def _plain(array: Array) -> Array:
    """Texts as such, numbers in a type that numpy knows, and one number per row as numbers."""
    if array.dtype == object:
        texts = [value.decode(errors="replace") for value in array.ravel()]
        array = np.array(texts, dtype=object).reshape(array.shape)
    elif array.dtype.kind == "V":  # bfloat16
        array = array.astype(np.float32)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
