"""What Ray says of deployments, in the shape of /-/readyz."""

from __future__ import annotations

from types import SimpleNamespace

from pydantic import BaseModel

from salver import Service, deployment
from salver.cluster.states import described


class Row(BaseModel):
    text: str


@deployment(input=Row)
class Model:
    def __call__(self, batch):
        return {"prediction": batch["text"]}


@deployment
async def both(rows: list[Row], first, second):
    return await first(rows)


FIRST = Model.options(name="First").bind()
SECOND = Model.options(name="Second").bind()
SERVICE = Service(both.bind(FIRST, SECOND))


def state(status="HEALTHY", message="", **counts):
    return SimpleNamespace(status=status, message=message, replica_states=counts)


def test_a_service_is_ready_when_every_model_has_a_running_replica():
    """A function is ready with its parts."""
    ready = described(SERVICE, {"First": state(RUNNING=1), "Second": state(RUNNING=2)}, {})
    assert ready["ready"]
    assert {"ready": True, "parts": ["First", "Second"]} == ready["deployments"]["both"]
    assert [{"state": "ready"}] * 2 == ready["deployments"]["Second"]["replicas"]


def test_one_model_that_starts_keeps_the_service_unready():
    """Why is for operators (`salver status`): it may hold a traceback, and this is open to all."""
    found = described(
        SERVICE,
        {"First": state(RUNNING=1), "Second": state("UPDATING", "placing", STARTING=1)},
        {},
    )
    assert not found["ready"]
    assert not found["deployments"]["both"]["ready"]
    assert {"ready": False, "replicas": [{"state": "starting"}]} == found["deployments"]["Second"]


def test_a_model_that_ray_does_not_know_is_not_ready():
    """As while an application is being deployed."""
    assert not described(SERVICE, {"First": state(RUNNING=1)}, {})["ready"]


def test_a_model_scaled_to_zero_is_ready():
    """It wakes when it is asked."""
    asleep = {"First": state(RUNNING=1), "Second": state()}
    assert described(SERVICE, asleep, {})["ready"]
    assert not described(SERVICE, {**asleep, "Second": state("UNHEALTHY")}, {})["ready"]


def test_what_is_true_of_one_replica_only_is_not_told_of_all():
    """Version and plan are, a process and its queue are not."""
    said = {
        "First": {"version": "abc", "plan": {"threads": 1}, "pid": 7, "queued": 3, "ready": True}
    }
    found = described(SERVICE, {"First": state(RUNNING=1), "Second": state(RUNNING=1)}, said)
    first = found["deployments"]["First"]
    assert {"ready", "replicas", "version", "plan"} == set(first)
