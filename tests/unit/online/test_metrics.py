from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from salver.online.metrics import MAX_CLASSES, MAX_ROUTES, OTHER, HttpMetrics, RowTally
from salver.types import Failure, Outcome


def test_rows_are_counted_by_what_became_of_them() -> None:
    """Failures, answers, abstentions and classes each have their count."""
    tally = RowTally()
    outcomes = [
        Outcome({"prediction": "a"}),
        Outcome({"prediction": "other"}, abstained=True),
        Outcome(None, Failure("model_error", "no")),
        Outcome({"score": 1}),
    ]
    assert tally.add(outcomes) == 1
    assert (tally.ok, tally.failed, tally.abstained) == (3, 1, 1)
    assert tally.predictions == {"a": 1, "other": 1}


@pytest.mark.parametrize(
    ("prediction", "label"),
    [(True, "true"), (1, "1"), ("1", "1"), (None, "(none)"), ("\ud800", "?"), ("x" * 101, OTHER)],
)
def test_a_class_is_told_as_text(prediction: object, label: str) -> None:
    """Booleans, numbers and null have a label of their own; a text that is no class has not."""
    tally = RowTally()
    tally.add([Outcome({"prediction": prediction})])
    assert tally.predictions == {label: 1}


@pytest.mark.parametrize("prediction", [0.5, [1], {"a": 1}])
def test_what_is_no_class_is_not_counted_by_value(prediction: object) -> None:
    """Real numbers and structures count as rows only."""
    tally = RowTally()
    tally.add([Outcome({"prediction": prediction})])
    assert (tally.ok, tally.predictions) == (1, {})


def test_classes_are_bounded() -> None:
    """Beyond a number of classes the rest share one label; known ones go on being counted."""
    tally = RowTally()
    tally.add([Outcome({"prediction": f"class {i}"}) for i in range(1000)])
    tally.add([Outcome({"prediction": "class 0"})])
    assert len(tally.predictions) == MAX_CLASSES + 1
    assert tally.predictions["class 0"] == 2
    assert tally.predictions[OTHER] == 1000 - MAX_CLASSES


def test_routes_are_bounded() -> None:
    """Beyond a number of routes the rest share one label."""
    metrics = HttpMetrics(CollectorRegistry(), [])
    for i in range(1000):
        metrics.route(f"/{i}").add("GET", 200, 0.1)
    assert metrics.route("/5000") is metrics.route(OTHER)
    assert metrics.route("/0") is not metrics.route(OTHER)
    page = generate_latest(_registered(metrics)).decode()
    assert page.count("salver_http_request_duration_seconds_count") == MAX_ROUTES + 1


def test_latencies_fall_into_buckets() -> None:
    """Buckets are cumulative, a bound belongs to its bucket, and the sum is in seconds."""
    registry = CollectorRegistry()
    tally = HttpMetrics(registry, []).route("/")
    for seconds in (0.0005, 0.001, 0.2, 100.0):
        tally.add("GET", 200, seconds)
    name = "salver_http_request_duration_seconds"

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value(f"{name}_bucket", {"route": "/", "le": bound})

    bounds = ("0.001", "0.1", "0.25", "30.0", "+Inf")
    assert [bucket(bound) for bound in bounds] == [2, 2, 3, 3, 4]
    assert registry.get_sample_value(f"{name}_sum", {"route": "/"}) == pytest.approx(100.2015)


def test_a_second_set_of_counts_is_refused() -> None:
    """A registry takes the names once."""
    registry = CollectorRegistry()
    HttpMetrics(registry, [])
    with pytest.raises(ValueError, match="Duplicated"):
        HttpMetrics(registry, [])


def _registered(metrics: HttpMetrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry
