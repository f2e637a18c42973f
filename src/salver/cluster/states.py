"""The state of a service on Ray, in the shape that the embedded engine gives it.

Pure: it reads what Ray said. It does not know how to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salver.service import Service

# Ray's states of a replica, in Salver's words.
STATES = {
    "STARTING": "starting",
    "UPDATING": "starting",
    "RECOVERING": "starting",
    "RUNNING": "ready",
    "STOPPING": "stopping",
    "PENDING_MIGRATION": "stopping",
}
_OF_A_REPLICA = ("pid", "examples", "queued", "ready", "replicas")  # not true of the others


def described(
    service: Service, deployments: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Whether every model can answer, and what Ray says of each.

    Args:
        service: What is served.
        deployments: Ray's state of each deployment by name.
        said: What a replica of each model said of itself.
    """
    states: dict[str, Any] = {}
    for name, one in service.deployments.items():
        if one.is_composed:
            parts = [part.name for part in one.parts]
            ready = all(states[part]["ready"] for part in parts)
            states[name] = {"ready": ready, "parts": sorted(parts)}
        else:
            states[name] = _model(deployments.get(name), said.get(name, {}))
    return {"ready": all(s["ready"] for s in states.values()), "deployments": states}


def _model(deployment: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    counts = {} if deployment is None else dict(deployment.replica_states)
    replicas = [{"state": STATES.get(s, s.lower())} for s, n in counts.items() for _ in range(n)]
    # Scaled to zero it is healthy, and wakes when it is asked.
    asleep = deployment is not None and not replicas and deployment.status == "HEALTHY"
    ready = counts.get("RUNNING", 0) > 0 or asleep
    own = {key: value for key, value in said.items() if key not in _OF_A_REPLICA}
    return {
        "ready": ready,
        "replicas": replicas,
        **own,
    }
