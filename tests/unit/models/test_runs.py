from __future__ import annotations

import sys

import pytest

from salver.models.runs import (
    experiment_not_found,
    is_comparable,
    metric_not_found,
    no_finished_runs,
    run_not_found,
)


@pytest.mark.parametrize("value", [0.0, -1.5, 1e300, -1e300])
def test_a_finite_value_can_win(value: float) -> None:
    """Any honest number is compared."""
    assert is_comparable(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), sys.float_info.max, -sys.float_info.max]
)
def test_a_diverged_run_cannot_win(value: float) -> None:
    """NaN, infinity, and what MLflow stores for infinity are never the best."""
    assert not is_comparable(value)


def test_each_error_names_what_there_is() -> None:
    """The four ways of finding nothing are told apart, each with a way out."""
    messages = [
        experiment_not_found("tagger", ["Tagger", "other"], "mlflow.db").message,
        no_finished_runs("tagger", ["RUNNING", "FAILED", "FAILED"]).message,
        no_finished_runs("tagger", []).message,
        metric_not_found("tagger", "loss", {"val_loss", "f1"}).message,
        metric_not_found("tagger", "loss", {"loss"}).message,
        run_not_found("abc", "mlflow.db").message,
        run_not_found("abc", "mlflow.db", deleted=True).message,
    ]
    says = [
        "Did you mean 'Tagger'?",
        "(2 FAILED, 1 RUNNING)",
        "(it has none at all)",
        "Metrics there: f1, val_loss.",
        "NaN or infinite in every one",
        "There is no run 'abc'",
        "was deleted. Restore it",
    ]

    assert all(part in message for part, message in zip(says, messages, strict=True))
