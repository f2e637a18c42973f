"""A deployment of Ray Serve behind the interface that the other kinds of replica have."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from typing import Any

from salver.definition import Deployment
from salver.errors import ReplicaStartFailed
from salver.types import Batch, Failure, Outcomes

_numbers = itertools.count()
_cluster = contextlib.ExitStack()  # one for all; it ends with the tests


class RayReplica:
    """One replica of one model on a Ray of its own, asked as the ingress asks it."""

    def __init__(self, target: str, deployment: Deployment, resolved: Any) -> None:
        self._target, self._deployment, self._resolved = target, deployment, resolved
        self._app = f"contract-{next(_numbers)}"
        self._handle: Any = None

    async def start(self) -> dict[str, Any]:
        _connect()
        from ray import serve

        from salver.cluster.handle import RayHandle
        from salver.cluster.replica import Assignment
        from salver.cluster.serve import ModelReplica, serve_options

        name = self._deployment.name
        assignment = Assignment(
            self._target,
            overrides={name: {"num_cpus": 0.1}},
            resolved={name: self._resolved},
            sys_path=tuple(sys.path),
        )
        served = self._deployment.with_options(assignment.options_of(self._deployment))
        model = serve.deployment(ModelReplica, **serve_options(served))
        application = model.bind(assignment.as_json(), name)
        try:
            remote = await asyncio.to_thread(
                serve.run, application, name=self._app, route_prefix=None
            )
        except RuntimeError:
            (state,) = serve.status().applications[self._app].deployments.values()
            serve.delete(self._app)
            raise ReplicaStartFailed(f"{name}: {state.message}") from None
        self._handle = RayHandle(served, remote)
        self._remote = remote
        return await remote.describe.remote()

    async def run(self, batch: Batch) -> Outcomes:
        outcomes = await self._handle.ask(batch)
        failures: dict[int, Failure] = {i: o.failure for i, o in enumerate(outcomes) if o.failure}
        values = [outcome.value or {} for outcome in outcomes]
        columns = {name: [v.get(name) for v in values] for value in values for name in value}
        abstained = frozenset(i for i, o in enumerate(outcomes) if o.abstained)
        return Outcomes(len(outcomes), columns, failures, abstained)

    async def pids(self) -> list[int]:
        """Of the actor, and of the model's own process in it."""
        said = await self._remote.describe.remote()
        return [said["pid"], *(one["pid"] for one in said["replicas"])]

    async def stop(self) -> None:
        from ray import serve

        if self._handle is not None:
            await asyncio.to_thread(serve.delete, self._app)


def _connect() -> None:
    import ray

    from salver.cluster.connection import Cluster, connected

    if not ray.is_initialized():
        _cluster.enter_context(connected(Cluster()))


def disconnect() -> None:
    """Ends the cluster, if there is one."""
    _cluster.close()
