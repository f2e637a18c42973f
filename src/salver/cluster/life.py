"""What starts what on Ray: a cluster, an application on it, its state, its end.

It knows the order in which things start and end. It does not know how an application is made.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from salver.cluster.assigning import announced
from salver.cluster.connection import APPLICATION, INGRESS, Cluster, connected, require_ray
from salver.errors import ClusterError
from salver.online.http import bind
from salver.options import ServerSettings
from salver.predictions import job_options
from salver.service import Service
from salver.session import Configuration

Say = Callable[[str], None]

READY_WITHIN_S = 30.0  # after Ray has said that it runs
REASON_LINES = 12
# Above the ports that Ray gives its workers, below those that systems give outgoing connections:
# what is free there stays free while Ray starts.
FREE_PORTS = range(20_000, 32_000)
HOST_NOT_ALLOWED = 421


@contextlib.contextmanager
def deployed(
    service: Service,
    target: str,
    configuration: Configuration,
    say: Say,
    cluster: Cluster,
) -> Iterator[str]:
    """The URL of a service on Ray Serve; on a cluster that was started for it, it ends afterwards.

    Raises:
        ClusterError: If Ray cannot run the service.
    """
    overrides = configuration.overrides(service)
    settings = configuration.settings(overrides)
    if cluster.is_ours or not settings.port:
        settings = settings.replace({"port": _port_for(settings)}, "the server options")
    overrides.server |= configuration.server
    say(f"Resolving {', '.join(service.deployments)} ...")
    assignment = announced(service, target, overrides, cluster, say)
    say("Starting Ray ..." if cluster.is_ours else f"Connecting to {cluster.address} ...")
    with connected(cluster) as ray:
        from ray import serve as ray_serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        from salver.cluster.serve import NO_ACCESS_LOG, application_cpus, build, http_options

        deployments = service.deployments.values()
        in_force = [one.with_options(assignment.options_of(one)) for one in deployments]
        application = build(assignment.as_json())  # refuses what Ray cannot honour
        if cluster.is_ours:
            _refuse_too_much(ray.cluster_resources().get("CPU", 0), application_cpus(in_force))
        options = http_options(settings, in_force)
        try:
            ray_serve.start(http_options=options, logging_config=NO_ACCESS_LOG)
        except (RuntimeError, RayServeException, RayError) as error:
            raise ClusterError(f"Ray Serve did not start: {_last_lines(str(error))}") from error
        settings = _as_it_listens(settings)
        settings.refuse_exposure()
        say(f"Deploying {', '.join(service.deployments)} ...")
        try:
            try:
                ray_serve.run(application, name=APPLICATION, route_prefix="/")
            except (RuntimeError, RayServeException, RayError) as error:
                raise ClusterError(_reasons(ray_serve, error)) from error
            if cluster.is_ours:
                _wait_until_ready(settings.host, settings.port)
            yield _url(settings.host, settings.port)
        finally:
            if cluster.is_ours:
                _drain(ray_serve)
                ray_serve.shutdown()


def serve(
    service: Service,
    target: str,
    configuration: Configuration,
    say: Say,
    cluster: Cluster,
) -> None:
    """Deploys a service to Ray Serve.

    A cluster that was started for it is kept until SIGTERM or Ctrl-C; on a running one the service
    stays, and is updated in place when it is deployed again.

    Raises:
        ClusterError: If Ray cannot run the service.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with deployed(service, target, configuration, say, cluster) as url:
        for deployment in service.exposed:
            say(f"POST {url}{service.route_of(deployment)}  ({deployment.name})")
        say(f"Ready. Try it at {url}/docs")
        if not cluster.is_ours:
            say(
                "It stays on the cluster: see `salver status`, end it with `salver shutdown`. Where "
                "Ray Serve ran before, it keeps its own host and port."
            )
            return
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            say("Draining ...")


def predict_files(
    service: Service,
    target: str,
    configuration: Configuration,
    say: Say,
    *,
    deployment: str | None,
    paths: tuple[str, str],
    options: Mapping[str, Any],
    cluster: Cluster,
) -> dict[str, Any]:
    """Runs one offline job on Ray Data, with Ray's own progress.

    Args:
        service: What to run.
        target: Where other processes find it.
        configuration: Options given outside the code.
        say: Tells how the actors run.
        deployment: Which one; may be null when the service exposes one.
        paths: Input, and output folder of this machine.
        options: See `salver.offline.job.JobOptions`.
        cluster: Where.

    Returns:
        The manifest.

    Raises:
        ClusterError: If Ray cannot run the job; what is committed stays.
        OfflineError: As `salver.offline.job.run_job`.
    """
    if (cluster.address or "").startswith("ray://"):
        raise ClusterError(
            f"An offline job writes the files of this machine, which {cluster.address!r} does not "
            "have. Run it on the cluster: with `ray job submit`, or as a RayJob (salver build "
            "--kubernetes --predict)."
        )
    chosen = service.chosen(deployment)
    overrides = configuration.overrides(service)
    for given in overrides.deployments.values():
        given["optimize_for"] = "throughput"  # nobody waits for a single row of a file
    assignment = announced(service, target, overrides, cluster, say)
    require_ray(on_loopback=cluster.is_ours)
    with connected(cluster) as ray:
        from salver.cluster.data import resources_of, run_files

        served = chosen.with_options(assignment.options_of(chosen))
        if cluster.is_ours:
            wanted = resources_of(served, assignment)["num_cpus"]
            _refuse_too_much(ray.cluster_resources().get("CPU", 0), wanted)
        return run_files(
            served,
            assignment,
            input=_everywhere(paths[0]),
            output=paths[1],
            options=job_options(options),
            say=say,
        )


def shutdown(address: str) -> bool:
    """Ends the service on a running cluster; the cluster goes on.

    Returns:
        Whether there was one.

    Raises:
        ClusterError: If there is no cluster at the address.
    """
    with connected(Cluster(address)):
        from ray import serve as ray_serve

        if APPLICATION not in ray_serve.status().applications:
            return False
        try:
            ray_serve.delete(APPLICATION)
        except TimeoutError as error:
            raise ClusterError(f"The service is ending, but has not ended yet: {error}") from error
        return True


def status(address: str) -> dict[str, Any] | None:
    """State of the service on a running cluster; null if there is none.

    Returns:
        `status`, `message` and, by deployment, `status`, `message`, `replica_states`; of models
        also `under_way`, rows that wait for their answer, and `versions`.

    Raises:
        ClusterError: If there is no cluster at the address.
    """
    with connected(Cluster(address)):
        from ray import serve as ray_serve

        application = ray_serve.status().applications.get(APPLICATION)
        if application is None:
            return None
        asked = _asked(ray_serve)
        return {
            "status": str(application.status.value),
            "message": application.message,
            "deployments": {
                name: {
                    "status": str(one.status.value),
                    "message": one.message,
                    "replica_states": {str(s): n for s, n in one.replica_states.items()},
                    **({} if name == INGRESS or not asked else _together(name, asked)),
                }
                for name, one in application.deployments.items()
            },
        }


def shown(state: Mapping[str, Any] | None) -> str:
    """What `status` gives, as a table for people."""
    if state is None:
        return "No service of Salver runs there."
    lines = [f"{state['status']} {state['message']}".rstrip()]
    for name, one in state["deployments"].items():
        counts = ", ".join(f"{n} {s.lower()}" for s, n in sorted(one["replica_states"].items()))
        parts = [one["status"], counts or "no replicas"]
        if "versions" in one:
            versions = ", ".join(version[:12] for version in one["versions"])
            parts += [
                f"{one['under_way']} rows under way",
                f"version {versions or 'not known yet'}",
            ]
        lines.append(
            f"  {name}: {', '.join(parts)}{' - ' if one['message'] else ''}{one['message']}"
        )
    return "\n".join(lines)


def _asked(ray_serve: Any) -> list[dict[str, Any]]:
    """What the replicas of the ingress say; models are not asked, which would count as load."""
    try:
        handle = ray_serve.get_deployment_handle(INGRESS, app_name=APPLICATION)
        answers = handle.broadcast("describe").results(timeout_s=10, return_exceptions=True)
    except Exception:  # noqa: BLE001 - Ray raises many where no replica runs, which its state says
        return []
    return [said for said in answers if isinstance(said, dict)]


def _together(name: str, asked: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all replicas of the ingress know of a model."""
    said = [one[name] for one in asked if name in one]
    return {
        "under_way": sum(one["under_way"] for one in said),
        "versions": sorted({one["version"] for one in said if one["version"]}),
    }


def _port_for(settings: ServerSettings) -> int:
    """A TCP port that nobody listens on: the one that is asked for, or any.

    Raises:
        ClusterError: If it is in use; Ray would say so after seconds, with a traceback.
    """
    wanted = [settings.port] if settings.port else random.sample(FREE_PORTS, 100)
    reasons = []
    for port in wanted:
        try:
            bind(settings.host, port).close()
        except OSError as error:
            reasons.append(error.strerror or str(error))
        else:
            return port
    raise ClusterError(reasons[-1])


def _interrupt(_number: int, _frame: object) -> None:
    """SIGTERM ends as Ctrl-C does, whatever is under way."""
    raise KeyboardInterrupt


def _everywhere(path: str) -> str:
    """A path as every process of this machine finds it; URIs as they are."""
    return path if "://" in path else os.path.abspath(path)


def _as_it_listens(settings: ServerSettings) -> ServerSettings:
    """Where Ray Serve ran before, it keeps its own host and port, whatever it is told."""
    from ray.serve.context import _get_global_client

    options = _get_global_client().http_config
    in_force = {"host": options.host or settings.host, "port": options.port}
    return settings.replace(in_force, "the server options of Ray Serve")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_too_much(cores: float, wanted: float) -> None:
    """Ray would wait for more cores for ever, and a machine does not get any."""
    if wanted > cores:
        raise ClusterError(
            f"The models ask for {wanted:g} cores together, and this machine gives Ray {cores:g}. "
            "Give them less, for example --set num_cpus=0.5, or use a larger cluster (--address)."
        )


def _drain(ray_serve: Any) -> None:
    """Ends the replicas when they have answered; the proxies, which hold the sockets, go on."""
    with contextlib.suppress(TimeoutError):
        ray_serve.delete(APPLICATION)


def _wait_until_ready(host: str, port: int) -> None:
    """Ray says that it runs a moment before the face has seen that."""
    url = f"{_url('127.0.0.1' if host == '0.0.0.0' else host, port)}/-/readyz"
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code == HOST_NOT_ALLOWED:  # it has other names, but it answers
                return
        except OSError:
            pass  # nobody listens yet
        time.sleep(0.1)
    raise ClusterError(f"{url} was not ready {READY_WITHIN_S:g} s after Ray had deployed it.")


def _reasons(ray_serve: Any, error: Exception) -> str:
    """What the deployments that failed say, and else Ray."""
    application = ray_serve.status().applications.get(APPLICATION)
    deployments = {} if application is None else application.deployments
    messages = [
        f"{name}: {_last_lines(one.message)}"
        for name, one in deployments.items()
        if one.message and one.status != "HEALTHY"
    ]
    return "\n".join(["The service was not deployed.", *(messages or [_last_lines(str(error))])])


def _last_lines(text: str) -> str:
    """Where a traceback says what was wrong."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n".join(lines[-REASON_LINES:])
