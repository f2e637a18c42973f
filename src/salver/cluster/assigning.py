"""What processes of a cluster are told before they start: checkpoints, options, variants.

It knows whether a cluster is on this machine. It does not know Ray.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from salver.cluster.connection import Cluster
from salver.cluster.replica import Assignment
from salver.engine.calibrations import with_calibrations
from salver.engine.resolution import resolve_all
from salver.engine.variants import with_variants
from salver.service import Service
from salver.settings import Overrides


def assignment_of(
    service: Service, target: str, overrides: Overrides, cluster: Cluster
) -> Assignment:
    """What processes of a cluster need to know; asks the registry for checkpoints.

    Raises:
        TrackingError: If one cannot be found.
    """
    resolved = asyncio.run(resolve_all(service.deployments.values()))
    if not cluster.is_ours:  # another machine has other folders
        return Assignment(target, overrides.deployments, resolved, overrides.server)
    file, colon, attribute = target.rpartition(":")
    where = f"{Path(file).resolve()}{colon}{attribute}" if file.endswith(".py") else target
    path = tuple(sys.path)
    server = dict(overrides.server)
    if server.get("record"):  # processes of Ray work in folders of their own
        server["record"] = str(Path(server["record"]).resolve())
    assignment = Assignment(where, overrides.deployments, resolved, server, path)
    in_force = [
        one.with_options(assignment.options_of(one)) for one in service.deployments.values()
    ]
    # Variants and calibrations are files of this machine, so they are for a cluster on it.
    found, used = with_variants(in_force, resolved)
    found, notes = with_calibrations(in_force, found)
    optimized = {name: asdict(one) for name, one in used.items()}
    return replace(assignment, resolved=found, optimized=optimized, notes=tuple(notes))


def announced(
    service: Service,
    target: str,
    overrides: Overrides,
    cluster: Cluster,
    say: Callable[[str], None],
) -> Assignment:
    """The same, for a start that tells which variants answer.

    Raises:
        TrackingError: If a checkpoint cannot be found.
    """
    assignment = assignment_of(service, target, overrides, cluster)
    for name, used in assignment.used.items():
        say(used.described(name))
    for note in assignment.notes:
        say(note)
    return assignment
