"""MLflow's python functions: models of one's own, and flavours that no other adapter knows.

Loading one always runs code of the artefact. It does not know where the files came from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.signature import Signature, no_signature
from salver.settings import default_environment

LIBRARY = "pandas and cloudpickle"
MODULES = ("pandas", "cloudpickle")  # MLflow itself comes with Salver
EXTRA = "pyfunc"
FLAVORS = ("python_function",)

PREDICTION = "prediction"
SHOWN = 20  # files of a folder that are named in an error


def recognise(_names: tuple[str, ...]) -> bool:
    """Never: what would run stands in the `MLmodel` file."""
    return False


def code_in(artifact: Artifact) -> list[str]:
    """The pickle or script, the folder of code, and the module that loads it all."""
    flavor = artifact.flavor
    loader = flavor.get("loader_module")
    if not isinstance(loader, str):
        raise CheckpointError(f"The flavor python_function names no loader_module: {loader!r}.")
    _check_artifacts(artifact)
    reasons = []
    if flavor.get("python_model"):
        name = flavor["python_model"]
        artifact.path(name)
        reasons.append(f"{name} is a pickle, which can run anything when it is read")
    reasons += scripts_in(artifact)
    data = flavor.get("data")
    if data:
        artifact.path(data)
    reasons.append(f"the module {loader} would be imported" + (f", to read {data}" if data else ""))
    return reasons


def scripts_in(artifact: Artifact) -> list[str]:
    """The script that makes the model, and the folder of modules that come along with it."""
    reasons = []
    script, folder = artifact.flavor.get("model_code_path"), artifact.flavor.get("code")
    if script:
        name = PurePath(script).name  # MLflow writes down where it lay when it was logged
        artifact.path(name)
        reasons.append(f"{name} is Python code, which is run")
    if folder:
        artifact.path(folder)
        files = [name for name in artifact.names if name.startswith(f"{folder}/")]
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        reasons.append(f"{', '.join(files[:SHOWN])}{more} can be imported")
    return reasons


def _check_artifacts(artifact: Artifact) -> None:
    """All that its code is given to read must be among the files that the digest covers."""
    listed = artifact.flavor.get("artifacts") or {}
    parts = listed.values() if isinstance(listed, Mapping) else [None]
    for part in parts:
        artifact.path(part.get("path") if isinstance(part, Mapping) else part)


def signature_of(artifact: Artifact) -> Signature:
    """It does not say without being run."""
    raise no_signature(str(artifact.folder))


def load(artifact: Artifact, signature: Signature) -> Model:
    """MLflow's model behind `PythonFunction`, or `Agent` if it takes one request at a time."""
    prepare()
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(artifact.folder))
    except Exception as error:  # of code that may raise anything
        raise not_loaded(error) from error
    agents = (mlflow.pyfunc.ChatModel, mlflow.pyfunc.ChatAgent, mlflow.pyfunc.ResponsesAgent)
    is_agent = isinstance(_within(model), agents)
    return Agent(model, signature) if is_agent else PythonFunction(model)


def _within(model: Any) -> Any:
    """What MLflow has wrapped; null where it does not say."""
    try:
        return model.get_raw_model()
    except NotImplementedError:
        return None


def prepare() -> None:
    """For loading code with MLflow: nothing is reported or traced, nothing written beside it."""
    default_environment({"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_CONFIGURE_LOGGING": "false"})
    # With bytecode in it, the folder would no longer be what its digest says.
    sys.dont_write_bytecode = True
    import mlflow.tracing

    # Agents would send each request to MLflow's store, or to a new one in the working directory.
    mlflow.tracing.disable()


def not_loaded(error: Exception) -> CheckpointError:
    """The error for code that fails; missing modules are the usual reason."""
    return CheckpointError(
        f"The model's code failed when it was loaded: {type(error).__name__}: {error}. What it "
        "was logged with stands in the requirements.txt beside it: pip install -r that file."
    )


class PythonFunction:
    """Asks a python function as `PyFuncModel.predict` is asked, without its checks.

    MLflow checks and converts each value of each request, which takes longer than most models.
    Rows have been checked and typed by the same signature before they come here.

    Args:
        model: MLflow's.
    """

    def __init__(self, model: Any) -> None:
        from mlflow.models import ModelSignature

        metadata = model.metadata
        inputs = metadata.get_input_schema()
        self._is_named = inputs.has_input_names()
        self._is_tensor = inputs.is_tensor_spec()
        logged = metadata.to_dict()
        self._is_list = logged.get("is_signature_from_type_hint", False)
        if not self._is_list and not logged.get("type_hint_from_example", False):
            # The defaults of parameters are MLflow's to fill in.
            params = metadata.get_params_schema()
            metadata.signature = None if params is None else ModelSignature(params=params)
        self._model = model

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        n = len(next(iter(inputs.values())))
        return as_columns(self._model.predict(self._given(inputs)), n)

    def _given(self, inputs: Inputs) -> Any:
        """The form in which a function gets rows: by the kind of the signature."""
        if self._is_tensor:
            return dict(inputs) if self._is_named else next(iter(inputs.values()))
        if self._is_list:
            return next(iter(inputs.values())).tolist()
        import pandas as pd

        names = inputs if self._is_named else (0,)
        values = map(_as_pandas, inputs.values())
        return pd.DataFrame(dict(zip(names, values, strict=True)))


class Agent:
    """Asks a chat model or agent of MLflow's, which takes one request and gives one answer.

    Args:
        model: MLflow's.
        signature: Its inputs.
    """

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model = model
        self._integers = {c.name for c in signature.columns if str(c.dtype).startswith("int")}

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """The answers as they are, as mappings."""
        columns = [column.tolist() for column in inputs.values()]
        rows = (dict(zip(inputs, values, strict=True)) for values in zip(*columns, strict=True))
        return {PREDICTION: [_plain(self._model.predict(self._request(row))) for row in rows]}

    def _request(self, row: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in row.items() if value == value}  # not NaN
        # Integers are floats in a column in which one is missing.
        whole = {name: int(given[name]) for name in self._integers & given.keys()}
        request: dict[str, Any] = _without_missing({**given, **whole})
        return request


def as_columns(answer: Any, n: int) -> dict[str, Any]:
    """What a python function gave, by column.

    Args:
        answer: A DataFrame or a mapping of columns; else one column of n entries.
        n: Number of rows.
    """
    import pandas as pd

    if isinstance(answer, pd.DataFrame):
        names: Any = answer.columns
        if isinstance(names, pd.RangeIndex):  # those of a table without names
            matrix = answer.to_numpy()
            return {PREDICTION: _column(matrix[:, 0] if len(names) == 1 else matrix)}
        return {str(name): _column(answer[name]) for name in answer.columns}
    if isinstance(answer, Mapping):
        return {str(name): _column(values) for name, values in answer.items()}
    if hasattr(answer, "toarray"):  # a sparse matrix
        answer = answer.toarray()
    return {PREDICTION: _column(answer)}


def _column(values: Any) -> Any:
    """A column as plain values; arrays of numbers as they are."""
    import pandas as pd

    if isinstance(values, pd.Series):
        kind = values.dtype.kind
        # Missing texts, times and integers are null; a missing float is no finite answer.
        values = values.to_numpy() if kind in "biuf" and not values.hasnans else _objects(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values
    return _plain(values)


def _objects(values: Any) -> Any:
    given = values.astype(object)
    return given if values.dtype.kind == "f" else given.where(values.notna(), None)


def _plain(value: Any) -> Any:
    """Models, times and bytes as JSON knows them; what it does not know stays as it is."""
    if hasattr(value, "tolist"):
        is_time = value.dtype.kind == "M"
        value = (value.astype("datetime64[us]") if is_time else value).tolist()
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
        return _jsonable(value)
    return [_jsonable(one) for one in value]


def _jsonable(value: Any) -> Any:
    def fallback(other: Any) -> Any:
        return other.tolist() if hasattr(other, "tolist") else other

    return to_jsonable_python(
        value, bytes_mode="base64", inf_nan_mode="constants", fallback=fallback
    )


def _as_pandas(values: Any) -> Any:
    if values.dtype.kind == "M":
        return values.astype("datetime64[ns]")  # as MLflow has them
    return values if values.ndim == 1 else list(values)


def _without_missing(value: Any) -> Any:
    """Parts that were not given, which stand as null in a row, are left out."""
    if isinstance(value, dict):
        return {name: _without_missing(v) for name, v in value.items() if v is not None}
    return [_without_missing(v) for v in value] if isinstance(value, list) else value
