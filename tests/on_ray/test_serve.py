"""A service on Ray Serve answers as it does embedded, and survives what ends."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from on_ray import served as services
from on_ray.ray_service import RayService, salver, served
from salver.client import Client
from salver.errors import SalverError

MODEL = "ServeReplica:salver:Tagger"
CLIENTS = 16


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


def wait_until(holds: Callable[[], bool], what: str, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.5)


class Load:
    """Clients that ask until told to stop: each request once, or as `salver.client` does."""

    def __init__(self, service: RayService, client: Client | None = None) -> None:
        self._service = service
        self._client = client
        self._stop = threading.Event()
        self.answers: list[int] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.answers.append(self._status())

    def _status(self) -> int:
        if self._client is None:
            return self._service.ask("/predict/", [{"text": "under load"}])[0]
        try:
            self._client.predict({"text": "under load"})
        except SalverError as error:
            return error.status
        return 200

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def kill_under_load(
    running: RayService, words: str, wait_s: float, client: Client | None = None
) -> list[int]:
    """Answers that 16 clients got while one of the processes was killed and replaced."""
    wait_until(lambda: len(running.pids_of(words)) == 2, f"two {words}")
    with Load(running, client) as load:
        time.sleep(1)
        os.kill(running.pids_of(words)[0], signal.SIGKILL)
        time.sleep(wait_s)
    return load.answers


def test_a_model_replica_that_is_killed_fails_no_request():
    """Neither its actor nor the model's own process; both are replaced."""
    with served("served:slow") as running:
        for words in (MODEL, "salver.engine.worker"):
            answers = kill_under_load(running, words, wait_s=8)
            assert {200} == set(answers)
            assert len(answers) > 100


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_ten_of_ten_killed_model_replicas_fail_no_request():
    """One after the other, each under load."""
    with served("served:slow") as running:
        failed = [
            [status for status in kill_under_load(running, MODEL, wait_s=8) if status != 200]
            for _ in range(10)
        ]
    assert [[]] * 10 == failed


@pytest.mark.cluster
def test_a_killed_ingress_replica_fails_what_it_held_and_the_client_asks_again():
    """At most one request for each who waited; none for those who use Salver's client."""
    ingress = "ServeReplica:salver:salver-ingress"
    with served("served:slow") as running:
        answers = kill_under_load(running, ingress, wait_s=8)
        assert len([status for status in answers if status != 200]) <= CLIENTS
        assert len(answers) > 100
        with Client(f"http://127.0.0.1:{running.port}") as client:
            answers = kill_under_load(running, ingress, wait_s=8, client=client)
        assert {200} == set(answers)
        assert len(answers) > 100


@pytest.mark.cluster
def test_deploying_again_updates_in_place_without_a_failed_request():
    """Another configuration for the model, under load."""
    with served("served:slow") as running, Load(running) as load:
        time.sleep(1)
        again = salver(
            "serve", "served:slow", "--engine", "ray", "--address", "auto",
            "--port", str(running.port), "--set", "user_config={delay_s: 0.01}",
        )  # fmt: skip
        assert 0 == again.returncode, again.stderr
        time.sleep(1)
    assert {200} == set(load.answers)


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
