"""One process of a cluster, with real models in threads and processes; no Ray is needed."""

from __future__ import annotations

import asyncio

import pytest

from salver.cluster.replica import Assignment, ClusterReplica, Refusal
from salver.errors import (
    ConfigError,
    DeadlineExceeded,
    NotReady,
    QueueFull,
    ReplicaError,
    SalverError,
    TooManyRows,
)

SERVICE = """
import os
import signal

import numpy as np
from pydantic import BaseModel

from salver import Service, deployment


class Row(BaseModel):
    text: str


@deployment(input=Row, examples=[{"text": "golden"}], num_replicas=3, num_cpus=1)
class Tagger:
    def __init__(self, classes=("no", "yes")):
        self.classes_ = list(classes)
        self.bias = 0.0
        self.broken = False

    def reconfigure(self, config):
        self.bias = config["bias"]

    def __call__(self, batch):
        if self.broken:
            raise RuntimeError("broken")
        texts = list(batch["text"])
        if "die" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "break" in texts:
            self.broken = True
        if "raise" in texts:
            raise ValueError("no such text")
        yes = np.array([min(1.0, len(t) / 10 + self.bias) for t in texts])
        return {"probabilities": np.stack([1 - yes, yes], axis=1)}


@deployment
async def twice(rows: list[Row], tagger):
    first, second = await tagger(rows), await tagger(rows)
    return [{"same": a["prediction"] == b["prediction"]} for a, b in zip(first, second)]


tagger = Tagger.bind()
service = Service(tagger, twice.bind(tagger))
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("cluster") / "served.py"
    path.write_text(SERVICE, encoding="utf-8")
    return f"{path}:service"


def with_replica(target, scenario, name="Tagger", **options):
    async def main():
        replica = ClusterReplica(Assignment(target, {"Tagger": options}), name)
        await replica.start()
        try:
            return await scenario(replica)
        finally:
            await replica.stop()

    return asyncio.run(main())


def rows(*texts):
    return [(text,) for text in texts]


def test_it_answers_as_the_embedded_engine_and_is_one_replica(target):
    """Whatever number of replicas the cluster is to run."""

    async def scenario(replica):
        outcomes = await replica.ask(rows("a", "long enough"), 10)
        return [o["prediction"] for o in outcomes], replica.describe()

    predictions, said = with_replica(target, scenario)
    assert ["no", "yes"] == predictions
    assert said["ready"]
    assert 1 == said["plan"]["num_replicas"]
    assert 1 == len(said["replicas"])
    assert [{"text": "golden"}] == [example["input"] for example in said["examples"]]


def test_a_bad_row_stays_alone(target):
    """Its neighbours are answered, whether it raises or ends the model's process."""

    async def scenario(replica):
        return [
            [o.failure.code if o.failure else o["prediction"] for o in await replica.ask(given, 30)]
            for given in (rows("a", "raise", "b"), rows("a", "die", "b"))
        ]

    assert [["no", "model_error", "no"], ["no", "replica_crashed", "no"]] == with_replica(
        target, scenario
    )


def test_a_function_brings_the_models_that_it_asks(target):
    """As an actor of an offline job needs them."""

    async def scenario(replica):
        return [o.value for o in await replica.ask(rows("a", "b"), 10)]

    assert [{"same": True}] * 2 == with_replica(target, scenario, name="twice")


def test_the_configuration_of_the_user_is_taken(target):
    """By the model, before its golden examples."""

    async def scenario(replica):
        (outcome,) = await replica.ask(rows("a"), 10)
        return outcome["prediction"]

    assert "no" == with_replica(target, scenario)
    assert "yes" == with_replica(target, scenario, user_config={"bias": 0.8})


def test_options_of_ray_are_left_to_ray(target):
    """They neither end nor change what goes on in one process."""

    async def scenario(replica):
        return len(await replica.ask(rows("a"), 10))

    ray = {
        "num_replicas": "auto",
        "autoscaling_config": {"max_replicas": 3},
        "ray_actor_options": {"resources": {"fast": 1}},
        "num_gpus": 1,
        "max_ongoing_requests": 4,
    }
    assert 1 == with_replica(target, scenario, **ray)


def test_a_healthy_model_passes_and_a_broken_one_does_not(target):
    """The golden example is asked unless real answers have shown that the model works."""

    async def scenario(replica):
        await replica.check_health()
        await replica.ask(rows("break"), 10)
        await replica.check_health()  # that was an answer
        with pytest.raises(ReplicaError, match="golden example"):
            await replica.check_health()

    with_replica(target, scenario)


def test_failures_do_not_pass_for_answers(target):
    """A model that fails every row under traffic is found all the same."""

    async def scenario(replica):
        await replica.ask(rows("break"), 10)
        await replica.check_health()
        await replica.ask(rows("fails"), 10)
        with pytest.raises(ReplicaError, match="golden example"):
            await replica.check_health()

    with_replica(target, scenario)


def test_before_it_has_started_it_is_not_ready(target):
    """Neither asked nor healthy, and nothing hangs."""

    async def scenario():
        replica = ClusterReplica(Assignment(target), "Tagger")
        refused = await replica.ask(rows("a"), 1)
        assert isinstance(refused.error(), NotReady)
        with pytest.raises(NotReady):
            await replica.check_health()
        await replica.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        NotReady("wait", 3),
        QueueFull("full", 7),
        DeadlineExceeded("late"),
        TooManyRows("many"),
        ConfigError("wrong"),
        SalverError("other"),
    ],
)
def test_an_error_arrives_as_it_left(error):
    """With its class, message and time to wait, though only plain values travel."""
    arrived = Refusal.of(error).error()
    assert (type(error), error.message) == (type(arrived), arrived.message)
    assert getattr(error, "retry_after_s", None) == getattr(arrived, "retry_after_s", None)


def test_an_assignment_survives_json():
    """As the arguments of a Serve config do."""
    given = Assignment("a:b", {"A": {"num_replicas": 2}}, {}, {"port": 1}, ("/x", "/y"))
    assert given == Assignment.from_json(given.as_json())
