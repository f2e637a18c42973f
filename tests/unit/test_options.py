from __future__ import annotations

import pytest

from salver import options
from salver.errors import ConfigError, InvalidOption, UnknownOption
from salver.options import (
    DEPLOYMENT_OPTIONS,
    SERVER_OPTIONS,
    DeploymentOptions,
    ServerSettings,
)

REFUSED = [
    ("num_replicas", 0),
    ("num_replicas", True),
    ("num_replicas", 1.5),
    ("num_replicas", "2"),
    ("num_replicas", "two"),
    ("max_batch_size", 0),
    ("max_batch_size", "auto"),
    ("optimize_for", "speed"),
    ("optimize_for", None),
    ("batch_wait_timeout_s", -1),
    ("batch_wait_timeout_s", float("nan")),
    ("batch_wait_timeout_s", float("inf")),
    ("max_queued_requests", 0),
    ("request_timeout_s", 0),
    ("request_timeout_s", "30"),
    ("request_timeout_s", True),
    ("batch_format", "arrow"),
    ("batch_format", ["numpy"]),
    ("replica", "fork"),
    ("num_cpus", 0),
    ("num_gpus", -1),
    ("ray_actor_options", None),
    ("ray_actor_options", []),
    ("ray_actor_options", {"num_cpus": "many"}),
    ("ray_actor_options", {"num_gpus": -1}),
    ("autoscaling_config", 3),
    ("startup_timeout_s", 0),
    ("examples", "row"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_value_out_of_bounds_is_refused(name, value):
    """The error names the option, the value and what it takes."""
    with pytest.raises(InvalidOption, match="it takes") as caught:
        DeploymentOptions().replace({name: value}, "here")
    wrong = next(iter(value.values())) if isinstance(value, dict) else value
    assert repr(wrong) in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_replicas", "auto"),
        ("num_replicas", 3),
        ("num_replicas", None),
        ("max_batch_size", None),
        ("optimize_for", "latency"),
        ("max_queued_requests", None),
        ("request_timeout_s", 1),
        ("request_timeout_s", 10**400),
        ("num_cpus", 0.5),
        ("replica", None),
        ("autoscaling_config", {"min_replicas": 1}),
    ],
    ids=range(11),
)
def test_a_value_within_bounds_is_kept(name, value):
    """Values that an option can take are taken as they are."""
    assert getattr(DeploymentOptions().replace({name: value}, "here"), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("port", "80"),
        ("host", 1),
        ("insecure", "yes"),
        ("api_key", 5),
        ("api_key", ""),
        ("allowed_hosts", "example.org"),
        ("allowed_hosts", [1]),
        ("max_body_bytes", 0),
        ("max_rows", 0),
        ("drain_timeout_s", -1),
    ],
)
def test_the_server_has_bounds_too(name, value):
    """Neither a port beyond 65535 nor an empty API key is taken."""
    with pytest.raises(InvalidOption, match=name):
        ServerSettings().replace({name: value}, "here")


def test_every_option_has_a_bound():
    """No option is taken unchecked, and no bound is left of an option that is gone."""
    assert set(options._BOUNDS) == {*DEPLOYMENT_OPTIONS, *SERVER_OPTIONS}
    assert not set(DEPLOYMENT_OPTIONS) & set(SERVER_OPTIONS)
    for kind in (DeploymentOptions, ServerSettings):
        documented = kind.__doc__ or ""
        assert [n for n in kind.__dataclass_fields__ if f"\n        {n}: " not in documented] == []


@pytest.mark.parametrize("name", [*DEPLOYMENT_OPTIONS, *SERVER_OPTIONS])
def test_a_misspelt_option_names_its_neighbour(name):
    """Dropping the last letter of any option is answered with the option itself."""
    target = DeploymentOptions() if name in DEPLOYMENT_OPTIONS else ServerSettings()
    with pytest.raises(UnknownOption, match=repr(name)):
        target.replace({name[:-1]: 1}, "here")


def test_replacing_leaves_the_original():
    """Options are immutable; a replacement is a copy."""
    before = DeploymentOptions()
    assert before.replace({"max_batch_size": 2, "examples": [{"a": 1}]}, "x").examples == (
        {"a": 1},
    )
    assert before == DeploymentOptions()


def test_resources_may_stand_among_rays_options():
    """num_cpus and num_gpus move out of ray_actor_options; what remains there is Ray's."""
    given = DeploymentOptions(ray_actor_options={"num_cpus": 2, "num_gpus": 1, "memory": 5})
    assert (given.num_cpus, given.num_gpus) == (2, 1)
    assert given.ray_actor_options == {"memory": 5}
    with pytest.raises(ConfigError, match="Give it once"):
        DeploymentOptions(num_cpus=1, ray_actor_options={"num_cpus": 2})


@pytest.mark.parametrize("first", [{"num_cpus": 2}, {"ray_actor_options": {"num_cpus": 2}}])
@pytest.mark.parametrize("second", [{"num_cpus": 4}, {"ray_actor_options": {"num_cpus": 4}}])
def test_resources_can_be_overridden_however_they_were_given(first, second):
    """A later layer wins over code, whichever of the two spellings either of them used."""
    given = DeploymentOptions().replace(first, "code").replace(second, "--set")
    assert given.num_cpus == 4


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.0.1", False),
        ("127.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback_is_an_address_of_this_machine(host, loopback):
    """A name that only begins like a loopback address is not one."""
    assert ServerSettings(host=host).is_loopback is loopback


def test_a_key_is_not_shown():
    """The settings can be printed without their API key."""
    assert "secret" not in repr(ServerSettings(api_key="secret"))
    assert "api_key='***'" in repr(ServerSettings(api_key="secret"))
    assert "api_key=None" in repr(ServerSettings())
