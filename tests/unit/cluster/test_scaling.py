"""Ray's policy outside a cluster: the delays and bounds of its controller."""

from __future__ import annotations

import pytest

from salver.cluster.scaling import RayPolicy
from salver.errors import ConfigError

CONFIG = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 1,
    "downscale_delay_s": 3,
}


def decided(policy, load):
    """Replicas over time, ten decisions a second."""
    replicas, course = policy.initial, []
    for tick, under_way in enumerate(load):
        replicas = policy(tick / 10, under_way, replicas)
        course.append(replicas)
    return course


def test_load_scales_up_after_the_delay_and_down_after_the_other():
    """Twelve requests want six replicas and get three; an end of load gives them back."""
    course = decided(RayPolicy(CONFIG), [12.0] * 60 + [0.0] * 60)
    assert [1] * 10 == course[:10]
    assert [3] * 40 == course[11:51]
    assert 3 == course[60 + 28]
    assert 1 == course[60 + 31]


def test_two_policies_do_not_share_a_clock():
    """One that is asked late does not age the other."""
    early, late = RayPolicy(CONFIG), RayPolicy(CONFIG)
    assert 1 == early(0.0, 12.0, 1)
    assert 1 == late(100.0, 12.0, 1)
    assert 1 == early(0.5, 12.0, 1)
    assert 3 == early(1.0, 12.0, 1)


def test_it_may_start_with_more_than_the_least():
    """initial_replicas, or else min_replicas."""
    assert 1 == RayPolicy(CONFIG).initial
    assert 2 == RayPolicy({**CONFIG, "initial_replicas": 2}).initial


def test_what_ray_would_refuse_is_refused():
    """A minimum above the maximum is a clear error."""
    with pytest.raises(ConfigError, match="autoscaling_config"):
        RayPolicy({"min_replicas": 5, "max_replicas": 2})
