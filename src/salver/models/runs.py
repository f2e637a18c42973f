"""What Salver asks of MLflow, and how it says that there is no answer.

A tracking store answers three questions; which run is best is decided by the rules written here,
whoever answers. This module knows MLflow's ideas (experiment, run, registered model), not its
library, its files or its protocol.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from salver.errors import (
    ExperimentNotFound,
    MetricNotFound,
    ModelNotFound,
    NoRuns,
    RunNotFound,
    nearest,
)
from salver.models.reference import ModelVersion
from salver.types import Mode

MLMODEL = "MLmodel"  # the file in which MLflow says what a model is


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A finished run and what it was chosen for.

    Attributes:
        run_id: Id of the run.
        experiment: Name of its experiment.
        metric: Name of the metric.
        value: Last logged value of the metric; finite.
        artifact_uri: Root of the run's artefacts.
    """

    run_id: str
    experiment: str
    metric: str
    value: float
    artifact_uri: str


class TrackingStore(Protocol):
    """Where runs and registered models are written down."""

    def best_run(self, experiment: str, metric: str, mode: Mode) -> RunSummary:
        """The finished run with the best last value of `metric`.

        A value that is not finite never wins, and of equals the run that started first does, so
        that training the same thing again does not change what is served.

        Raises:
            ExperimentNotFound: Names the nearest experiments.
            NoRuns: When no run of the experiment is finished.
            MetricNotFound: Names the metrics that there are.
            TrackingUnavailable: When the store does not answer.
        """
        ...

    def artifact_uri(self, run_id: str) -> str:
        """The root of a run's artefacts.

        Raises:
            RunNotFound: When there is no such run, or it was deleted.
            TrackingUnavailable: When the store does not answer.
        """
        ...

    def logged_model(self, model_id: str) -> str:
        """The artefact URI of a model that MLflow 3 has logged.

        Raises:
            ModelNotFound: When there is no such model, or it was deleted.
            TrackingUnavailable: When the store does not answer.
        """
        ...

    def model_of_run(self, run_id: str, name: str) -> str | None:
        """The artefact URI of the last model that a run has logged under a name, if it has.

        MLflow 3 keeps models beside the artefacts of runs, not among them.

        Raises:
            TrackingUnavailable: When the store does not answer.
        """
        ...

    def model_source(self, version: ModelVersion) -> tuple[ModelVersion, str]:
        """The version by its number, and the URI of what was registered.

        A version that was copied from another leads to what that one was registered from.

        Raises:
            ModelNotFound: When there is no such model, version or alias.
            TrackingUnavailable: When the store does not answer.
        """
        ...


def is_comparable(value: float) -> bool:
    """Whether a logged value can win: MLflow stores infinity as the largest float."""
    return math.isfinite(value) and abs(value) < sys.float_info.max


def experiment_not_found(name: str, known: Iterable[str], where: str) -> ExperimentNotFound:
    """The error for an experiment that is not in the store, or was deleted."""
    return ExperimentNotFound(
        f"There is no experiment {name!r} in {where}. {nearest(name, known)} "
        "Train first, or name another experiment or tracking URI."
    )


def no_finished_runs(experiment: str, statuses: Iterable[str]) -> NoRuns:
    """The error for an experiment of which nothing can be served yet."""
    counts = Counter(statuses)
    there = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    return NoRuns(
        f"The experiment {experiment!r} has no finished run ({there or 'it has none at all'}); "
        "only runs with status FINISHED are served. Train, or end the run that is open."
    )


def metric_not_found(experiment: str, metric: str, known: Iterable[str]) -> MetricNotFound:
    """The error for a metric that no finished run has, or only with values like NaN."""
    names = sorted(known)
    if metric in names:
        return MetricNotFound(
            f"No finished run of {experiment!r} has a finite last value of {metric!r}: it is NaN "
            "or infinite in every one. Name another metric, or train again."
        )
    return MetricNotFound(
        f"No finished run of {experiment!r} has the metric {metric!r}. "
        f"Metrics there: {', '.join(names) or 'none'}."
    )


def model_not_found(model_id: str, where: str) -> ModelNotFound:
    """The error for the id of a logged model that leads nowhere."""
    return ModelNotFound(f"There is no model {model_id!r} in {where}. Check its id.")


def run_not_found(run_id: str, where: str, *, deleted: bool = False) -> RunNotFound:
    """The error for a run id that leads nowhere."""
    if deleted:
        return RunNotFound(
            f"The run {run_id!r} in {where} was deleted. Restore it in MLflow, or name another."
        )
    return RunNotFound(
        f"There is no run {run_id!r} in {where}. "
        "`salver best-run EXPERIMENT` prints the id of the best; check the tracking URI too."
    )
