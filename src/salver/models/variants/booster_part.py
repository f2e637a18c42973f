"""A booster of LightGBM or XGBoost: another object takes its place, which answers from a graph.

Of LightGBM that is `predict`, of XGBoost `inplace_predict`: its `predict` is given a DMatrix, which
does not tell what is in it. All else is asked of the booster. It does not know how a graph is made
of a booster.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.variants.parts import Array, Call, Instead, Run, held, outputs_of, put
from salver.models.variants.sklearn_part import (
    FORMS,
    arranged,
    arrays_for,
    arrays_of,
    not_finite,
)

_METHODS = {"lightgbm": "predict", "xgboost": "inplace_predict"}


class BoosterPart:
    """See the module's description.

    Args:
        value: A `lightgbm.Booster` or an `xgboost.Booster`.
        holder: The object that holds it.
        name: Under which name, key or position.
    """

    kind = "booster"

    def __init__(self, value: Any, holder: Any, name: str | int) -> None:
        self.value = value
        self.method = _METHODS[type(value).__module__.partition(".")[0]]
        self._holder, self._name = holder, name
        self._not_finite: list[int] = []  # shared by all calls, so that in the end it is the same

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Call]]:
        """See `Part`; the constants are the form of the table, and the options of the call."""
        calls: list[Call] = []

        def ask(data: Any, *args: Any, **options: Any) -> Any:
            if args:
                raise CheckpointError(
                    f"The booster's {self.method} is given options without their names, which "
                    "salver optimize does not know apart."
                )
            given = arrays_of(data)
            if given is not None:
                arrays, form = given
                self._not_finite[:] = sorted({*self._not_finite, *not_finite(arrays.values())})
                seen = {"options": _plain(options), "not_finite": self._not_finite}
                calls.append(Call({n: a.copy() for n, a in arrays.items()}, {**form, **seen}))
            return getattr(self.value, self.method)(data, **options)

        instead = Instead(self.value, self.method, ask)
        with held(self._holder, self._name, self.value, instead):
            yield calls

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """See `Part`; the first call shows the shape and dtype of the answers."""
        if "options" not in constants or constants.get("form") not in FORMS:
            raise CheckpointError("The graph was made for another kind of part than a booster.")
        answers: list[Array] = []

        def ask(data: Any, *args: Any, **options: Any) -> Any:
            is_usual = not args and _is(options, constants["options"])
            arrays = arrays_for(data, constants, inputs) if is_usual else None
            found = None if arrays is None else outputs_of(run, arrays)
            if found is None:
                return getattr(self.value, self.method)(data, *args, **options)
            if not answers:
                original = getattr(self.value, self.method)
                answers.append(np.asarray(original(data, **options))[:0])
            return arranged(found[-1], answers[0])

        put(self._holder, self._name, Instead(self.value, self.method, ask))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(json.dumps(options))
    except TypeError as error:
        raise CheckpointError(
            f"The booster is given {', '.join(options)}; salver optimize exchanges boosters that "
            f"are given a table and plain options: {error}"
        ) from error
    return found


def _is(options: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    try:
        return not (options or wanted) or _plain(options) == wanted
    except CheckpointError:
        return False
