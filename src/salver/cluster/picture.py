"""Draws what a simulation of autoscaling gave: replicas, queue and latency over time.

It does not know how the numbers came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from salver.cluster.simulation import Second

mpl.use("Agg")  # no window: the picture is a file

from matplotlib import pyplot as plt


def draw(seconds: Sequence[Second], path: Path, title: str) -> None:
    """Writes a picture; its suffix names the format (.png, .svg, .pdf)."""
    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(9, 8), layout="constrained")
    times = range(len(seconds))
    load, replicas, queue, latency = axes
    load.plot(times, [s.rate for s in seconds], color="tab:gray")
    load.set_ylabel("requests/s")
    replicas.step(
        times, [s.target for s in seconds], where="post", color="tab:orange", label="wanted"
    )
    replicas.step(
        times, [s.replicas for s in seconds], where="post", color="tab:blue", label="ready"
    )
    replicas.set_ylabel("replicas")
    replicas.legend(loc="upper right")
    queue.fill_between(times, [s.queued for s in seconds], color="tab:red", alpha=0.4)
    queue.set_ylabel("requests queued")
    answered = [
        (t, s.p99_s * 1e3) for t, s in zip(times, seconds, strict=True) if s.p99_s is not None
    ]
    latency.plot([t for t, _ in answered], [ms for _, ms in answered], color="tab:green")
    latency.set_ylabel("p99, ms")
    latency.set_xlabel("seconds")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
