"""The one model that a verb is about: its options in force, and its checkpoints.

It does not know what is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from salver.definition import Deployment
from salver.engine.loading import Resolved
from salver.engine.resolution import resolve_all
from salver.engine.targets import pinned_service
from salver.errors import ConfigError
from salver.session import Configuration


def subject(
    target: str, name: str | None, configuration: Configuration
) -> tuple[str, Deployment, Mapping[str, Any]]:
    """The target as pinned, its deployment with the options in force, and those given outside.

    Args:
        target: Service or model.
        name: Deployment; may be null when the service exposes one.
        configuration: Options given outside the code.

    Raises:
        ConfigError: If the deployment is a composed function.
        SalverError: If there is no such service or deployment.
    """
    target, service = pinned_service(target)
    chosen = service.chosen(name)
    if chosen.is_composed:
        parts = ", ".join(part.name for part in chosen.parts)
        raise ConfigError(
            f"{chosen.name} is a function of {parts}; this is for one of them: --deployment NAME."
        )
    given = configuration.overrides(service).deployments.get(chosen.name, {})
    return target, chosen.with_options(chosen.options.replace(given, "the options")), given


def checkpoints_of(deployment: Deployment) -> dict[str, Resolved]:
    """Its checkpoints by place, below its name.

    Raises:
        ConfigError: If it has none, for what is made of a model is kept beside its weights.
        TrackingError: If one cannot be found.
    """
    found = asyncio.run(resolve_all([deployment]))
    if not found.get(deployment.name):
        raise ConfigError(
            f"{deployment.name} is bound to no checkpoint, so nothing says which weights the result "
            "would be of. Bind it to checkpoint(...) or best_checkpoint(...)."
        )
    return dict(found)
