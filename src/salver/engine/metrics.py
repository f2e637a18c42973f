"""Prometheus metrics of the embedded engine, in a registry of its own.

All counting happens on the event loop, and so does reading: plain numbers are enough, and cost a
tenth of locked counters. It does not know HTTP: the front adds its metrics to the same registry.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Distribution:
    """Counts of values by size.

    Args:
        bounds: Upper bounds of the buckets, growing; the last bucket has none.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def show(self, family: HistogramMetricFamily, labels: tuple[str, ...]) -> None:
        """Adds what was counted to a family of Prometheus."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        family.add_metric(labels, buckets=buckets, sum_value=self._sum)


class DeploymentMetrics:
    """Counters of one deployment.

    Args:
        queued: Rows that wait; read when metrics are.
        ready: Replicas that can answer; read when metrics are.
    """

    def __init__(self, queued: Callable[[], float], ready: Callable[[], float]) -> None:
        self.queued = queued
        self.ready = ready
        self.rows = Distribution(BATCH_ROWS)
        self.seconds = Distribution(BATCH_SECONDS)
        self.restarts = 0

    def batch(self, rows: int, seconds: float) -> None:
        """A replica answered a batch."""
        self.rows.add(rows)
        self.seconds.add(seconds)

    def restart(self) -> None:
        """A replica ended."""
        self.restarts += 1


class EngineMetrics(Collector):
    """Counters of one engine; names and units follow the Prometheus conventions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._deployments: dict[str, DeploymentMetrics] = {}
        self.registry.register(self)

    def of(
        self, deployment: str, queued: Callable[[], float], ready: Callable[[], float]
    ) -> DeploymentMetrics:
        """The metrics of one deployment; the two functions are read when metrics are scraped."""
        metrics = self._deployments[deployment] = DeploymentMetrics(queued, ready)
        return metrics

    def describe(self) -> Iterable[Metric]:
        """The families, so that the registry refuses a second one of the same name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All families with their present values."""
        rows = HistogramMetricFamily(
            "salver_batch_rows", "Rows in one call of a model.", labels=("deployment",)
        )
        seconds = HistogramMetricFamily(
            "salver_batch_duration_seconds",
            "Time from sending a batch to a replica to its answer.",
            labels=("deployment",),
        )
        restarts = CounterMetricFamily(
            "salver_replica_restarts",
            "Replicas that ended and were replaced.",
            labels=("deployment",),
        )
        queued = GaugeMetricFamily(
            "salver_queue_rows", "Rows that wait for a replica.", labels=("deployment",)
        )
        ready = GaugeMetricFamily(
            "salver_replicas_ready", "Replicas that can answer.", labels=("deployment",)
        )
        for name, metrics in self._deployments.items():
            metrics.rows.show(rows, (name,))
            metrics.seconds.show(seconds, (name,))
            restarts.add_metric((name,), metrics.restarts)
            queued.add_metric((name,), metrics.queued())
            ready.add_metric((name,), metrics.ready())
        return rows, seconds, restarts, queued, ready
