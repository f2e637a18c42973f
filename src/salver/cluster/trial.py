"""Tries a deployment on this machine, and its autoscaling on a trace of arrivals.

It knows how a replica is measured and how the simulation is fed. It does not know pictures.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

from salver.cluster.replica import Assignment, ClusterReplica
from salver.cluster.scaling import RayPolicy
from salver.cluster.serve import serve_options
from salver.cluster.simulation import Load, Second, Simulation
from salver.definition import Deployment
from salver.engine.measuring import timed
from salver.engine.planning import SIZES
from salver.engine.samples import sample_rows
from salver.errors import ConfigError

TRIAL_S = 10.0  # a simulation is worth waiting for: batches of all sizes, also of a slow model
PLACING_S = 3.0  # what Ray takes to place a replica and to start its process, beside the model


@dataclass(frozen=True)
class Measured:
    """What one replica takes on this machine.

    Attributes:
        batch_s: Seconds of a batch by its rows.
        max_batch_size: Most rows in one.
        load_s: Seconds until it answered its golden examples.
    """

    batch_s: dict[int, float]
    max_batch_size: int
    load_s: float


async def measured(assignment: Assignment, deployment: Deployment) -> Measured:
    """Starts a replica of a model, times batches of it, and ends it.

    Raises:
        ConfigError: If no row could be made for it, or it fails on one.
    """
    replica = ClusterReplica(assignment, deployment.name)
    begun = time.perf_counter()
    await replica.start()
    load_s = time.perf_counter() - begun
    try:
        engine, name = replica.engine, deployment.name
        most = engine.plans[name].max_batch_size
        sizes = [n for n in SIZES if n < most] + [most]
        examples = [example["input"] for example in engine.examples(name)]
        rows = sample_rows(deployment.schema, examples, most)
        run = engine.offline_replica(name).run
        seconds, trouble = await timed(run, rows, sizes, box_s=TRIAL_S, warm_up_s=TRIAL_S)
    finally:
        await replica.stop()
    if not seconds:
        raise ConfigError(f"{name} could not be timed: {trouble}.")
    return Measured(seconds, most, load_s)


def simulate(
    deployment: Deployment, measured: Measured, rates: list[float], start_s: float | None
) -> list[Second]:
    """What Ray's autoscaling would do with arrivals at these rates.

    Args:
        deployment: With its options as they are in force.
        measured: What a replica takes.
        rates: Requests per second, in each second.
        start_s: Seconds until a new replica answers; null means `PLACING_S` and its load.

    Raises:
        ConfigError: If the deployment does not scale.
    """
    options = serve_options(deployment)
    config = options.get("autoscaling_config")
    if config is None:
        raise ConfigError(
            f"{deployment.name} does not scale by itself. Give it an autoscaling_config, for example "
            "--set 'autoscaling_config={min_replicas: 1, max_replicas: 4}'."
        )
    if options.get("num_replicas") == "auto":
        config = {"max_replicas": 100, **config}  # as Ray does for "auto"
    policy = RayPolicy(config)
    load = Load(
        rates,
        measured.batch_s,
        measured.max_batch_size,
        options["max_ongoing_requests"],
        PLACING_S + measured.load_s if start_s is None else start_s,
        float(policy.config.look_back_period_s),
    )
    return Simulation(load, policy, policy.initial).run()


def read_trace(path: Path) -> list[float]:
    """Requests per second, in each second, of a CSV file with `second` and `requests_per_s`.

    A second that is not named goes on as the one before.

    Raises:
        ConfigError: If the file is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                (int(row["second"]), float(row["requests_per_s"])) for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise ConfigError(f"The trace {path} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The trace {path} is not as expected ({error!r}). It is a CSV file with the columns "
            "second (whole numbers from 0) and requests_per_s."
        ) from None
    if not rows or [s for s, _ in rows] != sorted({s for s, _ in rows}) or rows[0][0] < 0:
        raise ConfigError(f"The seconds of the trace {path} must be given once each, in order.")
    if bad := [rate for _, rate in rows if not 0 <= rate < float("inf")]:
        raise ConfigError(f"The trace {path} holds the rate {bad[0]}; rates are numbers >= 0.")
    rates: list[float] = []
    for second, rate in rows:
        rates += [rates[-1] if rates else 0.0] * (second - len(rates)) + [rate]
    return rates
