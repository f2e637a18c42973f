"""A service on Ray Serve answers as it does embedded, and survives what ends."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import psutil
import pytest

from on_ray import served as services
from on_ray.ray_service import RayService, salver, served


@pytest.fixture(scope="module")
def composed() -> Iterator[RayService]:
    with served("served:composed") as running:
        yield running


def test_it_answers_as_the_embedded_engine(composed):
    """A model with a policy, and a function of two models; good rows and failing ones."""
    rows = [row for row in services.rows(200) if row["priority"] >= 0]
    try:
        for name in ("Tagger", "triage"):
            embedded = services.composed.predict(rows, deployment=name)
            status, body, _ = composed.ask(f"/{name}/predict/", rows)
            assert 200 == status
            for expected, given in zip(embedded, body["results"], strict=True):
                if "error" in expected:
                    assert expected["error"]["code"] == given["error"]["code"]
                    continue
                ours, theirs = expected.pop("probabilities", {}), given.pop("probabilities", {})
                assert expected == given
                assert ours == pytest.approx(theirs, abs=1e-6)
    finally:
        services.composed.shutdown()


def test_errors_have_the_same_shape(composed):
    """A refused row, no JSON, a wrong type, an unknown path, a wrong method, a foreign host."""
    status, body, _ = composed.ask("/Tagger/predict/", [{"text": "a", "priority": -1}])
    assert (422, "invalid_input") == (status, body["error"]["code"])
    assert ["priority"] == body["error"]["problems"][0]["path"][-1:]
    status, body, headers = composed.ask(
        "/Tagger/predict/", [{"text": "a"}], {"content-type": "text/plain"}
    )
    assert (415, "unsupported_media_type") == (status, body["error"]["code"])
    assert body["error"]["request_id"] == headers["x-request-id"]
    assert 405 == composed.ask("/Tagger/predict/")[0]
    assert 404 == composed.ask("/nowhere")[0]
    status, body, _ = composed.ask("/-/readyz", headers={"host": "evil.example"})
    assert (421, "host_not_allowed") == (status, body["error"]["code"])


def test_operators_find_what_they_know(composed):
    """Readiness of each deployment, metrics, and the page with executed examples."""
    status, state, _ = composed.ask("/-/readyz")
    assert (200, True) == (status, state["ready"])
    assert {"Tagger", "Urgency", "triage"} == set(state["deployments"])
    tagger = state["deployments"]["Tagger"]
    assert [{"state": "ready"}] == tagger["replicas"]
    assert 64 == len(tagger["version"])
    assert 200 == composed.ask("/metrics")[0]
    assert 200 == composed.ask("/docs")[0]
    status, document, _ = composed.ask("/openapi.json")
    assert "golden" in str(document["paths"]["/Tagger/predict/"])


def test_nothing_listens_beyond_this_machine(composed):
    """Neither Ray's dashboard nor the ports of its processes."""
    foreign = []
    for process in [psutil.Process(composed.process.pid), *composed.processes()]:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        for one in connections:
            ip = ipaddress.ip_address(one.laddr.ip.removeprefix("::ffff:"))
            if one.status == psutil.CONN_LISTEN and not ip.is_loopback:
                foreign.append((process.name(), one.laddr))
    assert [] == foreign


def test_status_tells_deployments_replicas_and_versions(composed):
    """In words and as JSON."""
    shown = salver("status")
    assert 0 == shown.returncode, shown.stderr
    assert "RUNNING" in shown.stdout
    assert "Tagger: HEALTHY, 1 running, 0 rows under way, version " in shown.stdout


def test_a_model_that_cannot_be_loaded_is_a_clear_error(tmp_path):
    """And nothing is left running."""
    (tmp_path / "broken.py").write_text(
        "from pydantic import BaseModel\n"
        "from salver import Service, deployment\n"
        "class Row(BaseModel):\n    text: str\n"
        "@deployment(input=Row, num_cpus=0.1)\n"
        "class Broken:\n"
        "    def __init__(self):\n        raise RuntimeError('no weights here')\n"
        "    def __call__(self, batch):\n        return {}\n"
        "service = Service(Broken.bind())\n"
    )
    ended = salver("serve", f"{tmp_path}/broken.py:service", "--engine", "ray", "--port", "0")
    assert 1 == ended.returncode
    assert "no weights here" in ended.stderr
    assert "Traceback" not in ended.stderr.split("no weights here")[-1]


def test_a_busy_port_is_named_before_ray_is_started():
    """With what to do, as without Ray."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        ended = salver("serve", "served:plain", "--engine", "ray", "--port", port)
    assert 1 == ended.returncode
    assert f"Cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "Starting Ray" not in ended.stderr
