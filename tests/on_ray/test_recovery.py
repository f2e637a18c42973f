"""A service on Ray Serve under load, while its processes end, are replaced and updated."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from on_ray.ray_service import RayService, salver, served
from salver.client import Client
from salver.errors import SalverError

MODEL = "ServeReplica:salver:Tagger"
CLIENTS = 16


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
        try:
            if self._client is None:
                return self._service.ask("/predict/", [{"text": "under load"}])[0]
            self._client.predict({"text": "under load"})
        except SalverError as error:
            return error.status
        except OSError:  # a connection that broke
            return 0
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

    def versions() -> list[str]:
        state = json.loads(salver("status", "--json").stdout)
        found: list[str] = state["deployments"]["Tagger"]["versions"]
        return found

    with served("served:slow") as running, Load(running) as load:
        (before,) = versions()
        again = salver(
            "serve", "served:slow", "--engine", "ray", "--address", "auto",
            "--port", str(running.port), "--set", "user_config={delay_s: 0.01}",
        )  # fmt: skip
        assert 0 == again.returncode, again.stderr
        wait_until(lambda: versions() and before not in versions(), "another version")
    assert {200} == set(load.answers)


def test_requests_in_flight_are_answered_when_the_service_ends():
    """SIGTERM drains: what was asked before is answered."""
    answers: list[int] = []
    with served("served:slow", "--set", "user_config={delay_s: 3}") as running:
        askers = [
            threading.Thread(
                target=lambda: answers.append(running.ask("/predict/", {"text": "a"})[0])
            )
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        time.sleep(1.5)
        running.process.send_signal(signal.SIGTERM)
        for asker in askers:
            asker.join()
    assert [200] * 4 == answers
