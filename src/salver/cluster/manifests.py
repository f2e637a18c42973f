"""Files that put a service on a cluster: a Serve config, and RayService and RayJob for KubeRay.

Pure: it makes plain values of a definition. It does not know where they are sent, nor secrets.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import yaml

from salver.cluster.connection import APPLICATION
from salver.cluster.replica import Assignment
from salver.cluster.serve import (
    IMPORT_PATH,
    NO_ACCESS_LOG,
    actor_options,
    http_options,
    ingress_options,
    serve_options,
)
from salver.definition import Deployment
from salver.errors import ConfigError
from salver.options import ServerSettings
from salver.service import Service

KEY_SECRET = {"name": "salver", "key": "api-key"}  # of Kubernetes
HEAD = {"cpu": "1", "memory": "4Gi"}
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?")
_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001}  # of the head
# As KubeRay writes them where there are none; spelled out, so that they can be tuned.
_RAYLET = (
    "wget --tries 1 -T 2 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success"
)
_GCS = "wget --tries 1 -T 2 -q -O- http://localhost:8265/api/gcs_healthz | grep success"
_PROXY = "wget --tries 1 -T 2 -q -O- http://localhost:{port}/-/healthz | grep success"


@dataclass(frozen=True)
class Pods:
    """What Kubernetes is to run.

    Attributes:
        name: Of the RayService or RayJob.
        image: With the service's code, Salver and Ray.
        memory: Of a worker, as Kubernetes writes it.
    """

    name: str
    image: str
    memory: str = "4Gi"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"The name was given as {self.name!r}; Kubernetes takes lower-case letters, digits "
                "and '-', at most 42 of them, beginning with a letter."
            )


def serve_config(
    service: Service, assignment: Assignment, settings: ServerSettings
) -> dict[str, Any]:
    """What `serve deploy` takes; checkpoints are pinned to the digests they have now.

    Args:
        service: What is served.
        assignment: As resolved on this machine.
        settings: Host and port of Ray's proxies; the API key is left to the environment.
    """
    deployments = _in_force(service, assignment)
    models = [serve_options(one) for one in deployments if not one.is_composed]
    return {
        "proxy_location": "EveryNode",
        "http_options": http_options(settings, deployments),
        "logging_config": NO_ACCESS_LOG,
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": _portable(assignment),
                "deployments": [*models, ingress_options()],
            }
        ],
    }


def ray_service(
    service: Service, assignment: Assignment, settings: ServerSettings, pods: Pods
) -> dict[str, Any]:
    """A KubeRay RayService: the same Serve config, and the cluster that it runs on."""
    config = serve_config(service, assignment, settings)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": pods.name},
        "spec": {
            "serveConfigV2": as_yaml(config),
            "upgradeStrategy": {"type": "NewCluster"},  # the old one serves until the new one does
            "rayClusterConfig": _cluster(_in_force(service, assignment), pods, settings.port),
        },
    }


def ray_job(
    service: Service,
    assignment: Assignment,
    pods: Pods,
    *,
    deployment: str | None,
    paths: tuple[str, str],
) -> dict[str, Any]:
    """A KubeRay RayJob for an offline run, after which the cluster ends.

    References to checkpoints are resolved when it runs.

    Args:
        service: What is run.
        assignment: As resolved on this machine.
        pods: Where it runs.
        deployment: Which one; may be null when the service exposes one.
        paths: Input, and output folder; both as the head's pod sees them.
    """
    chosen = service.chosen(deployment)
    command = ["salver", "predict", assignment.target, *paths, "--engine", "ray"]
    command += ["--address", "auto", "--deployment", chosen.name, "--resume"]
    used = [one for one in _in_force(service, assignment) if one.name in _needed(chosen)]
    for one in used:
        for option, value in assignment.overrides.get(one.name, {}).items():
            command += ["--set", f"{one.name}.{option}={json.dumps(value)}"]  # JSON is YAML too
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": pods.name},
        "spec": {
            "entrypoint": shlex.join(command),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": _cluster(used, pods, None),
        },
    }


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """YAML in the order in which it was made; long texts as blocks."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _in_force(service: Service, assignment: Assignment) -> list[Deployment]:
    return [one.with_options(assignment.options_of(one)) for one in service.deployments.values()]


def _needed(deployment: Deployment) -> set[str]:
    return {deployment.name}.union(*(_needed(part) for part in deployment.parts))


def _portable(assignment: Assignment) -> dict[str, Any]:
    """Without what is true of this machine only, and without the API key."""
    resolved = {
        name: {place: _fetchable(found) for place, found in places.items()}
        for name, places in assignment.resolved.items()
    }
    server = {name: value for name, value in assignment.server.items() if name != "api_key"}
    given = replace(assignment, resolved=resolved, server=server, sys_path=()).as_json()
    return {name: value for name, value in given.items() if value}


def _fetchable(found: Mapping[str, Any]) -> dict[str, Any]:
    source = found.get("source") or ""
    is_remote = source.startswith(("runs:", "models:"))
    # A folder of this machine must be in the image; what is registered is fetched where it runs.
    return {"path": "" if is_remote else found["path"], "digest": found["digest"], "source": source}


def _cluster(deployments: Sequence[Deployment], pods: Pods, port: int | None) -> dict[str, Any]:
    """Head and workers; `port` is the one that is served, or null for a job."""
    models = [one for one in deployments if not one.is_composed]
    least = max(_bounds(one)[0] for one in models)
    most = max(_bounds(one)[1] for one in models)
    head = {
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
        "template": _pod("ray-head", pods, HEAD, [_RAYLET, _GCS], {**_PORTS, **_served(port)}),
    }
    worker = {
        "groupName": "workers",
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": _custom(models),
        "template": _pod("ray-worker", pods, _of_worker(models, pods), [_RAYLET], _served(port)),
    }
    return {
        "rayVersion": version("ray"),
        "enableInTreeAutoscaling": most > least,
        "headGroupSpec": head,
        "workerGroupSpecs": [worker],
    }


def _served(port: int | None) -> dict[str, int]:
    return {} if port is None else {"serve": port}


def _custom(models: Sequence[Deployment]) -> dict[str, str]:
    """Custom resources that a worker has to offer, as KubeRay hands them to `ray start`."""
    total: dict[str, float] = {}
    for one in models:
        for name, amount in actor_options(one.options).get("resources", {}).items():
            total[name] = total.get(name, 0) + amount
    return {"resources": json.dumps(json.dumps(total))} if total else {}


def _of_worker(models: Sequence[Deployment], pods: Pods) -> dict[str, str]:
    """Room for one replica of each model."""
    resources = [actor_options(one.options) for one in models]
    asked = {"cpu": str(max(1, math.ceil(sum(r["num_cpus"] for r in resources))))}
    gpus = math.ceil(sum(r["num_gpus"] for r in resources))
    return {**asked, "memory": pods.memory, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}


def _bounds(deployment: Deployment) -> tuple[int, int]:
    """Fewest and most replicas."""
    options = serve_options(deployment)
    config = options.get("autoscaling_config")
    if config is None:
        return options["num_replicas"], options["num_replicas"]
    least = max(1, int(config.get("min_replicas", 1)))
    is_auto = options.get("num_replicas") == "auto"
    return least, max(least, int(config.get("max_replicas", 100 if is_auto else 1)))


def _pod(
    name: str,
    pods: Pods,
    resources: Mapping[str, str],
    alive: Sequence[str],
    ports: Mapping[str, int],
) -> dict[str, Any]:
    # A head without replicas has no proxy, and is ready all the same.
    serves = "serve" in ports and "gcs" not in ports
    ready = [*alive, _PROXY.format(port=ports["serve"])] if serves else list(alive)
    container: dict[str, Any] = {
        "name": name,
        "image": pods.image,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "livenessProbe": _probe(alive, failures=120),
        "readinessProbe": _probe(ready, failures=10),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
        "env": [
            {
                "name": "SALVER_API_KEY",
                "valueFrom": {"secretKeyRef": {**KEY_SECRET, "optional": True}},
            },
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        ],
    }
    if ports:
        container["ports"] = [{"name": n, "containerPort": p} for n, p in ports.items()]
    return {"spec": {"containers": [container]}}


def _probe(commands: Sequence[str], *, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["bash", "-c", " && ".join(commands)]},
        "initialDelaySeconds": 10,
        "periodSeconds": 5,
        "timeoutSeconds": 2 * len(commands),
        "failureThreshold": failures,
    }


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, for they are hard to edit, and texts of several lines as they are."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
