"""The one place where the steps are spelled: model, checks of its output, policies, outcomes.

Whatever a model does (raise, return too few rows, return NaN), each row of a batch gets exactly
one outcome, and a bad row does not hurt its neighbours: a batch that fails is halved until the
rows concerned stand alone. The pipeline does not know where it runs nor who asked.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np

from salver.columns import INT64_MAX, INT64_MIN
from salver.errors import ConfigError, MissingExtra
from salver.policies import Policy, Scored
from salver.types import Batch, ClassProbabilities, Failure, Outcomes

PROBABILITIES = "probabilities"
PREDICTION = "prediction"


class BadModelOutput(Exception):
    """What a model returned is not one entry per row of plain values."""


class Pipeline:
    """Runs one loaded model on batches.

    Args:
        model: Maps a dict of columns to an array of shape (n, k), a dict of columns of n entries,
            or n predictions. Class names come from its `classes_`, if it has them.
        policies: Applied in order to what the model said.
        batch_format: "numpy" gives the model a dict of arrays, "pandas" a DataFrame.
        log: Receives the traceback of every exception of the model.

    Raises:
        ConfigError: If a policy needs probabilities and the model names no classes, or names two
            alike.
        MissingExtra: If pandas is wanted and not installed.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        policies: Sequence[Policy] = (),
        batch_format: str = "numpy",
        log: Callable[[str], None] = lambda _text: None,
    ) -> None:
        if batch_format == "pandas":
            _check_pandas()
        self.model = model
        self.policies = tuple(policies)
        self.batch_format = batch_format
        self.classes = _class_names(model)
        self._log = log
        for policy in self.policies:
            if policy.needs_probabilities and not self.classes:
                raise ConfigError(
                    f"{policy!r} needs class probabilities, but {type(model).__name__} names no "
                    "classes. Set self.classes_ in __init__ and return {'probabilities': (n, k)}, "
                    "or remove the policy."
                )

    def run(self, batch: Batch) -> Outcomes:
        """One outcome per row of `batch`, in order."""
        return self._attempt(batch, self.policies)

    def takes_batches(self, batch: Batch) -> bool:
        """Whether the model answers all of `batch` at once, for `run` hides it if it does not."""
        try:
            self._step(batch, ())
        except Exception:  # noqa: BLE001 - a model may raise anything
            return False
        return True

    def run_without_policies(self, batch: Batch) -> Outcomes:
        """What the model itself says, for comparing with what was recorded at training."""
        return self._attempt(batch, ())

    def _attempt(self, batch: Batch, policies: Sequence[Policy]) -> Outcomes:
        if not len(batch):
            return Outcomes(0, {})
        try:
            return self._step(batch, policies)
        except BaseException as raised:  # noqa: BLE001 - a model may raise anything, SystemExit too
            error = raised
        if len(batch) == 1:
            return Outcomes(1, {}, {0: self._failure(error)})
        middle = len(batch) // 2
        return joined(
            self._attempt(batch[:middle], policies), self._attempt(batch[middle:], policies)
        )

    def _step(self, batch: Batch, policies: Sequence[Policy]) -> Outcomes:
        given = columns_of(batch, self.batch_format)
        scored, failures = self._checked(self.model(given), len(batch))
        for policy in policies:
            scored = self._decided(policy, scored, len(batch), failures)
        return _outcomes(scored, failures, len(batch))

    def _decided(
        self, policy: Policy, scored: Scored, n: int, failures: dict[int, Failure]
    ) -> Scored:
        """What a policy makes of the rows, checked like the output of a model."""
        name = type(policy).__name__
        if policy.needs_probabilities and scored.probabilities is None:
            raise BadModelOutput(f"it has no {PROBABILITIES!r}, which {name} needs.")
        after = policy(scored)
        if after is scored:
            return scored
        sizes = [len(column) for column in after.columns.values()]
        if any(size != n for size in [*sizes, len(after.abstained)]):
            raise BadModelOutput(f"{name} did not return one entry per row.")
        columns = {
            column: values
            if values is scored.columns.get(column)
            else [_plain(v, column, i, failures) for i, v in enumerate(values)]
            for column, values in after.columns.items()
        }
        return replace(after, columns=columns)

    def _checked(self, output: Any, n: int) -> tuple[Scored, dict[int, Failure]]:
        """The model's output as plain columns; rows that are not finite are failures."""
        columns = _as_columns(output, n)
        failures: dict[int, Failure] = {}
        raw = columns.pop(PROBABILITIES, None)
        probabilities = None if raw is None else self._probabilities(raw, n)
        if probabilities is not None:
            _fail_what_is_not_finite(probabilities, failures)
        plain = {
            name: [_plain(v, name, i, failures) for i, v in enumerate(values)]
            for name, values in columns.items()
        }
        if probabilities is not None and PREDICTION not in plain and self.classes:
            numbers = np.nan_to_num(probabilities) if failures else probabilities
            best = numbers.argmax(axis=1).tolist()
            plain = {PREDICTION: [self.classes[i] for i in best], **plain}
        return Scored(plain, probabilities, self.classes, np.zeros(n, dtype=bool)), failures

    def _probabilities(self, raw: Any, n: int) -> np.ndarray[Any, Any]:
        try:
            array = np.asarray(raw, dtype=np.float64)
        except (TypeError, ValueError):
            raise BadModelOutput("probabilities are not an array of numbers.") from None
        k = len(self.classes) or None
        if array.ndim != 2 or len(array) != n or (k is not None and array.shape[1] != k):
            raise BadModelOutput(
                f"probabilities have shape {array.shape}, expected {(n, k or 'k')}."
            )
        return array

    def _failure(self, error: BaseException) -> Failure:
        failure = _failure_of(error)
        self._log(failure.detail or failure.message)
        return failure


def _failure_of(error: BaseException) -> Failure:
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, BadModelOutput):
        return Failure("bad_model_output", f"The model's output is not usable: {error}", detail)
    kind = type(error).__name__
    return Failure("model_error", f"The model raised {kind} on this row.", detail)


def _class_names(model: Any) -> tuple[Any, ...]:
    classes = getattr(model, "classes_", None)
    if classes is None:
        return ()
    names = tuple(c.item() if isinstance(c, np.generic) else c for c in classes)
    if len({str(name) for name in names}) < len(names):
        raise ConfigError(
            f"{type(model).__name__}.classes_ is {names!r}; each class must have a name of its own."
        )
    return names


def _as_columns(output: Any, n: int) -> dict[str, Sequence[Any]]:
    """The model's output as columns of n entries, whichever accepted form it has."""
    columns: dict[str, Sequence[Any]]
    if type(output) is dict:  # nearly always; the other looks take a while each
        columns = {str(name): values for name, values in output.items()}
    elif isinstance(output, np.ndarray) and output.ndim == 2:
        columns = {PROBABILITIES: output}  # type: ignore[dict-item]
    elif hasattr(output, "to_dict") and hasattr(output, "columns"):  # a pandas DataFrame
        columns = {str(name): output[name].tolist() for name in output.columns}
    elif isinstance(output, Mapping):
        columns = {str(name): values for name, values in output.items()}
    elif isinstance(output, np.ndarray | list | tuple):
        columns = {PREDICTION: output}  # type: ignore[dict-item]
    else:
        raise BadModelOutput(
            f"it is a {type(output).__name__}; expected a dict of columns or an array with one "
            "entry per row."
        )
    for name, values in columns.items():
        size = _size(values)
        if size != n:
            given = f"is a {type(values).__name__}" if size is None else f"has {size} entries"
            raise BadModelOutput(f"column {name!r} {given}, expected {n} entries, one per row.")
    if not columns:
        raise BadModelOutput("it has no columns.")
    return columns


def _size(values: Any) -> int | None:
    """Entries of a column; null for what is no column, or has no order."""
    if type(values) is list:
        return len(values)
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__len__"):
        return None
    if isinstance(values, np.ndarray) and values.ndim == 0:
        return None
    return len(values)


def _check_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("pandas", "batch_format='pandas'", "pandas") from None


def columns_of(batch: Batch, batch_format: str) -> Any:
    """What a model is called with: a dict of arrays, or a DataFrame."""
    columns = batch.columns()
    if batch_format != "pandas":
        return columns
    import pandas as pd

    # With the dtypes of the arrays; pandas 3 would make texts and None its own.
    return pd.DataFrame({name: pd.Series(a, dtype=a.dtype) for name, a in columns.items()})


def _plain(value: Any, name: str, row: int, failures: dict[int, Failure]) -> Any:
    """`value` as JSON knows it; a number that is not finite, or an exception, fails the row."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, int):
        return _integer(value, name)
    if isinstance(value, float):
        if not np.isfinite(value):
            failures.setdefault(row, _not_finite(name))
        return value
    if isinstance(value, list | tuple):
        return [_plain(v, name, row, failures) for v in value]
    if isinstance(value, Mapping):
        return {_text(str(k), name): _plain(v, name, row, failures) for k, v in value.items()}
    if isinstance(value, Exception):  # of a model that asks others, and knows which row failed
        failures.setdefault(row, _failure_of(value))
        return None
    raise BadModelOutput(
        f"column {name!r} holds a {type(value).__name__}; expected texts, numbers, booleans, null, "
        "and lists or mappings of these."
    )


def _text(value: str, name: str) -> str:
    text = str.__str__(value)  # a member of an enum of texts is its text
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadModelOutput(f"column {name!r} holds a text with a lone surrogate.") from None
    return text


def _integer(value: int, name: str) -> int:
    if INT64_MIN <= value <= INT64_MAX:
        return int(value)
    raise BadModelOutput(f"column {name!r} holds an integer beyond 64 bits.")


def plain_row(result: Mapping[str, Any]) -> tuple[dict[str, Any], Failure | None]:
    """One result as plain values, and why it cannot be given if it holds NaN or inf.

    Raises:
        BadModelOutput: If it holds what JSON does not know.
    """
    failures: dict[int, Failure] = {}
    value = {str(name): _plain(v, str(name), 0, failures) for name, v in result.items()}
    return value, failures.get(0)


def _fail_what_is_not_finite(
    probabilities: np.ndarray[Any, Any], failures: dict[int, Failure]
) -> None:
    finite = np.isfinite(probabilities)
    if not finite.all():
        for i in np.flatnonzero(~finite.all(axis=1)):
            failures[int(i)] = _not_finite(PROBABILITIES)


def _not_finite(name: str) -> Failure:
    return Failure(
        "non_finite_output", f"The model gave a number that is not finite (NaN or inf) in {name!r}."
    )


def _outcomes(scored: Scored, failures: dict[int, Failure], n: int) -> Outcomes:
    columns: dict[str, Sequence[Any]] = dict(scored.columns)
    if scored.probabilities is not None:
        values = scored.probabilities.tolist()
        if scored.classes:
            names = tuple(str(c) for c in scored.classes)
            columns[PROBABILITIES] = ClassProbabilities(names, values)
        else:
            columns[PROBABILITIES] = values
    abstained = frozenset(compress(range(n), scored.abstained.tolist()))
    return Outcomes(n, columns, failures, abstained - failures.keys() if failures else abstained)


def joined(first: Outcomes, second: Outcomes) -> Outcomes:
    """The outcomes of two neighbouring batches as one; columns that only one has are null."""
    n = first.size
    columns: dict[str, Sequence[Any]] = {}
    for name in dict.fromkeys([*first.columns, *second.columns]):
        columns[name] = _joined_column(first, second, name)
    failures = {**first.failures, **{i + n: f for i, f in second.failures.items()}}
    return Outcomes(
        n + second.size, columns, failures, first.abstained | {i + n for i in second.abstained}
    )


def _joined_column(first: Outcomes, second: Outcomes, name: str) -> Sequence[Any]:
    halves = [(half, half.columns.get(name)) for half in (first, second)]
    named = next((c for _, c in halves if isinstance(c, ClassProbabilities)), None)
    if named is None or any(c is None and len(h.failures) < len(h) for h, c in halves):
        return [v for half, c in halves for v in ([None] * len(half) if c is None else c)]
    values: list[Sequence[float]] = []
    for half, column in halves:
        # What stands at failed rows means nothing; zeros keep the column an array.
        zeros = [[0.0] * len(named.classes)] * len(half)
        values += column.values if isinstance(column, ClassProbabilities) else zeros
    return ClassProbabilities(named.classes, values)
