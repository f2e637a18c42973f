"""What the embedded engine can honour: refuses the rest by name, before anything is loaded.

It decides on definitions and options alone; it does not know replicas.
"""

from __future__ import annotations

from collections.abc import Sequence

from salver.definition import Deployment
from salver.engine.loading import check_examples
from salver.errors import ConfigError, UnsupportedOption
from salver.options import DEPLOYMENT_OPTIONS, RAY_HINTS, DeploymentOptions
from salver.policies import as_policies

NOT_OF_FUNCTIONS = (
    "policy",
    "details",
    "examples",
)  # refused where a function's definition has them

_DEFAULTS = DeploymentOptions()
# Options that mean nothing to a composed function.
_OF_MODELS = sorted(set(DEPLOYMENT_OPTIONS) - {"request_timeout_s", *NOT_OF_FUNCTIONS})


def refuse_unsupported(deployment: Deployment) -> list[str]:
    """Checks a deployment as it is to run on this machine.

    Returns:
        What will have no effect, for people.

    Raises:
        UnsupportedOption: For an option that changes capacity or answers, and belongs to Ray.
        ConfigError: For a policy or a golden example that cannot be used.
    """
    name, options = deployment.name, deployment.options
    if options.autoscaling_config is not None or options.num_replicas == "auto":
        raise UnsupportedOption(
            f"{name}: autoscaling belongs to Ray; the embedded engine runs a fixed number of "
            "replicas. Give num_replicas a number, or leave it out to have it chosen at start, "
            "and remove autoscaling_config; or run on Ray (--engine ray)."
        )
    if options.ray_actor_options:
        foreign = ", ".join(sorted(options.ray_actor_options))
        raise UnsupportedOption(
            f"{name}: ray_actor_options {foreign} belong to Ray; the embedded engine knows num_cpus "
            "and num_gpus only. Remove them, or run on Ray (--engine ray)."
        )
    check_rules(deployment)
    if deployment.is_composed:
        idle = _changed(options, _OF_MODELS)
        return [no_effect(name, idle)] if idle else []
    hints = _changed(options, RAY_HINTS)
    return [f"{name}: {', '.join(hints)} belong to Ray and have no effect here"] if hints else []


def check_rules(deployment: Deployment) -> None:
    """Checks policy and golden examples before anything is loaded, on any engine.

    Raises:
        UnsupportedOption: If a composed function has them.
        ConfigError: If they cannot be used.
    """
    name, options = deployment.name, deployment.options
    if deployment.is_composed:
        if options.policy is not None or options.examples or options.details:
            raise UnsupportedOption(
                f"{name} is a composed function: write its rule in the function; policy, details "
                "and examples are for models."
            )
        return
    try:  # here, and not in the child, where the answer would be a traceback
        as_policies(options.policy)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}") from None
    check_examples(deployment)


def no_effect(name: str, options: Sequence[str]) -> str:
    """Says that options mean nothing to a composed function."""
    return f"{name} is a composed function, on which {', '.join(options)} has no effect"


def _changed(options: DeploymentOptions, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(options, name) != getattr(_DEFAULTS, name)]
