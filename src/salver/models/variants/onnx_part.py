"""A session of ONNX Runtime: another object takes its place, which is asked in the same way.

What is not `run` (metadata, names of inputs) is still asked of the session, and so is a call of
another form. It does not know which runtime answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.variants.parts import Call, Instead, Run, held, outputs_of, put


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
        """See `Part`; a call that leaves out an input is one of another form."""
        calls: list[Call] = []
        names = _names(self.value.get_inputs())

        def run(output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
            if set(input_feed) == set(names):
                # Copied, for a class may write the next rows into the same memory.
                arrays = {name: np.array(input_feed[name]) for name in names}
                calls.append(Call(arrays, {}))
            return self.value.run(output_names, input_feed, run_options)

        with held(self._holder, self._name, self.value, Instead(self.value, "run", run)):
            yield calls

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """See `Part`."""
        names = _names(self.value.get_outputs())
        dtypes = dict(inputs)
        if list(dtypes) != _names(self.value.get_inputs()) or constants:
            raise CheckpointError("The graph has other inputs than the one that was optimised.")

        def ask(output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
            wanted = output_names or names
            given = {name: np.asarray(value) for name, value in input_feed.items()}
            is_usual = (
                {name: str(array.dtype) for name, array in given.items()} == dtypes
                and set(wanted) <= set(names)
                and run_options is None
            )
            found = outputs_of(run, [given[name] for name in dtypes]) if is_usual else None
            if found is None:
                return self.value.run(output_names, input_feed, run_options)
            by_name = dict(zip(names, found, strict=True))
            return [by_name[name] for name in wanted]

        put(self._holder, self._name, Instead(self.value, "run", ask))


def _names(given: Sequence[Any]) -> list[str]:
    return [one.name for one in given]
