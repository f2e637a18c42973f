"""Metrics of the embedded engine."""

from __future__ import annotations

from prometheus_client.exposition import generate_latest

from salver.engine.metrics import EngineMetrics


def test_metrics_are_kept_by_deployment() -> None:
    """Batches, restarts, queue and replicas of two deployments do not mix."""
    metrics = EngineMetrics()
    queued = {"A": 3, "B": 0}
    a = metrics.of("A", lambda: queued["A"], lambda: 2)
    b = metrics.of("B", lambda: queued["B"], lambda: 1)
    a.batch(8, 0.02)
    a.batch(2, 0.5)
    b.restart()
    queued["A"] = 5

    def value(name: str, deployment: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"deployment": deployment})

    assert (2, 10) == (value("salver_batch_rows_count", "A"), value("salver_batch_rows_sum", "A"))
    assert 0.52 == value("salver_batch_duration_seconds_sum", "A")
    assert (0, 1) == tuple(value("salver_replica_restarts_total", d) for d in "AB")
    assert (5, 0) == tuple(value("salver_queue_rows", d) for d in "AB")
    assert (2, 1) == tuple(value("salver_replicas_ready", d) for d in "AB")


def test_two_engines_do_not_share_metrics() -> None:
    """Each engine has a registry of its own, which can be shown as a page."""
    first, second = EngineMetrics(), EngineMetrics()
    first.of("A", lambda: 0, lambda: 0).batch(1, 0.1)

    assert b'salver_batch_rows_count{deployment="A"} 1.0' in generate_latest(first.registry)
    assert b'deployment="A"' not in generate_latest(second.registry)
