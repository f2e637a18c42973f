"""A session of ONNX Runtime: another object takes its place, which is asked in the same way.

What is not `run` (metadata, names of inputs) is still asked of the session. It does not know which
runtime answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.variants.parts import Call, Run, put


class OnnxPart:
    """See the module's description.

    Args:
        value: An `onnxruntime.InferenceSession`.
        holder: The object that holds it.
        name: Under which name, key or position.
    """

    kind = "onnx"

    def __init__(self, value: Any, holder: Any, name: str | int) -> None:
        self.value = value
        self._holder, self._name = holder, name

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Call]]:
        """See `Part`."""
        calls: list[Call] = []

        def run(outputs: Any, feeds: Mapping[str, Any], *options: Any) -> Any:
            arrays = {n: np.asarray(feeds[n]) for n in _names(self.value.get_inputs())}
            calls.append(Call(arrays, {}))
            return self.value.run(outputs, feeds, *options)

        put(self._holder, self._name, _Instead(self.value, run))
        try:
            yield calls
        finally:
            put(self._holder, self._name, self.value)

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """See `Part`; a call that leaves out an input goes to the original."""
        names = _names(self.value.get_outputs())
        if [name for name, _ in inputs] != _names(self.value.get_inputs()) or constants:
            raise CheckpointError("The graph has other inputs than the one that was optimised.")

        def asked(outputs: Any, feeds: Mapping[str, Any], *options: Any) -> Any:
            if set(feeds) != {name for name, _ in inputs}:
                return self.value.run(outputs, feeds, *options)
            found = run([np.asarray(feeds[name], dtype) for name, dtype in inputs])
            by_name = dict(zip(names, found, strict=True))
            return [by_name[name] for name in outputs or names]

        put(self._holder, self._name, _Instead(self.value, asked))


class _Instead:
    """A session with another `run`."""

    def __init__(self, session: Any, run: Any) -> None:
        self._session = session
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _names(given: Sequence[Any]) -> list[str]:
    return [one.name for one in given]
