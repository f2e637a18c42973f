"""The user's class under plain Ray, without anything of Salver: the way out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray import serve

from on_ray import served as services
from salver.cluster.connection import Cluster, connected


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connected(Cluster()):
        yield
        serve.shutdown()


def test_the_class_runs_under_map_batches(cluster):
    """As Ray's own documentation has it, on pandas batches."""
    dataset = ray.data.from_items([{"text": f"row {i}", "priority": 1} for i in range(500)])
    answered = dataset.map_batches(
        services.Urgency,
        fn_constructor_kwargs={"limit": 5},
        batch_size=128,
        batch_format="pandas",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=2),
        num_cpus=0.2,
    )
    assert 500 == answered.count()
    assert {"prediction": False} == answered.take(1)[0]


def test_the_class_runs_in_a_handwritten_deployment(cluster):
    """As a member of the user's own class."""

    @serve.deployment(ray_actor_options={"num_cpus": 0.2})
    class Handwritten:
        def __init__(self) -> None:
            self.model = services.Tagger()

        def __call__(self, texts: list[str]) -> list[list[float]]:
            import numpy as np

            batch = {"text": np.array(texts, dtype=object), "priority": np.zeros(len(texts), int)}
            return self.model(batch)["probabilities"].tolist()

    handle = serve.run(Handwritten.bind(), name="handwritten", route_prefix=None)
    assert 2 == len(handle.remote(["aeiou", "xyz"]).result())
