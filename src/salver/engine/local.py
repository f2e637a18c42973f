"""The embedded engine: all deployments of one service on this machine.

It resolves checkpoints, starts replicas, and plugs a handle into every deployment. It does not
know HTTP, files or the command line; it lives on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from salver.definition import Deployment, Handle
from salver.engine.calibrations import with_calibrations
from salver.engine.capabilities import NOT_OF_FUNCTIONS, no_effect, refuse_unsupported
from salver.engine.composed import ComposedHandle
from salver.engine.devices import devices, share_devices
from salver.engine.dispatcher import Dispatcher
from salver.engine.loading import ATTACHED, CALIBRATION, Resolved, allowed_code, version_of
from salver.engine.measuring import tried
from salver.engine.metrics import EngineMetrics
from salver.engine.offline import ComposedReplica, OfflineReplica, PoolReplica
from salver.engine.planning import (
    Plan,
    Shared,
    common_size,
    first_plan,
    is_open,
    settled,
    sizes_to_time,
)
from salver.engine.pool import Pool
from salver.engine.replica import Birth, ProcessReplica, ThreadReplica, Worker
from salver.engine.resolution import resolve_all
from salver.engine.samples import sample_rows
from salver.engine.variants import Used, with_variants
from salver.errors import UnsupportedOption, last_line
from salver.lengths import Characters, Lengths, lengths_by
from salver.models.variants import PLACE
from salver.options import DeploymentOptions
from salver.service import Service
from salver.settings import Overrides, available_cores
from salver.types import Batch, Outcomes

log = logging.getLogger("salver.engine")


class LocalEngine:
    """Runs the deployments of a service on this machine.

    Args:
        service: What to run.
        target: `module:attribute` by which a child process finds the service; null keeps all
            replicas in threads, for definitions that live in a notebook.
        overrides: Options given outside the code.
        resolved: Path, digest and source of each checkpoint by deployment and place; null asks
            the registry for them at start.
        used: Which variants are among these, by deployment.

    Must be made on the event loop that it will live on. Deployments refuse with `NotReady` until
    it has started.

    Raises:
        UnsupportedOption: For an option that this engine cannot honour.
    """

    def __init__(
        self,
        service: Service,
        target: str | None = None,
        overrides: Overrides | None = None,
        resolved: Mapping[str, Resolved] | None = None,
        used: Mapping[str, Used] | None = None,
    ) -> None:
        self.service = service
        self.target = target
        self.metrics = EngineMetrics()
        self.handles: dict[str, Handle] = {}
        self.notes: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.job_plans: dict[str, Plan] = {}  # the same replicas with the batches of offline jobs
        self._overrides = overrides or Overrides()
        self._deployments: dict[str, Deployment] = {}
        for deployment in service.deployments.values():  # parts before those bound to them
            self._deployments[deployment.name] = self._own(deployment)
        self._pools: dict[str, Pool] = {}
        self._dispatchers: dict[str, Dispatcher] = {}
        self._lengths: dict[str, Lengths] = {}
        self._given_checkpoints = resolved
        self._resolved: dict[str, Resolved] = {}
        self._versions: dict[str, str] = {}
        self._used = dict(used or {})  # variants, and why there is none where one was
        self._code: dict[str, list[str]] = {}  # what models run when they are loaded
        self._stopping = False
        for deployment in self._deployments.values():
            self.notes += refuse_unsupported(deployment)
        models = [d for d in self._deployments.values() if not d.is_composed]
        # Before what is left open is filled in.
        self._ordered = {name: d.options for name, d in self._deployments.items()}
        self._shared = Shared(
            available_cores(), len(devices()), [(d.options, self._is_own(d)) for d in models]
        )
        for deployment in models:
            self._prepare(deployment)
        for deployment in self._deployments.values():
            if deployment.is_composed:
                self.handles[deployment.name] = ComposedHandle(deployment)
        self._size_composed()

    def deployment(self, name: str) -> Deployment:
        """A deployment with its options as they are in force."""
        return self._deployments[name]

    def has_chosen_batch_size(self, name: str) -> bool:
        """Whether `max_batch_size` was left to the engine."""
        return self._ordered[name].max_batch_size is None

    def job_batch_size(self, name: str) -> int:
        """Rows in a batch of an offline job."""
        ordered: int | None = self._ordered[name].max_batch_size
        if ordered is not None:
            return ordered
        if name in self.job_plans:
            return self.job_plans[name].max_batch_size
        return common_size(self.job_plans.values())

    async def start(self) -> None:
        """Returns when every deployment has a replica that answered its golden examples.

        Raises:
            TrackingError: If a checkpoint cannot be found.
            ReplicaStartFailed: If a model cannot be loaded or fails its examples; nothing is left
                running then.
        """
        try:
            await self._resolve()
            for name, resolved in self._resolved.items():
                # Each replica looks too, but would say it in a traceback.
                self._code[name] = allowed_code(self._deployments[name], resolved)
                for reason in self._code[name]:
                    log.warning("%s runs code when it is loaded, as allowed: %s", name, reason)
            on_trial = [name for name in self._pools if self._is_open(name)]
            await asyncio.gather(
                *(p.start_one() if n in on_trial else p.start() for n, p in self._pools.items())
            )
            await asyncio.gather(*map(self._measure, self._pools))
            for name in on_trial:  # one after the other, since they share the cores
                await self._try(name)
            self._size_composed()
        except BaseException:
            await self.stop(0)
            raise
        for name, handle in self.handles.items():
            self.service.deployments[name].connect(handle)
            self._deployments[name].connect(handle)

    async def _resolve(self) -> None:
        """Finds the checkpoints, and the variants that were made of them."""
        if self._given_checkpoints is not None:
            self._resolved = dict(self._given_checkpoints)
            return
        deployments = self._deployments.values()
        found, self._used = with_variants(deployments, await resolve_all(deployments))
        self._resolved, calibrated = with_calibrations(deployments, found)
        self.notes += [used.described(name) for name, used in self._used.items()] + calibrated

    async def stop(self, drain_s: float = 30.0) -> None:
        """Lets what runs finish within `drain_s` seconds, then ends all replicas."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await asyncio.gather(*(d.drain() for d in self._dispatchers.values()))
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        for name, handle in self.handles.items():
            self.service.deployments[name].disconnect(handle)
            self._deployments[name].disconnect(handle)
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))

    def readiness(self) -> dict[str, Any]:
        """Whether every deployment can answer, and the state of all replicas."""
        described = {name: self._described(name) for name in self._deployments}
        ready = all(d["ready"] for d in described.values())
        return {"ready": ready and not self._stopping, "deployments": described}

    def examples(self, name: str) -> list[dict[str, Any]]:
        """Golden examples of a deployment with the results they had at start."""
        return self._pools[name].examples if name in self._pools else []

    def version(self, name: str) -> str:
        """Digest of all that decides an answer of a deployment."""
        if name not in self._versions:
            deployment = self._deployments[name]
            own = version_of(deployment, self._resolved.get(name, {}))
            parts = [self.version(part.name) for part in deployment.parts]
            self._versions[name] = "+".join([own, *parts])
        return self._versions[name]

    def checkpoints(self, name: str) -> Resolved:
        """Path, digest and source of the checkpoints that a deployment uses."""
        return self._resolved.get(name, {})

    def offline_replica(self, name: str) -> OfflineReplica:
        """The same replicas for an offline job, which brings its own batches."""
        deployment = self._deployments[name]
        if deployment.is_composed:
            return ComposedReplica(self.handles[name])
        timeout = deployment.options.request_timeout_s
        return PoolReplica(self._pools[name], timeout, self._lengths[name])

    def _own(self, deployment: Deployment) -> Deployment:
        """A deployment as this engine runs it: its options in force, bound to parts of its own.

        Another engine in this process may run the same deployments; each asks its own replicas.
        """
        name = deployment.name
        given = dict(self._overrides.deployments.get(name, {}))
        if deployment.is_composed:
            # What was said for all deployments is meant for the models.
            idle = [option for option in NOT_OF_FUNCTIONS if given.get(option)]
            for option in idle:
                del given[option]
            if idle:
                self.notes.append(no_effect(name, idle))
        return replace(
            deployment.with_options(deployment.options.replace(given, f"the options of {name}")),
            args=tuple(self._own_part(a) for a in deployment.args),
            kwargs={place: self._own_part(a) for place, a in deployment.kwargs.items()},
        ).detached()

    def _own_part(self, argument: Any) -> Any:
        return self._deployments[argument.name] if isinstance(argument, Deployment) else argument

    def _prepare(self, deployment: Deployment) -> None:
        name, options = deployment.name, deployment.options
        kind = self._kind(deployment)
        plan = first_plan(options, kind == "process", self._shared)
        devices_of = share_devices(plan.replicas, options.num_gpus)
        if kind == "thread" and (options.num_cpus or options.num_gpus):
            raise UnsupportedOption(
                f"{name}: num_cpus and num_gpus are set per process, so replicas in threads cannot "
                "honour them. Use replica='process' (which needs an importable service), or remove "
                "them."
            )

        def make(index: int) -> Worker:
            resolved = self._resolved.get(name, {})  # known once start() has asked
            if kind == "thread":
                return ThreadReplica(deployment, resolved)
            assert self.target is not None
            overrides = self._overrides.deployments.get(name, {})
            birth = Birth(
                self.target, name, overrides, resolved, plan.threads or 1, devices_of(index)
            )
            return ProcessReplica(birth, deployment)

        options = self._adopt(name, plan)
        pool = Pool(name, make, plan.replicas, options.startup_timeout_s)
        metrics = self.metrics.of(name, lambda: dispatcher.queued, lambda: pool.healthy)
        pool.on_restart = metrics.restart
        pool.fall_back = partial(self._fall_back, name)
        dispatcher = Dispatcher(name, deployment.schema.fields, options, pool, metrics)
        self._pools[name] = pool
        self._dispatchers[name] = dispatcher
        self.handles[name] = dispatcher

    def _fall_back(self, name: str, reason: BaseException) -> bool:
        """Takes the original where a variant does not load or answers its examples otherwise."""
        resolved = dict(self._resolved.get(name, {}))
        if resolved.pop(PLACE, None) is None:
            return False
        resolved.pop(CALIBRATION, None)  # it may be the variant's own
        found, _ = with_calibrations([self._deployments[name]], {name: resolved})
        self._resolved[name] = found[name]
        note = "the original runs, for its variant failed at start: run salver optimize again"
        used = Used(None, note, last_line(reason))
        self._versions.clear()
        before = self._used[name].described(name)
        self.notes = [*(note for note in self.notes if note != before), used.described(name)]
        self._used[name] = used
        log.warning("%s", used.described(name))
        return True

    async def _measure(self, name: str) -> None:
        """Finds what measures the rows of a deployment."""
        file = self._pools[name].tokenizer_file
        loop = asyncio.get_running_loop()
        self._lengths[name] = await loop.run_in_executor(None, lengths_by, file, name)
        self._dispatchers[name].measure_by(self._lengths[name])

    async def _try(self, name: str) -> None:
        """Tries the first replica of a deployment, and starts the others that are worth having."""
        pool, deployment, ordered = self._pools[name], self._deployments[name], self._ordered[name]
        examples = [example["input"] for example in pool.examples]
        sizes = sizes_to_time(ordered)
        rows = sample_rows(deployment.schema, examples, max(sizes))
        is_own = self._is_own(deployment)

        async def run(batch: Batch) -> Outcomes:
            return await pool.run(batch, ordered.request_timeout_s)

        begun = time.perf_counter()
        trial = await tried(run, rows, sizes, pool.slots[0].worker.pid if is_own else None)
        log.info("%s: tried for %.2f s: %s", name, time.perf_counter() - begun, trial)
        plan = settled(self.plans[name], ordered, trial, self._shared)
        of_jobs = settled(self.plans[name], ordered, trial, self._shared, for_jobs=True)
        self._dispatchers[name].set_max_batch_size(plan.max_batch_size)
        if not trial.is_worth_tokens:
            self._dispatchers[name].measure_by(Characters())
        if rows is not None:
            self._dispatchers[name].learn(rows, trial.seconds)
        self._adopt(name, plan)
        self.job_plans[name] = replace(of_jobs, replicas=plan.replicas)
        pool.grow(plan.replicas)

    def _adopt(self, name: str, plan: Plan) -> DeploymentOptions:
        """Puts the numbers of a plan where everybody reads them."""
        self.plans[name] = self.job_plans[name] = plan
        found = {"num_replicas": plan.replicas, "max_batch_size": plan.max_batch_size}
        return self._fill_in(name, found)

    def _size_composed(self) -> None:
        for deployment in self._deployments.values():
            if deployment.is_composed and deployment.options.max_batch_size is None:
                self._fill_in(deployment.name, {"max_batch_size": common_size(self.plans.values())})

    def _fill_in(self, name: str, found: Mapping[str, Any]) -> DeploymentOptions:
        deployment = self._deployments[name]
        options = deployment.options.replace(found, f"the options of {name}")
        self._deployments[name] = deployment.with_options(options)
        return options

    def _is_open(self, name: str) -> bool:
        return is_open(self._ordered[name], self._is_own(self._deployments[name]))

    def _is_own(self, deployment: Deployment) -> bool:
        """Whether replicas are processes of their own."""
        return (deployment.options.replica or self._usual_kind) == "process"

    @property
    def _usual_kind(self) -> str:
        return "thread" if self.target is None else "process"

    def _kind(self, deployment: Deployment) -> str:
        wanted = deployment.options.replica
        importable = self.target is not None
        if wanted == "process" and not importable:
            raise UnsupportedOption(
                f"{deployment.name} asks for replica='process', but its service is not importable "
                "by module and name. Move it into a module, or use replica='thread'."
            )
        if wanted is None and not importable:
            self.notes.append(
                f"{deployment.name} runs in threads: its service is not importable by module and "
                "name, so no child process can load it"
            )
        return wanted or self._usual_kind

    def _is_ready(self, pool: Pool) -> bool:
        return pool.was_ready and pool.healthy > 0

    def _described(self, name: str) -> dict[str, Any]:
        deployment = self._deployments[name]
        if deployment.is_composed:
            parts = {part.name for part in deployment.parts}
            ready = all(self._is_ready(self._pools[p]) for p in parts if p in self._pools)
            version = self.version(name) if ready else None
            return {"ready": ready, "parts": sorted(parts), "version": version}
        pool = self._pools[name]
        return {
            "ready": self._is_ready(pool),
            "plan": self.plans[name].as_json(),
            "replicas": [slot.described() for slot in pool.slots],
            "queued": self._dispatchers[name].queued,
            "version": self.version(name) if pool.was_ready else None,
            "runs_code": bool(self._code.get(name)),
            "optimized": self._used[name].as_json() if name in self._used else None,
            "checkpoints": [
                {
                    "source": _shown(r.get("source")),
                    "digest": r["digest"],
                    "stale": bool(r.get("stale")),
                }
                for place, r in self._resolved.get(name, {}).items()
                if place not in ATTACHED
            ],
        }


def _shown(source: str | None) -> str:
    """A source as anybody may read it, without the paths of this machine."""
    return source if source and source.startswith(("runs:", "models:")) else "folder"
