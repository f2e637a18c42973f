"""Prometheus metrics of the embedded engine, in a registry of its own.

It does not know HTTP: the front adds its metrics to the same registry.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class EngineMetrics:
    """Counters of one engine; names and units follow the Prometheus conventions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rows = Histogram(
            "salver_batch_rows",
            "Rows in one call of a model.",
            ["deployment"],
            buckets=BATCH_ROWS,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "salver_batch_duration_seconds",
            "Time from sending a batch to a replica to its answer.",
            ["deployment"],
            buckets=BATCH_SECONDS,
            registry=self.registry,
        )
        self._restarts = Counter(
            "salver_replica_restarts_total",
            "Replicas that ended and were replaced.",
            ["deployment"],
            registry=self.registry,
        )
        self._queued = Gauge(
            "salver_queue_rows",
            "Rows that wait for a replica.",
            ["deployment"],
            registry=self.registry,
        )
        self._replicas = Gauge(
            "salver_replicas_ready",
            "Replicas that can answer.",
            ["deployment"],
            registry=self.registry,
        )

    def of(
        self, deployment: str, queued: Callable[[], float], ready: Callable[[], float]
    ) -> DeploymentMetrics:
        """The metrics of one deployment; the two functions are read when metrics are scraped."""
        self._queued.labels(deployment).set_function(queued)
        self._replicas.labels(deployment).set_function(ready)
        return DeploymentMetrics(
            self._rows.labels(deployment),
            self._seconds.labels(deployment),
            self._restarts.labels(deployment),
        )


class DeploymentMetrics:
    """Counters of one deployment, labels already applied."""

    def __init__(self, rows: Histogram, seconds: Histogram, restarts: Counter) -> None:
        self._rows = rows
        self._seconds = seconds
        self._restarts = restarts

    def batch(self, rows: int, seconds: float) -> None:
        """A replica answered a batch."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)

    def restart(self) -> None:
        """A replica ended."""
        self._restarts.inc()
