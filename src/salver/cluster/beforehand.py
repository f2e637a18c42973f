"""What is done before there is a cluster: its files, and a trial of its autoscaling.

It joins the definition with what makes manifests and simulations. It connects to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salver.cluster.assigning import assignment_of
from salver.cluster.connection import Cluster, require_ray
from salver.cluster.life import Say
from salver.errors import ConfigError
from salver.options import ServerSettings
from salver.service import Service
from salver.session import Configuration

ANYWHERE = "0.0.0.0"
NO_CLUSTER = Cluster("elsewhere")  # none is connected to; folders of this machine mean nothing


def build(
    service: Service, target: str, configuration: Configuration, pods: Mapping[str, Any] | None
) -> str:
    """The files that put a service on a cluster, as YAML.

    Args:
        service: What is served.
        target: Where the processes of the cluster find it.
        configuration: Options given outside the code.
        pods: Fields of `salver.cluster.manifests.Pods`, for a RayService; null for a Serve config.

    Raises:
        ConfigError: If strangers could ask the service, or an option cannot be honoured.
    """
    require_ray()
    from salver.cluster import manifests

    overrides = configuration.overrides(service)
    overrides.server |= configuration.server
    if pods is not None:
        overrides.server.setdefault("host", ANYWHERE)  # in a pod, others are to reach it
    assignment = assignment_of(service, target, overrides, NO_CLUSTER)
    settings = ServerSettings().replace(overrides.server, "the server options")
    if pods is None:
        settings.refuse_exposure()  # a RayService has its key from a secret: its replicas look
        return manifests.as_yaml(manifests.serve_config(service, assignment, settings))
    service_of_pods = manifests.ray_service(service, assignment, settings, manifests.Pods(**pods))
    return manifests.as_yaml(service_of_pods)


def build_job(
    service: Service,
    target: str,
    configuration: Configuration,
    pods: Mapping[str, Any],
    *,
    deployment: str | None,
    paths: tuple[str, str],
) -> str:
    """A RayJob that predicts a file on a cluster of its own, as YAML.

    Args:
        service: What is run.
        target: Where the processes of the cluster find it.
        configuration: Options given outside the code.
        pods: Fields of `salver.cluster.manifests.Pods`.
        deployment: Which one; may be null when the service exposes one.
        paths: Input, and output folder; both as the head's pod sees them.
    """
    require_ray()
    from salver.cluster import manifests

    assignment = assignment_of(service, target, configuration.overrides(service), NO_CLUSTER)
    job = manifests.ray_job(
        service, assignment, manifests.Pods(**pods), deployment=deployment, paths=paths
    )
    return manifests.as_yaml(job)


def simulate(
    service: Service,
    target: str,
    configuration: Configuration,
    say: Say,
    *,
    deployment: str | None,
    trace: Path,
    picture: Path | None,
    start_s: float | None,
) -> list[Any]:
    """Measures one replica on this machine, and replays a trace against its autoscaling.

    Args:
        service: What is served.
        target: Where a child process finds it.
        configuration: Options given outside the code.
        say: Tells what was measured.
        deployment: Which one; may be null when the service has one model.
        trace: CSV file, see `salver.cluster.trial.read_trace`.
        picture: Where to draw replicas, queue and latency; null for no picture.
        start_s: Seconds until a new replica answers; null estimates it.

    Returns:
        What went on in each second.

    Raises:
        ConfigError: If the trace cannot be read, or the deployment does not scale.
    """
    require_ray()
    from salver.cluster import trial

    rates = trial.read_trace(trace)
    assignment = assignment_of(service, target, configuration.overrides(service), Cluster())
    chosen = service.chosen(deployment)
    chosen = chosen.with_options(assignment.options_of(chosen))
    if chosen.is_composed:
        raise ConfigError(
            f"{chosen.name} is a composed function, which does not scale; name a model."
        )
    say(f"Measuring one replica of {chosen.name} ...")
    found = asyncio.run(trial.measured(assignment, chosen))
    rows, seconds_each = max(found.batch_s.items())
    say(
        f"{chosen.name}: {rows} rows in {seconds_each * 1e3:.3g} ms, in batches of up to "
        f"{found.max_batch_size}, loaded in {found.load_s:.1f} s"
    )
    seconds = trial.simulate(chosen, found, rates, start_s)
    if picture is not None:
        from salver.cluster.picture import draw

        draw(seconds, picture, f"{chosen.name}: {trace.name}")
    return seconds
