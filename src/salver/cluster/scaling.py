"""Ray Serve's own autoscaling policy, outside a cluster.

The controller of Ray calls its policy and applies factors, delays and bounds to what it says; so
does this, with the very functions of Ray. It does not know what happens on the replicas.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from salver.errors import ConfigError


class RayPolicy:
    """Decides the number of replicas as Ray's controller would.

    Args:
        config: `autoscaling_config` of a deployment.

    Raises:
        ConfigError: For values that Ray does not take.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            self.config = AutoscalingConfig(**config)
        except ValueError as error:
            raise ConfigError(
                f"autoscaling_config {dict(config)!r} is not valid: {error}"
            ) from None
        self._now = 0.0
        self._state: dict[str, Any] = {}
        # Ray's delays read the clock of their module: this one is given the time of the simulation.
        clock = types.SimpleNamespace(time=lambda: self._now)
        policy = self.config.policy.get_policy()
        self._policy = _on_clock(autoscaling_policy._apply_autoscaling_config(policy), clock)

    @property
    def initial(self) -> int:
        """Replicas at the start."""
        initial = self.config.initial_replicas
        return int(self.config.min_replicas if initial is None else initial)

    def __call__(self, now: float, under_way: float, replicas: int) -> int:
        """How many replicas there are to be.

        Args:
            now: Seconds of the simulation.
            under_way: Requests that wait or are answered, averaged over `look_back_period_s`.
            replicas: How many are wanted so far.
        """
        self._now = now
        identity = DeploymentID(name="simulated", app_name="simulated")
        wanted, self._state = self._policy(
            AutoscalingContext(
                deployment_id=identity,
                deployment_name=identity.name,
                app_name=identity.app_name,
                current_num_replicas=replicas,
                target_num_replicas=replicas,
                running_replicas=[],
                total_num_requests=under_way,
                total_queued_requests=0,
                aggregated_metrics={},
                raw_metrics={},
                capacity_adjusted_min_replicas=self.config.min_replicas,
                capacity_adjusted_max_replicas=self.config.max_replicas,
                policy_state=self._state,
                last_scale_up_time=None,
                last_scale_down_time=None,
                current_time=now,
                config=self.config,
            )
        )
        return max(int(self.config.min_replicas), min(int(self.config.max_replicas), int(wanted)))


def _on_clock(policy: Any, clock: Any) -> Any:
    @functools.wraps(policy)
    def called(context: Any) -> Any:
        before, autoscaling_policy.time = autoscaling_policy.time, clock
        try:
            return policy(context)
        finally:
            autoscaling_policy.time = before

    return called
