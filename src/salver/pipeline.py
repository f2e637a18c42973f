"""The one place where the steps are spelled: model, checks of its output, policies, outcomes.

Whatever a model does (raise, return too few rows, return NaN), each row of a batch gets exactly
one outcome, and a bad row does not hurt its neighbours: a batch that fails is halved until the
rows concerned stand alone. The pipeline does not know where it runs nor who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, Protocol

import numpy as np

from salver.errors import CheckpointError, ConfigError, MissingExtra
from salver.outputs import (
    HIDDEN_STATES,
    PREDICTION,
    PROBABILITIES,
    TRUNCATED,
    Array,
    BadModelOutput,
    as_columns,
    fail_what_is_not_finite,
    failure_of,
    hidden_states_of,
    plain,
    probabilities_of,
)
from salver.policies import HeldOut, Policy, Scored, kept
from salver.types import Batch, ClassProbabilities, Failure, Outcomes


class Trust(Protocol):
    """What was calibrated for a model."""

    @property
    def held_out(self) -> HeldOut:
        """Rows that promises are made on."""
        ...

    def confidence(self, probabilities: Array) -> Array | None:
        """Calibrated probability of the likeliest class, (n, k) to (n,); null if there is none."""
        ...

    def novelty(self, batch: Batch, hidden_states: Array | None) -> Array | None:
        """How unlike the training data each row is, of shape (n,); null if there is no score.

        Raises:
            BadModelOutput: If the model gives no hidden states, which it gave when it was
                calibrated.
            CheckpointError: If they are of another shape.
        """
        ...


class Pipeline:
    """Runs one loaded model on batches.

    Args:
        model: Maps a dict of columns to an array of shape (n, k), a dict of columns of n entries,
            or n predictions. Class names come from its `classes_`, if it has them.
        policies: Applied in order to what the model said.
        batch_format: "numpy" gives the model a dict of arrays, "pandas" a DataFrame.
        log: Receives the traceback of every exception of the model.
        trust: What was calibrated; null if nothing was.
        details: Names of details that are given with every result.
        version: Of all that decides an answer; one of the details.

    Raises:
        ConfigError: If a policy needs probabilities and the model names no classes, or names two
            alike; if a policy's promise cannot be kept.
        MissingExtra: If pandas is wanted and not installed.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        policies: Sequence[Policy] = (),
        batch_format: str = "numpy",
        log: Callable[[str], None] = lambda _text: None,
        trust: Trust | None = None,
        details: Sequence[str] = (),
        version: str = "",
    ) -> None:
        if batch_format == "pandas":
            _check_pandas()
        self.model = model
        self.trust = trust
        self.batch_format = batch_format
        self.classes = _class_names(model)
        self._log = log
        self._details = tuple(details)
        self._version = version
        for policy in policies:
            if policy.needs_probabilities and not self.classes:
                raise ConfigError(
                    f"{policy!r} needs class probabilities, but {type(model).__name__} names no "
                    "classes. Set self.classes_ in __init__ and return {'probabilities': (n, k)}, "
                    "or remove the policy."
                )
        self.policies = kept(policies, trust.held_out if trust else None)

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
        scored, failures, known = self._scored(batch)
        for policy in policies:
            scored = self._decided(policy, scored, len(batch), failures)
        return self._outcomes(scored, failures, known, len(batch))

    def heard(self, batch: Batch) -> tuple[Scored, dict[int, Failure], Array | None]:
        """What the model itself says to a batch, failed rows, and its hidden states (n, l, d).

        Raises:
            Exception: Whatever the model raises.
        """
        columns = as_columns(self.model(columns_of(batch, self.batch_format)), len(batch))
        hidden = hidden_states_of(columns.pop(HIDDEN_STATES, None))
        scored, failures = self._checked(columns, len(batch))
        return scored, failures, hidden

    def _scored(self, batch: Batch) -> tuple[Scored, dict[int, Failure], dict[str, Sequence[Any]]]:
        """The same with what was calibrated, and what the model says of its input."""
        scored, failures, hidden = self.heard(batch)
        known: dict[str, Sequence[Any]] = {}
        if TRUNCATED in scored.columns:
            columns = dict(scored.columns)
            known[TRUNCATED] = columns.pop(TRUNCATED)
            scored = replace(scored, columns=columns)
        if self.trust is None:
            return scored, failures, known
        try:
            novelty = self.trust.novelty(batch, hidden)
        except CheckpointError as error:
            raise BadModelOutput(f"it is not what was calibrated. {error.message}") from error
        probabilities = scored.probabilities
        confidence = (
            None
            if probabilities is None
            else self.trust.confidence(np.nan_to_num(probabilities) if failures else probabilities)
        )
        for name, values in (("confidence", confidence), ("novelty", novelty)):
            if values is not None:
                known[name] = values.tolist()
        if novelty is not None:
            fail_what_is_not_finite(novelty[:, None], "novelty", failures)
        return replace(scored, confidence=confidence, novelty=novelty), failures, known

    def _outcomes(
        self,
        scored: Scored,
        failures: dict[int, Failure],
        known: dict[str, Sequence[Any]],
        n: int,
    ) -> Outcomes:
        columns: dict[str, Sequence[Any]] = dict(scored.columns)
        if len(scored.reasons):
            known["abstained"] = scored.reasons
        for name in self._details:
            nothing = [self._version if name == "version" else None] * n
            columns.setdefault(name, known.get(name, nothing))
        return _outcomes(scored, columns, failures, known, n)

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
        if any(size != n for size in [*sizes, len(after.abstained), len(after.reasons) or n]):
            raise BadModelOutput(f"{name} did not return one entry per row.")
        after = replace(after, reasons=_reasons(after, name))
        columns = {
            column: values
            if values is scored.columns.get(column)
            else [plain(v, column, i, failures) for i, v in enumerate(values)]
            for column, values in after.columns.items()
        }
        return replace(after, columns=columns)

    def _checked(
        self, columns: dict[str, Sequence[Any]], n: int
    ) -> tuple[Scored, dict[int, Failure]]:
        """The model's output as plain columns; rows that are not finite are failures."""
        failures: dict[int, Failure] = {}
        raw = columns.pop(PROBABILITIES, None)
        probabilities = None if raw is None else probabilities_of(raw, n, len(self.classes))
        if probabilities is not None:
            fail_what_is_not_finite(probabilities, PROBABILITIES, failures)
        checked = {
            name: [plain(v, name, i, failures) for i, v in enumerate(values)]
            for name, values in columns.items()
        }
        if probabilities is not None and PREDICTION not in checked and self.classes:
            numbers = np.nan_to_num(probabilities) if failures else probabilities
            best = numbers.argmax(axis=1).tolist()
            checked = {PREDICTION: [self.classes[i] for i in best], **checked}
        return Scored(checked, probabilities, self.classes, np.zeros(n, dtype=bool)), failures

    def _failure(self, error: BaseException) -> Failure:
        failure = failure_of(error)
        self._log(failure.detail or failure.message)
        return failure


def _reasons(scored: Scored, name: str) -> list[str | None]:
    """Why rows were withheld; the name of the policy where it does not say.

    Raises:
        BadModelOutput: If a reason is no text.
    """
    given = list(scored.reasons) or [None] * len(scored.abstained)
    if any(reason is not None and type(reason) is not str for reason in given):
        raise BadModelOutput(f"{name} gave a reason that is neither a text nor null.")
    return [
        name if withheld and reason is None else reason
        for withheld, reason in zip(scored.abstained.tolist(), given, strict=True)
    ]


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


def _outcomes(
    scored: Scored,
    columns: dict[str, Sequence[Any]],
    failures: dict[int, Failure],
    details: Mapping[str, Sequence[Any]],
    n: int,
) -> Outcomes:
    if scored.probabilities is not None:
        values = scored.probabilities.tolist()
        if scored.classes:
            names = tuple(str(c) for c in scored.classes)
            columns[PROBABILITIES] = ClassProbabilities(names, values)
        else:
            columns[PROBABILITIES] = values
    abstained = frozenset(compress(range(n), scored.abstained.tolist()))
    sound = abstained - failures.keys() if failures else abstained
    return Outcomes(n, columns, failures, sound, details)


def joined(first: Outcomes, second: Outcomes) -> Outcomes:
    """The outcomes of two neighbouring batches as one; columns that only one has are null."""
    n = first.size
    columns: dict[str, Sequence[Any]] = {}
    for name in dict.fromkeys([*first.columns, *second.columns]):
        halves = [(half, half.columns.get(name)) for half in (first, second)]
        columns[name] = _joined_column(halves)
    details: dict[str, Sequence[Any]] = {}
    for name in dict.fromkeys([*first.details, *second.details]):
        halves = [(half, half.details.get(name)) for half in (first, second)]
        details[name] = _joined_column(halves)
    failures = {**first.failures, **{i + n: f for i, f in second.failures.items()}}
    abstained = first.abstained | {i + n for i in second.abstained}
    return Outcomes(n + second.size, columns, failures, abstained, details)


def _joined_column(halves: Sequence[tuple[Outcomes, Sequence[Any] | None]]) -> Sequence[Any]:
    named = next((c for _, c in halves if isinstance(c, ClassProbabilities)), None)
    if named is None or any(c is None and len(h.failures) < len(h) for h, c in halves):
        return [v for half, c in halves for v in ([None] * len(half) if c is None else c)]
    values: list[Sequence[float]] = []
    for half, column in halves:
        # What stands at failed rows means nothing; zeros keep the column an array.
        zeros = [[0.0] * len(named.classes)] * len(half)
        values += column.values if isinstance(column, ClassProbabilities) else zeros
    return ClassProbabilities(named.classes, values)
