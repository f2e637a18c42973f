"""Salver serves trained models: one plain class predicts offline over files and online over HTTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salver.definition import Deployment, deployment
    from salver.errors import SalverError
    from salver.models.checkpoint import Checkpoint
    from salver.models.reference import best_checkpoint, checkpoint
    from salver.models.served import model
    from salver.policies import (
        ConformalSet,
        Coverage,
        Novelty,
        Policy,
        Precision,
        Scored,
        Threshold,
    )
    from salver.service import Service
    from salver.types import Failure, Outcome

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "ConformalSet",
    "Coverage",
    "Deployment",
    "Failure",
    "Novelty",
    "Outcome",
    "Policy",
    "Precision",
    "SalverError",
    "Scored",
    "Service",
    "Threshold",
    "best_checkpoint",
    "checkpoint",
    "deployment",
    "model",
]

# Names are loaded when first used, so that `import salver` and `salver --help` stay instant. No
# module of the package may bear one of these names: importing it would hide the name.
_HOMES = {
    "Checkpoint": "salver.models.checkpoint",
    "ConformalSet": "salver.policies",
    "Coverage": "salver.policies",
    "Deployment": "salver.definition",
    "Failure": "salver.types",
    "Novelty": "salver.policies",
    "Outcome": "salver.types",
    "Policy": "salver.policies",
    "Precision": "salver.policies",
    "SalverError": "salver.errors",
    "Scored": "salver.policies",
    "Service": "salver.service",
    "Threshold": "salver.policies",
    "best_checkpoint": "salver.models.reference",
    "checkpoint": "salver.models.reference",
    "deployment": "salver.definition",
    "model": "salver.models.served",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'salver' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
