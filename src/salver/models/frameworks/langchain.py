"""LangChain: runnables, from scripts or pickles. Loading one always runs code of the artefact.

It does not know where the files came from.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.pyfunc import PREDICTION, not_loaded, prepare, scripts_in
from salver.models.mlmodel import read_mlmodel
from salver.models.signature import Signature, no_signature

LIBRARY = "langchain-core"
MODULES = ("langchain_core", "pandas", "cloudpickle")
EXTRA = "langchain"
FLAVORS = ("langchain",)

_HELD = (".pkl", ".yaml", ".json")  # steps, each in a file of its own


def recognise(_names: tuple[str, ...]) -> bool:
    """Never: bare files of LangChain do not say what they take."""
    return False


def code_in(artifact: Artifact) -> list[str]:
    """The script; else the pickles, and the files that name classes and their arguments."""
    whole = _with_pyfunc(artifact)
    reasons = scripts_in(whole)
    data = whole.flavor.get("model_data")
    if data:
        artifact.path(data)
        held = [n for n in artifact.names if n == data or n.startswith(f"{data}/")]
        pickles = [n for n in held if n.endswith(".pkl")]
        reasons += [
            f"{name} is a pickle, which can run anything when it is read" for name in pickles
        ]
        others = [n for n in held if n not in pickles and n.endswith(_HELD)]
        reasons += [f"{name} names classes that would be imported and made" for name in others]
    return reasons or ["the flavor langchain names no file, so MLflow decides what it runs"]


def signature_of(artifact: Artifact) -> Signature:
    """It does not say without being run."""
    raise no_signature(str(artifact.folder))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The runnable behind `Chain`."""
    prepare()
    import mlflow.langchain
    from mlflow.models import Model as Logged

    try:
        runnable = mlflow.langchain.load_model(str(artifact.folder))
    except Exception as error:  # of code that may raise anything
        raise not_loaded(error) from error
    inputs = Logged.load(str(artifact.folder)).get_input_schema()
    return Chain(runnable, inputs.input_names() if inputs.has_input_names() else None)


class Chain:
    """Asks a runnable for a batch at a time.

    Rows that only an asynchronous call can answer are asked so, on a loop of the chain's own:
    clients of services stay bound to the loop that they were first used on.

    Args:
        runnable: LangChain's.
        names: Of the columns, which make up a mapping; null for the value of the only column.

    Raises:
        CheckpointError: If it is no runnable, or takes no mapping.
    """

    def __init__(self, runnable: Any, names: list[str] | None) -> None:
        from langchain_core.language_models import BaseLanguageModel

        if not callable(getattr(runnable, "batch", None)):
            raise CheckpointError(
                f"A {type(runnable).__name__} is no runnable: it has no batch(). Give "
                "mlflow.models.set_model() a langchain_core Runnable."
            )
        self._runnable = runnable
        # A model by itself takes a text or a list of messages, and no mapping.
        self._is_named = names is not None and not isinstance(runnable, BaseLanguageModel)
        if not self._is_named and names is not None and len(names) > 1:
            raise CheckpointError(
                f"The signature has the inputs {names}, and a {type(runnable).__name__} takes one: "
                "a text, or a list of messages. Put a prompt before it, or log it with one input."
            )
        self._is_async = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """The answers: texts, messages and other objects as plain mappings.

        A row that failed has its exception instead, so that the others need not be asked again.
        """
        answers = self._answers(self._rows(inputs))
        return {PREDICTION: [a if isinstance(a, Exception) else _plain(a) for a in answers]}

    def _rows(self, inputs: Inputs) -> list[Any]:
        columns = [column.tolist() for column in inputs.values()]
        if not self._is_named:
            return list(columns[0])
        return [dict(zip(inputs, values, strict=True)) for values in zip(*columns, strict=True)]

    def _answers(self, rows: list[Any]) -> list[Any]:
        """One answer or exception for each row."""
        if self._is_async:
            return self._asynchronously(rows)
        answers: list[Any] = self._runnable.batch(rows, return_exceptions=True)
        # What LangChain's own runnables raise if they have no synchronous form.
        refused = [
            i for i, a in enumerate(answers) if isinstance(a, TypeError | NotImplementedError)
        ]
        if refused:
            again = self._asynchronously([rows[i] for i in refused])
            self._is_async = not any(isinstance(a, Exception) for a in again)
            for i, answer in zip(refused, again, strict=True):
                answers[i] = answer
        return answers

    def _asynchronously(self, rows: list[Any]) -> list[Any]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asking: Coroutine[Any, Any, list[Any]] = self._runnable.abatch(rows, return_exceptions=True)
        return list(asyncio.run_coroutine_threadsafe(asking, self._loop).result())


def _plain(value: Any) -> Any:
    """Messages as their content and type; documents and other models as mappings."""
    from langchain_core.messages import BaseMessage
    from pydantic import BaseModel

    if isinstance(value, BaseMessage):
        calls = getattr(value, "tool_calls", None)
        more = {"tool_calls": _plain(calls)} if calls else {}
        return {"content": _plain(value.content), "type": value.type, **more}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _with_pyfunc(artifact: Artifact) -> Artifact:
    """What either flavour says: the script stands with python_function since MLflow 2.12."""
    flavors = read_mlmodel(artifact.folder, str(artifact.folder)).flavors
    other = flavors.get("python_function", {})
    given = {k: v for k, v in artifact.flavor.items() if v is not None}
    return Artifact(artifact.folder, artifact.names, {**other, **given})
