"""Policies as options hold them: objects, lists of them, or their names in YAML.

It knows names and arguments, not what a policy does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salver.errors import ConfigError, UnknownOption
from salver.policies.promises import ConformalSet, Coverage, Novelty, Precision
from salver.policies.scored import Policy
from salver.policies.threshold import Threshold

POLICIES: dict[str, Any] = {
    kind.__name__: kind for kind in (Threshold, Precision, Coverage, ConformalSet, Novelty)
}


def as_policies(given: Any) -> tuple[Policy, ...]:
    """The policies of an option: null, a policy, a list of them, or their form in YAML.

    In YAML a policy is a mapping of its name to its arguments, for example
    `policy: {Threshold: {p: 0.9, otherwise: other}}`.

    Raises:
        ConfigError: For anything else, and for a name or an argument that does not exist.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(_from_mapping(name, arguments) for name, arguments in given.items())
    if isinstance(given, list | tuple):
        return tuple(policy for one in given for policy in as_policies(one))
    if isinstance(given, Policy) and not isinstance(given, type):
        return (given,)
    raise ConfigError(
        f"policy= was given {given!r}; it takes a policy such as Threshold(0.9, otherwise='other'), "
        "a list of them, or null. A policy of your own is a callable object with the attribute "
        "needs_probabilities (true or false) that maps a Scored to a Scored."
    )


def _from_mapping(name: str, arguments: Any) -> Policy:
    if name not in POLICIES:
        raise UnknownOption(str(name), arguments, POLICIES, "policy")
    try:
        policy: Policy = POLICIES[name](**arguments)
    except TypeError as error:
        raise ConfigError(f"Policy {name} was given {arguments!r}: {error}.") from None
    return policy
