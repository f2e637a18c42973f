"""One deployment in one process of a cluster: the embedded engine, with what the cluster decides.

Ray places, counts, routes and replaces such processes; what goes on inside one (the model in a
child process, batches, bad rows, golden examples) is what goes on on a single machine. It does
not know Ray, and runs in a Serve replica as well as in an actor of Ray Data.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from salver.definition import Deployment
from salver.engine.calibrations import with_calibrations
from salver.engine.capabilities import NOT_OF_FUNCTIONS
from salver.engine.loading import ATTACHED
from salver.engine.local import LocalEngine
from salver.engine.resolution import on_this_machine
from salver.engine.targets import load_service
from salver.engine.variants import Used
from salver.errors import (
    DeadlineExceeded,
    NotReady,
    QueueFull,
    ReplicaError,
    SalverError,
    error_of,
)
from salver.options import RAY_HINTS, DeploymentOptions
from salver.service import Service
from salver.settings import Overrides
from salver.types import Batch, Outcome

CPUS = 1.0  # of a replica that does not say how many it needs, as with Ray
HEALTH_TIMEOUT_S = 20.0  # of a golden prediction; Ray's own limit for a health check is 30 s


@dataclass(frozen=True)
class Assignment:
    """All that a process of a cluster needs to know; plain values only.

    Attributes:
        target: `module:attribute` of the service.
        overrides: Options given outside the code, by deployment.
        resolved: Path, digest and source of each checkpoint, by deployment and place.
        server: Options of the HTTP face given outside the code.
        sys_path: Where modules are found on the machine that made this.
        optimized: What was found of variants, see `Used`, by deployment.
        notes: What else a start tells people.
    """

    target: str
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resolved: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    sys_path: tuple[str, ...] = ()
    optimized: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> dict[str, Used]:
        """Which variants answer, and where none does though there is one; by deployment."""
        return {name: Used(**one) for name, one in self.optimized.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a YAML file or another process."""
        return asdict(self)

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Assignment:
        """The inverse of `as_json`."""
        tuples = {name: tuple(given.get(name, ())) for name in ("sys_path", "notes")}
        return Assignment(**{**given, **tuples})

    def service(self) -> Service:
        """Imports the service.

        Raises:
            TargetNotFound: If this process does not find it.
        """
        sys.path += [path for path in self.sys_path if path not in sys.path]
        return load_service(self.target)

    def options_of(self, deployment: Deployment) -> DeploymentOptions:
        """The options of a deployment as they are in force."""
        given = dict(self.overrides.get(deployment.name, {}))
        if deployment.is_composed:  # what was said for all deployments is meant for the models
            given = {name: value for name, value in given.items() if name not in NOT_OF_FUNCTIONS}
        return deployment.options.replace(given, f"the options of {deployment.name}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error for the asker on its way through Ray, which would wrap an exception."""

    code: str
    message: str
    retry_after_s: int | None = None

    @staticmethod
    def of(error: SalverError) -> Refusal:
        """What another process needs to raise the same error."""
        return Refusal(error.code, error.message, getattr(error, "retry_after_s", None))

    def error(self) -> SalverError:
        """The error again."""
        return error_of(self.code, self.message, retry_after_s=self.retry_after_s)


class ClusterReplica:
    """A deployment, and what it is composed of, in this process; lives on one event loop.

    Args:
        assignment: What to run.
        name: Which deployment of the service.
        user_config: Instead of the one in the options; null leaves that.
    """

    def __init__(
        self, assignment: Assignment, name: str, user_config: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self._assignment = assignment
        self._deployment = assignment.service().deployments[name]
        options = assignment.options_of(self._deployment)
        self.user_config = options.user_config if user_config is None else user_config
        self._engine: LocalEngine | None = None
        self._answers = 0
        self._answers_seen = 0

    @property
    def engine(self) -> LocalEngine:
        """The engine, once it was started."""
        if self._engine is None:
            raise NotReady(f"{self.name} is still loading. Try again later.")
        return self._engine

    async def start(self) -> None:
        """Returns when the golden examples were answered.

        Raises:
            CheckpointError: If a checkpoint is not the one that was assigned.
            ReplicaStartFailed: If the model cannot be loaded or fails its examples.
        """
        service = Service(self._deployment)
        overrides = Overrides(
            deployments={
                one.name: {
                    **self._assignment.overrides.get(one.name, {}),
                    **_inside(self._assignment.options_of(one)),
                    **({"user_config": self.user_config} if one.name == self.name else {}),
                }
                for one in service.deployments.values()
            }
        )
        deployments = service.deployments.values()
        resolved = await on_this_machine(deployments, self._assignment.resolved)
        in_force = [one.with_options(self._assignment.options_of(one)) for one in deployments]
        if self.user_config != self._assignment.options_of(self._deployment).user_config:
            # What was made for the model as it was assigned is not of this one.
            own = resolved.get(self.name, {})
            resolved[self.name] = {p: one for p, one in own.items() if p not in ATTACHED}
            changed = {"user_config": self.user_config}
            in_force = [
                one.with_options(one.options.replace(changed, one.name))
                if one.name == self.name
                else one
                for one in in_force
            ]
        engine = LocalEngine(
            service,
            self._assignment.target,
            overrides,
            # A calibration that another machine has, or one that this one's cache holds.
            with_calibrations(in_force, resolved)[0],
            self._assignment.used,
        )
        await engine.start()
        self._engine = engine

    async def stop(self, drain_s: float = 0.0) -> None:
        """Ends the model's process."""
        if self._engine is not None:
            await self._engine.stop(drain_s)

    async def ask(self, rows: list[tuple[Any, ...]], timeout_s: float) -> list[Outcome] | Refusal:
        """One outcome per row; whoever is cancelled meanwhile has left.

        Args:
            rows: Values in field order, which passed the schema.
            timeout_s: Seconds until the answer is no longer wanted.
        """
        try:
            handle = self.engine.handles[self.name]
            batch = Batch(self._deployment.schema.fields, rows)
            outcomes = await handle.ask(batch, timeout_s)
        except SalverError as error:
            return Refusal.of(error)
        if any(outcome.failure is None for outcome in outcomes):
            self._answers += 1
        return outcomes

    async def check_health(self) -> None:
        """Asks a golden example, unless real answers have shown since that the model works.

        Raises:
            SalverError: If it fails, or the model has ended for good.
        """
        if self._answers != self._answers_seen:
            self._answers_seen = self._answers
            return
        if not self.engine.readiness()["ready"]:
            raise NotReady(f"{self.name} has no replica that is ready.")
        examples = self.engine.examples(self.name)
        if not examples:
            return
        checked = self._deployment.schema.check_rows([examples[0]["input"]])
        handle = self.engine.handles[self.name]
        try:
            (outcome,) = await handle.ask(checked.batch, HEALTH_TIMEOUT_S)
        except (QueueFull, DeadlineExceeded):
            return  # it has more to do than it can; what hangs in it, the engine ends
        if outcome.failure is not None:
            raise ReplicaError(f"{self.name} fails its golden example: {outcome.failure.message}")

    def describe(self) -> dict[str, Any]:
        """State for people and `/-/readyz`, and the executed golden examples."""
        state = self.engine.readiness()["deployments"][self.name]
        return {**state, "pid": os.getpid(), "examples": self.engine.examples(self.name)}


def _inside(options: DeploymentOptions) -> dict[str, Any]:
    """Options of the engine within one process: what is Ray's to decide is decided."""
    in_threads = options.replica == "thread"  # Ray has set the math threads of this process
    return {
        **dict.fromkeys(RAY_HINTS),
        "autoscaling_config": None,
        "ray_actor_options": {},
        "num_replicas": 1,
        "num_cpus": None if in_threads else options.num_cpus or CPUS,
        "num_gpus": 0,  # CUDA_VISIBLE_DEVICES is set, and inherited
    }
