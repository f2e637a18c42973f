"""A cluster of several nodes, on this machine: what goes on when one of them ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from on_ray.ray_service import HERE, RayService, environment, salver
from on_ray.test_recovery import Load

# Only workers have what models ask for; the ingress, which asks for nothing, is there before them.
PORT = 29_999  # none that Ray gives workers, or a system outgoing connections
PLACED = "ray_actor_options={resources: {model: 1}}"


@pytest.fixture
def cluster() -> Iterator[Any]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes
    nodes.shutdown()


def start_serve(address: str, port: int) -> None:
    """As an operator does who wants HTTP at the head alone; here all nodes share one address."""
    code = (
        "import ray, sys; from ray import serve; ray.init(address=sys.argv[1]);"
        "serve.start(proxy_location='HeadOnly', http_options={'port': int(sys.argv[2])})"
    )
    subprocess.run(
        [sys.executable, "-c", code, address, str(port)],
        check=True, timeout=120, env=environment(), capture_output=True,
    )  # fmt: skip


def wait_for_ingress(address: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = json.loads(salver("status", "--json", "--address", address).stdout)
        ingress = state["deployments"].get("salver-ingress") if state else None
        if ingress and ingress["replica_states"] == {"RUNNING": 2}:
            return
    raise AssertionError(state)


@pytest.mark.cluster
def test_a_node_that_ends_fails_no_request(cluster):
    """Its replicas are started on another one, and what they held is asked again."""
    start_serve(cluster.address, PORT)
    command = [sys.executable, "-m", "salver.cli", "serve", "served:slow", "--engine", "ray"]
    deploying = subprocess.Popen(
        [*command, "--address", cluster.address, "--working-dir", str(HERE), "--set", PLACED],
        stderr=subprocess.PIPE, text=True, env=environment(), cwd=HERE,
    )  # fmt: skip
    wait_for_ingress(cluster.address)  # at the head: there is no other node yet
    workers = [cluster.add_node(num_cpus=1, resources={"model": 1}) for _ in range(3)]
    _, said = deploying.communicate(timeout=120)
    assert 0 == deploying.returncode, said

    with Load(RayService(deploying, PORT)) as load:
        time.sleep(3)
        for worker in workers[:2]:  # at least one of the two holds a replica
            cluster.remove_node(worker, allow_graceful=False)
            cluster.add_node(num_cpus=1, resources={"model": 1})
        time.sleep(15)
    assert {200} == set(load.answers)
    assert len(load.answers) > 50

    shown = salver("status", "--address", cluster.address)
    assert 0 == shown.returncode, shown.stderr
    assert "Tagger: HEALTHY, 2 running" in shown.stdout
    ended = salver("shutdown", "--address", cluster.address)
    assert "The service has ended." in ended.stderr
    again = salver("status", "--address", cluster.address)
    assert (1, "No service of Salver runs there.\n") == (again.returncode, again.stdout)
