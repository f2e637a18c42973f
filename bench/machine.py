"""The machine of a run, and the versions and settings that belong to its numbers.

It names no host, user or path: the description is published.
"""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.environments import version_of
from bench.plan import Plan
from bench.systems import System


def now() -> str:
    """The time of the run, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def cores() -> int:
    """The cores that this process may use."""
    return len(psutil.Process().cpu_affinity())


def description() -> dict[str, str]:
    """What decides how fast anything is here."""
    return {
        "cpu": _cpu(),
        "cores": str(cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load generator": _wrk(),
    }


def versions(systems: tuple[System, ...], pythons: Mapping[str, Path]) -> dict[str, str]:
    """The version of each system that is installed."""
    return {
        system.name: version_of(pythons[system.name], system.distribution)
        for system in systems
        if system.name in pythons
    }


def settings(plan: Plan) -> dict[str, object]:
    """What the run was asked to do, and how each system was set up for it."""
    return {
        "rounds": plan.rounds,
        "seconds": {model: dict(one.seconds) for model, one in plan.models.items()},
        "systems": {
            system.name: {
                "title": system.title,
                "requirements": list(system.requirements),
                "workers x threads": {
                    model: " x ".join(map(str, system.shape(model, cores())))
                    for model in plan.models
                    if plan.measures(system, model, 1)
                },
                "note": system.note,
            }
            for system in plan.systems
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _wrk() -> str:
    if not (wrk := shutil.which("wrk")):
        return "none"
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)
    return " ".join((said.stdout or said.stderr).splitlines()[0].split()[:2])
