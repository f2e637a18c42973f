"""What the live account says to Prometheus: promises, what was observed, drift and alarms.

It does not know how any of it was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from salver.account.results import Findings

ALARMS = (
    "precision",
    "coverage",
    "sets",
    "novelty",
    "calibration",
    "drift_classes",
    "drift_confidence",
    "drift_novelty",
    "drift_text_length",
)


class Counts(Protocol):
    """What was kept so far."""

    written: int
    dropped: int
    labelled: int


class AccountMetrics(Collector):
    """The families of the account.

    Args:
        registry: Shows them.
        counts: Read when metrics are.

    Attributes:
        findings: The last judgement, by deployment.
    """

    def __init__(self, registry: CollectorRegistry, counts: Counts) -> None:
        self.findings: dict[str, Findings] = {}
        self._counts = counts
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families, so that the registry refuses a second one of the same name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All families with their present values."""
        yield from self._counters()
        of_deployment = ("deployment",)
        alarm = GaugeMetricFamily(
            "salver_alarm",
            "1 if a promise is broken, or rows have drifted from the held-out ones, beyond chance.",
            labels=("deployment", "alarm"),
        )
        labelled = GaugeMetricFamily(
            "salver_account_labelled_rows",
            "Latest rows of the account whose true class is known.",
            labels=of_deployment,
        )
        error = GaugeMetricFamily(
            "salver_calibration_error",
            "Expected calibration error of the latest labelled rows.",
            labels=of_deployment,
        )
        found = dict(self.findings)
        for name, one in found.items():
            raised = {alarm.name for alarm in one.alarms}
            for kind in ALARMS:
                alarm.add_metric((name, kind), float(kind in raised))
            labelled.add_metric((name,), one.labelled)
            if one.honest is not None:
                error.add_metric((name,), one.honest.calibration_error.value)
        yield from (alarm, labelled, error)
        yield from _of_promises(found)
        yield from _of_drift(found)

    def _counters(self) -> Iterator[Metric]:
        for name, help_, value in (
            ("salver_account_rows", "Answered rows that were kept.", self._counts.written),
            ("salver_account_labels", "True classes that were kept.", self._counts.labelled),
            (
                "salver_account_dropped_rows",
                "Answered rows that were not kept, as too many waited or the file failed.",
                self._counts.dropped,
            ),
        ):
            yield CounterMetricFamily(name, help_, value=value)


def _of_promises(found: dict[str, Findings]) -> Iterator[Metric]:
    labels = ("deployment", "promise")
    promised = GaugeMetricFamily(
        "salver_promised_share",
        "Share that a policy promises; of novelty the largest.",
        labels=labels,
    )
    observed = GaugeMetricFamily(
        "salver_observed_share", "Share that was observed in the latest rows.", labels=labels
    )
    ends = [
        GaugeMetricFamily(
            f"salver_observed_share_{end}", f"{which} end of its 95 % interval.", labels=labels
        )
        for end, which in (("low", "Lower"), ("high", "Upper"))
    ]
    for name, one in found.items():
        for held in one.held:
            promised.add_metric((name, held.policy), held.promised)
            if held.recent.share is not None:
                observed.add_metric((name, held.policy), held.recent.share.value)
                ends[0].add_metric((name, held.policy), held.recent.share.low)
                ends[1].add_metric((name, held.policy), held.recent.share.high)
    yield from (promised, observed, *ends)


def _of_drift(found: dict[str, Findings]) -> Iterator[Metric]:
    labels = ("deployment", "of")
    psi = GaugeMetricFamily(
        "salver_drift_psi",
        "Population stability index of the latest rows against the held-out ones, in nats.",
        labels=labels,
    )
    distance = GaugeMetricFamily(
        "salver_drift_jensen_shannon",
        "Jensen-Shannon distance of the latest rows from the held-out ones, 0 to 1.",
        labels=labels,
    )
    for name, one in found.items():
        for drifted in one.drifted:
            psi.add_metric((name, drifted.of), drifted.psi)
            distance.add_metric((name, drifted.of), drifted.jensen_shannon)
    yield from (psi, distance)
