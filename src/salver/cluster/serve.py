"""A service as an application of Ray Serve: one deployment for each model, and one for HTTP.

What is built holds an import path, options and digests; models and apps are made where they run.
Ray does the routing, the scaling, the placement and the recovery. This module does not know the
cluster that it is deployed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig

from salver.cluster.connection import INGRESS
from salver.cluster.ingress import Ingress
from salver.cluster.replica import CPUS, Assignment, ClusterReplica, Refusal
from salver.definition import Deployment
from salver.engine.capabilities import check_rules
from salver.errors import ConfigError, UnknownOption
from salver.options import DeploymentOptions, ServerSettings
from salver.types import Outcome

IMPORT_PATH = "salver.cluster.serve:build"
GRACE_S = 5.0  # the ingress answers 504 before Ray's proxy gives up
INGRESS_REPLICAS = 2  # one may end; what it holds fails, see docs/cluster.md
INGRESS_ONGOING = 1000  # requests that wait in it; those that are too many are refused by models
MIN_ONGOING = 128  # where batches are chosen in the replica: enough for two of 64 rows
MAX_QUEUED = 1024  # per ingress replica; Ray's default has no bound
SURGE = 100  # Ray's default stops old replicas before new ones have started
NO_ACCESS_LOG = {"enable_access_log": False}  # a line for each hop of each request is not free
QUIET = {**NO_ACCESS_LOG, "log_level": "WARNING"}  # of replicas: their lines are made at this level
BATCH = 8  # requests that a replica should hold where nothing else is said: one usual batch

# Options that Ray knows by the same name; null leaves them to Ray.
_BY_NAME = (
    "max_replicas_per_node",
    "graceful_shutdown_timeout_s",
    "graceful_shutdown_wait_loop_s",
    "health_check_period_s",
    "health_check_timeout_s",
    "user_config",
)


class ModelReplica:
    """One replica of a model, as Ray Serve runs it.

    Args:
        assignment: See `Assignment.as_json`.
        name: Of the deployment.
    """

    async def __init__(self, assignment: Mapping[str, Any], name: str) -> None:  # type: ignore[misc]  # Ray awaits it
        self._assignment = Assignment.from_json(assignment)
        self._replica = ClusterReplica(self._assignment, name)
        await self._replica.start()

    async def ask(self, rows: list[tuple[Any, ...]], timeout_s: float) -> list[Outcome] | Refusal:
        """See `ClusterReplica.ask`."""
        return await self._replica.ask(rows, timeout_s)

    async def describe(self) -> dict[str, Any]:
        """See `ClusterReplica.describe`."""
        return self._replica.describe()

    async def check_health(self) -> None:
        """See `ClusterReplica.check_health`."""
        await self._replica.check_health()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes a new `user_config` in place: the model is loaded with it, then swapped in."""
        before = self._replica
        if user_config == before.user_config:
            return
        after = ClusterReplica(self._assignment, before.name, user_config)
        await after.start()
        self._replica = after
        await before.stop(drain_s=30.0)

    async def __del__(self) -> None:
        if hasattr(self, "_replica"):  # not if it failed to start
            await self._replica.stop()


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application; `import_path: salver.cluster.serve:build` of a Serve config.

    Args:
        args: See `Assignment.as_json`.

    Raises:
        ConfigError: For options that Ray or a model cannot honour.
    """
    assignment = Assignment.from_json(args)
    service = assignment.service()
    models: dict[str, Any] = {}
    for one in service.deployments.values():
        deployment = one.with_options(assignment.options_of(one))
        check_rules(deployment)
        if not deployment.is_composed:
            options = serve_options(deployment)
            models[one.name] = serve.deployment(ModelReplica, **options).bind(args, one.name)
    face = serve.deployment(Ingress, **ingress_options())
    return face.bind(args, models)


def ingress_options() -> dict[str, Any]:
    """How the HTTP face is served."""
    return {
        "name": INGRESS,
        "num_replicas": INGRESS_REPLICAS,
        "max_ongoing_requests": INGRESS_ONGOING,
        "max_surge_percent": SURGE,
        "logging_config": QUIET,
        "ray_actor_options": {"num_cpus": 0},  # it waits for models; they are given the cores
    }


def http_options(settings: ServerSettings, deployments: Iterable[Deployment]) -> dict[str, Any]:
    """Of Ray's proxies.

    Args:
        settings: Host and port.
        deployments: With their options as they are in force.
    """
    longest = max(one.options.request_timeout_s for one in deployments)
    return {
        "host": settings.host,
        "port": settings.port,
        "request_timeout_s": longest + GRACE_S,
    }


def serve_options(deployment: Deployment) -> dict[str, Any]:
    """The options of a model as Ray Serve takes them.

    Raises:
        ConfigError: If they contradict each other.
        UnknownOption: For a name in `autoscaling_config` that Ray does not know.
    """
    options = deployment.options
    given = {name: getattr(options, name) for name in _BY_NAME}
    return {
        "name": deployment.name,
        **_count(deployment),
        "max_ongoing_requests": options.max_ongoing_requests
        or max(MIN_ONGOING, 2 * (options.max_batch_size or 0)),
        "max_queued_requests": options.max_queued_requests or MAX_QUEUED,
        "max_surge_percent": SURGE
        if options.max_surge_percent is None
        else options.max_surge_percent,
        "logging_config": QUIET,
        "ray_actor_options": actor_options(options),
        **{name: value for name, value in given.items() if value is not None},
    }


def actor_options(options: DeploymentOptions) -> dict[str, Any]:
    """What one replica asks of the cluster."""
    return {
        **options.ray_actor_options,
        "num_cpus": options.num_cpus or CPUS,
        "num_gpus": options.num_gpus,
    }


def application_cpus(deployments: Iterable[Deployment]) -> float:
    """Cores that the fewest replicas of all models ask for; the face asks for none."""
    total = 0.0
    for one in deployments:
        if not one.is_composed:
            options = serve_options(one)
            config = options.get("autoscaling_config", {})
            # Scaled to zero, the first request still needs one.
            least = options.get("num_replicas") if not config else config.get("min_replicas", 1)
            total += max(1, int(least or 1)) * options["ray_actor_options"]["num_cpus"]
    return total


def _count(deployment: Deployment) -> dict[str, Any]:
    """A number of replicas, or what Ray is to scale by."""
    options, name = deployment.options, deployment.name
    config = options.autoscaling_config
    if config is not None and isinstance(options.num_replicas, int):
        raise ConfigError(
            f"{name} has num_replicas={options.num_replicas} and an autoscaling_config, which "
            "decides the number by itself. Remove one of them (min_replicas and max_replicas bound "
            "it)."
        )
    if config is None and options.num_replicas != "auto":
        return {"num_replicas": options.num_replicas or 1}
    known = list(AutoscalingConfig.model_fields)
    for field, value in (config or {}).items():
        if field not in known:
            raise UnknownOption(field, value, known, f"autoscaling_config of {name}")
    # Ray's own target of two requests would keep batches small and replicas many.
    target = {"target_ongoing_requests": options.max_batch_size or BATCH}
    auto = {"num_replicas": "auto"} if options.num_replicas == "auto" else {}
    return {**auto, "autoscaling_config": {**target, **(config or {})}}
