"""Counts of requests and rows for Prometheus.

All counting happens on the event loop, and so does reading: plain numbers are enough, and cost a
tenth of locked counters. The number of label values is bounded, whatever clients send. This
module does not know what a route does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from salver.engine.metrics import Distribution
from salver.types import Outcome

MAX_ROUTES = 200
MAX_CLASSES = 50  # distinct predictions counted by name, per deployment
MAX_LABEL = 100  # characters
OTHER = "(other)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Upper bounds in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RouteTally:
    """Requests and latencies of one route."""

    __slots__ = ("seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[tuple[str, int], int] = {}
        self.seconds = Distribution(BUCKETS)

    def add(self, method: str, status: int, seconds: float) -> None:
        """Counts one finished request."""
        key = (method if method in METHODS else OTHER, status)
        self.statuses[key] = self.statuses.get(key, 0) + 1
        self.seconds.add(seconds)


class RowTally:
    """Rows of one deployment by what became of them."""

    __slots__ = ("abstained", "failed", "ok", "predictions")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.abstained = 0
        self.predictions: dict[str, int] = {}

    def add(self, outcomes: Sequence[Outcome]) -> int:
        """Counts answered rows; returns how many of them failed."""
        failed = 0
        for outcome in outcomes:
            if outcome.value is None:
                failed += 1
                continue
            if outcome.abstained:
                self.abstained += 1
            label = outcome.value.get("prediction", 0.0)
            # What is no text takes the longer way; a known class is counted at once.
            if type(label) is not str or label not in self.predictions:
                label = self._label(label)
            if label is not None:
                self.predictions[label] = self.predictions.get(label, 0) + 1
        self.ok += len(outcomes) - failed
        self.failed += failed
        return failed

    def _label(self, prediction: Any) -> str | None:
        if isinstance(prediction, float | list | dict):
            return None  # a real number is no class: counting each value would tell nothing
        if isinstance(prediction, bool):
            return "true" if prediction else "false"
        # What cannot be written in a label would take the whole page of metrics with it.
        label = "(none)" if prediction is None else str(prediction)
        label = label.encode(errors="replace").decode()
        full = len(self.predictions) >= MAX_CLASSES and label not in self.predictions
        return OTHER if full or len(label) > MAX_LABEL else label


class HttpMetrics(Collector):
    """What the front counts, as Prometheus reads it.

    Attributes:
        in_flight: Requests that are being answered now.
    """

    def __init__(self, registry: CollectorRegistry, deployments: Iterable[str]) -> None:
        self.in_flight = 0
        self._routes: dict[str, RouteTally] = {}
        self._rows = {name: RowTally() for name in deployments}
        registry.register(self)

    def route(self, template: str) -> RouteTally:
        """The tally of a route, made when first asked for; beyond a bound all share one."""
        tally = self._routes.get(template)
        if tally is None:
            if len(self._routes) >= MAX_ROUTES:
                template = OTHER
            tally = self._routes.setdefault(template, RouteTally())
        return tally

    def rows(self, deployment: str) -> RowTally:
        """The tally of a deployment's rows."""
        return self._rows[deployment]

    def describe(self) -> Iterable[Metric]:
        """The families, so that the registry refuses a second one of the same name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All families with their present values."""
        yield GaugeMetricFamily(
            "salver_http_requests_in_flight",
            "Requests that are being answered now.",
            value=self.in_flight,
        )
        yield from self._collect_routes()
        yield from self._collect_rows()

    def _collect_routes(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "salver_http_requests",
            "Requests by route, method and status; 499 when the client left before its answer.",
            labels=("route", "method", "status"),
        )
        latency = HistogramMetricFamily(
            "salver_http_request_duration_seconds",
            "Seconds from the head of a request to the end of its answer.",
            labels=("route",),
        )
        for route, tally in self._routes.items():
            if not tally.statuses:
                continue
            for (method, status), count in tally.statuses.items():
                requests.add_metric((route, method, str(status)), count)
            tally.seconds.show(latency, (route,))
        yield requests
        yield latency

    def _collect_rows(self) -> Iterable[Metric]:
        rows = CounterMetricFamily(
            "salver_rows",
            "Rows answered over HTTP by deployment and outcome (ok or error).",
            labels=("deployment", "outcome"),
        )
        predictions = CounterMetricFamily(
            "salver_predictions",
            "Rows answered over HTTP by deployment and predicted class.",
            labels=("deployment", "prediction"),
        )
        abstentions = CounterMetricFamily(
            "salver_abstentions",
            "Rows answered over HTTP whose own prediction a policy withheld.",
            labels=("deployment",),
        )
        for name, tally in self._rows.items():
            rows.add_metric((name, "ok"), tally.ok)
            rows.add_metric((name, "error"), tally.failed)
            abstentions.add_metric((name,), tally.abstained)
            for prediction, count in tally.predictions.items():
                predictions.add_metric((name, prediction), count)
        yield rows
        yield predictions
        yield abstentions
