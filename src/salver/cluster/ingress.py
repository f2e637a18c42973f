"""The HTTP face of a service on Ray: the same front, behind Ray's proxy.

Built inside its replica from the import path of the service, with handles to the deployments of
its models; composed functions run here. Ray's proxy owns the sockets and what comes before a
request is whole; admission, limits and the shape of errors are the front's, as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import CollectorRegistry
from ray import serve
from ray.serve.handle import DeploymentHandle

from salver.account.about import About, about_deployment
from salver.account.account import Account
from salver.cluster.handle import RayHandle
from salver.cluster.replica import Assignment
from salver.cluster.states import described
from salver.definition import Handle
from salver.engine.calibrations import with_calibrations
from salver.engine.composed import ComposedHandle
from salver.engine.loading import version_of
from salver.online.exchange import Exchange
from salver.online.front import Front
from salver.online.http_rules import Hosts, Refused, host_names
from salver.options import ServerSettings
from salver.settings import gather_overrides

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger("salver.cluster")

# At the state of the deployments, for /-/readyz. Ray takes some 50 ms of CPU to tell it.
LOOK_EVERY_S = 5.0
LOOK_SOON_S = 0.5  # while they are not ready
DESCRIBE_TIMEOUT_S = 5.0
DESCRIBE_EVERY_S = 10.0


@serve.ingress()
class Ingress:
    """Answers HTTP for a service whose models are deployments of Ray Serve.

    Args:
        assignment: See `Assignment.as_json`.
        models: Ray's handles of the models, by name.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, assignment: Mapping[str, Any], models: Mapping[str, DeploymentHandle[Any]]
    ) -> None:
        given = self._given = Assignment.from_json(assignment)
        self._service = given.service()
        self._models = dict(models)
        # The API key of a built manifest comes from the environment, where a secret belongs.
        server = {**gather_overrides(self._service.deployments).server, **given.server}
        self._settings = ServerSettings().replace(server, "the server options")
        self._settings.refuse_exposure()
        self._handles: dict[str, Handle] = {}
        for deployment in self._service.deployments.values():  # parts before those bound to them
            served = deployment.with_options(given.options_of(deployment))
            handle = (
                ComposedHandle(served)
                if served.is_composed
                else RayHandle(served, self._models[served.name])
            )
            self._handles[served.name] = handle
            served.connect(handle)  # on the line that the service's own deployment answers on
        self._state: dict[str, Any] = {"ready": False, "deployments": {}}
        self._said: dict[str, dict[str, Any]] = {}
        self._ask_at: dict[str, float] = {}
        self._own_versions: dict[str, str] = {}  # of composed functions, without their parts'
        self._watching = asyncio.create_task(self._watch())

    def __serve_build_asgi_app__(self) -> Admission:
        """See `ray.serve.ingress`."""
        registry = CollectorRegistry()
        front = Front(
            self._service,
            self._handles,
            settings=self._settings,
            registry=registry,
            readiness=lambda: self._state,
            examples=lambda name: list(self._said.get(name, {}).get("examples", [])),
            recording=self._account(registry),
        )
        return Admission(front, self._settings)

    def _account(self, registry: CollectorRegistry) -> Account | None:
        """Where answers are kept, on the node of this process, if that is asked for."""
        if self._settings.record is None:
            return None

        def tells(name: str) -> About:
            deployment = self._service.deployments[name]
            served = deployment.with_options(self._given.options_of(deployment))
            found, _ = with_calibrations([served], self._given.resolved)
            return about_deployment(served, found.get(name, {}))

        return Account(
            Path(self._settings.record),
            version=self._version,
            tells=tells,
            registry=registry,
            with_inputs=self._settings.record_inputs,
            max_records=self._settings.max_records,
        )

    def _version(self, name: str) -> str | None:
        """Of all that decides an answer, as far as replicas have told."""
        deployment = self._service.deployments[name]
        if not deployment.is_composed:
            return self._said.get(name, {}).get("version")
        if name not in self._own_versions:
            served = deployment.with_options(self._given.options_of(deployment))
            self._own_versions[name] = version_of(served, {})
        parts = [self._version(part.name) or "" for part in deployment.parts]
        return "+".join([self._own_versions[name], *parts])

    async def describe(self) -> dict[str, dict[str, Any]]:
        """By model: rows that were asked here and not answered yet, and the version it has."""
        return {
            name: {
                "under_way": handle.under_way,
                "version": self._said.get(name, {}).get("version"),
            }
            for name, handle in self._handles.items()
            if isinstance(handle, RayHandle)
        }

    async def __del__(self) -> None:
        if hasattr(self, "_watching"):  # not if it failed to start
            self._watching.cancel()

    async def _watch(self) -> None:
        app = serve.get_replica_context().app_name
        while True:
            try:
                status = await asyncio.to_thread(serve.status)
                deployments = status.applications[app].deployments
                for name in self._models:
                    if _running(deployments.get(name)):
                        await self._ask_for(name)
                self._state = described(self._service, deployments, self._said)
            except Exception:
                log.exception("The state of the deployments cannot be read; it is tried again.")
            await asyncio.sleep(LOOK_EVERY_S if self._state["ready"] else LOOK_SOON_S)

    async def _ask_for(self, name: str) -> None:
        """What one replica says of itself; its version and examples are those of all.

        Asked again now and then, since an update may have replaced it.
        """
        now = asyncio.get_running_loop().time()
        if now < self._ask_at.get(name, 0.0):
            return
        self._ask_at[name] = now + DESCRIBE_EVERY_S
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT_S):
                self._said[name] = await self._models[name].describe.remote()
        except Exception as error:  # noqa: BLE001 - Ray raises many; the state is known without it
            self._ask_at[name] = now
            log.warning("%s does not describe itself: %r", name, error)


class Admission:
    """What the embedded HTTP server refuses before the front is asked: foreign names, websockets.

    Args:
        front: Asked for the rest.
        settings: Host names.
    """

    def __init__(self, front: Front, settings: ServerSettings) -> None:
        self._front = front
        self._hosts = Hosts(host_names(settings.host, settings.allowed_hosts))

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers one connection of ASGI."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            try:
                self._hosts.check(exchange.headers.get(b"host", b""))
            except Refused as refused:
                error = {
                    "code": refused.code,
                    "message": refused.message,
                    "request_id": exchange.request_id.decode(),
                }
                await exchange.answer(refused.status, orjson.dumps({"error": error}))
                return
        await self._front(scope, receive, send)


def _running(deployment: Any) -> bool:
    return deployment is not None and deployment.replica_states.get("RUNNING", 0) > 0
