"""The options of Ray Serve that a definition becomes."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from ray import serve

from salver import deployment
from salver.cluster.serve import (
    ModelReplica,
    application_cpus,
    http_options,
    ingress_options,
    serve_options,
)
from salver.errors import ConfigError, UnknownOption
from salver.options import ServerSettings


class Row(BaseModel):
    text: str


@deployment(input=Row)
class Model:
    def __call__(self, batch):
        return {"prediction": batch["text"]}


def options(**given):
    return serve_options(Model.options(**given).bind())


def test_defaults_are_bounded_and_leave_no_gap():
    """Batches can fill, queues end, and an update starts the new before it stops the old."""
    assert {
        "name": "Model",
        "num_replicas": 1,
        "max_ongoing_requests": 128,
        "max_queued_requests": 1024,
        "max_surge_percent": 100,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
        "ray_actor_options": {"num_cpus": 1.0, "num_gpus": 0},
    } == options()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ({"num_replicas": 3}, {"num_replicas": 3}),
        ({"max_batch_size": 200}, {"max_ongoing_requests": 400}),
        ({"max_ongoing_requests": 7}, {"max_ongoing_requests": 7}),
        ({"max_queued_requests": 5}, {"max_queued_requests": 5}),
        ({"max_surge_percent": 0}, {"max_surge_percent": 0}),
        ({"max_replicas_per_node": 2}, {"max_replicas_per_node": 2}),
        ({"graceful_shutdown_timeout_s": 1}, {"graceful_shutdown_timeout_s": 1}),
        ({"graceful_shutdown_wait_loop_s": 0.5}, {"graceful_shutdown_wait_loop_s": 0.5}),
        ({"health_check_period_s": 3}, {"health_check_period_s": 3}),
        ({"health_check_timeout_s": 4}, {"health_check_timeout_s": 4}),
        ({"user_config": {"a": 1}}, {"user_config": {"a": 1}}),
        (
            {"num_gpus": 0.25, "ray_actor_options": {"resources": {"fast": 1}, "num_cpus": 2}},
            {"ray_actor_options": {"resources": {"fast": 1}, "num_cpus": 2, "num_gpus": 0.25}},
        ),
    ],
)
def test_options_go_through_by_name(given, passed):
    """And Ray takes them as they are."""
    found = options(**given)
    assert passed.items() <= found.items()
    serve.deployment(ModelReplica, **found)


def test_autoscaling_takes_every_field_that_ray_knows():
    """With a target that lets batches fill, where none is given."""
    found = options(autoscaling_config={"max_replicas": 4, "upscale_delay_s": 1})
    assert {
        "target_ongoing_requests": 8,
        "max_replicas": 4,
        "upscale_delay_s": 1,
    } == found["autoscaling_config"]
    assert "num_replicas" not in found
    serve.deployment(ModelReplica, **found)
    own = options(max_batch_size=32, autoscaling_config={"target_ongoing_requests": 3})
    assert {"target_ongoing_requests": 3} == own["autoscaling_config"]
    assert (
        32
        == options(max_batch_size=32, num_replicas="auto")["autoscaling_config"][
            "target_ongoing_requests"
        ]
    )


def test_auto_is_passed_on():
    """Ray gives it its own bounds."""
    found = options(num_replicas="auto")
    assert "auto" == found["num_replicas"]
    serve.deployment(ModelReplica, **found)


def test_a_number_and_autoscaling_contradict_each_other():
    """Which of the two is meant is for the user to say."""
    with pytest.raises(ConfigError, match="num_replicas=2"):
        options(num_replicas=2, autoscaling_config={"max_replicas": 4})


def test_a_misspelt_field_of_autoscaling_names_its_neighbour():
    """Ray would take it and do nothing."""
    with pytest.raises(UnknownOption, match="max_replicas"):
        options(autoscaling_config={"max_replica": 4})


def test_the_face_has_two_replicas_and_takes_no_core():
    """One may end without ending the service."""
    found = ingress_options()
    assert 2 == found["num_replicas"]
    assert 100 == found["max_surge_percent"]
    assert {"num_cpus": 0} == found["ray_actor_options"]


def test_the_cores_of_all_models_are_counted():
    """What the fewest replicas ask for; one that sleeps needs room to wake."""
    scaled = {"autoscaling_config": {"min_replicas": 0, "max_replicas": 4}, "num_cpus": 0.5}
    models = [
        Model.options(num_replicas=3).bind(),
        Model.options(**scaled).bind(),
        Model.options(num_replicas="auto").bind(),
    ]
    assert 3 + 0.5 + 1 == application_cpus(models)


def test_rays_proxy_waits_longer_than_the_face():
    """So that a deadline is answered in Salver's words."""
    slow = Model.options(name="Slow", request_timeout_s=60).bind()
    found = http_options(ServerSettings(port=9), [slow, Model.bind()])
    assert {"host": "127.0.0.1", "port": 9, "request_timeout_s": 65.0} == found
