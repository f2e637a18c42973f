"""The command line as a user meets it: real processes, signals and messages."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import PATIENCE_S, lives, wait_for_end, wait_until

HERE = Path(__file__).parent
SALVER = [sys.executable, "-m", "salver.cli"]
TARGET = "services.chaos:service"


class Server:
    """`salver serve` in a process of its own."""

    def __init__(self, output: Path, *arguments: str, target: str = TARGET, **env: str) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [*SALVER, "serve", target, "--port", "0", *arguments],
                cwd=HERE,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                process_group=0,
            )
        self._replicas: list[int] = []

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        return self._output.read_text()

    @property
    def address(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+", self.said)
        assert found, self.said
        return found[0]

    def ready(self) -> Server:
        """Waits until it says so."""
        wait_until(lambda: "Ready." in self.said or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.said
        return self

    def ask(self, text: str, **headers: str) -> httpx.Response:
        url = f"{self.address}/predict/"
        return httpx.post(url, json={"text": text}, headers=headers, timeout=PATIENCE_S)

    def replicas(self) -> list[int]:
        """Process ids of ready replicas."""
        state = httpx.get(f"{self.address}/-/readyz", timeout=PATIENCE_S).json()
        replicas = state["deployments"]["Echo"]["replicas"]
        found = [r["pid"] for r in replicas if r["state"] in ("ready", "busy")]
        self._replicas += found
        return found

    def wait_for_replicas(self, number: int) -> list[int]:
        wait_until(lambda: len(self.replicas()) == number, f"{number} replicas ready")
        return self.replicas()

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Waits for its end; returns the exit code."""
        return self.process.wait(seconds)

    def clean(self) -> None:
        """Ends all that is left of it."""
        for pid in [self.process.pid, *self._replicas]:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, and ends what is left of them."""
    servers: list[Server] = []

    def one(*arguments: str, **how: str) -> Server:
        servers.append(Server(tmp_path / f"stderr{len(servers)}", *arguments, **how))
        return servers[-1]

    yield one
    for server in servers:
        server.clean()


def salver(*arguments: str, cwd: Path = HERE, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [*SALVER, *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Clients:
    """Keep-alive clients that ask until the server refuses or closes."""

    def __init__(self, server: Server, number: int) -> None:
        self.answered = 0
        self.wrong: list[str] = []
        self.draining = threading.Event()
        self._stop = threading.Event()
        self._server = server
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask(self, n: int) -> None:
        i = 0
        with httpx.Client(base_url=self._server.address, timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                text = f"client {n} row {i}"
                late = self.draining.is_set()
                try:
                    answer = client.post("/predict/", json={"text": text})
                except httpx.TransportError as error:
                    # A new request may be refused once the server ends, one before may not.
                    if not (late or self.draining.is_set()):
                        self.wrong.append(repr(error))
                    return
                if answer.status_code == 503 and self.draining.is_set():
                    return
                said = answer.json()["results"][0]["prediction"] if answer.is_success else answer
                if text.upper() != said:
                    self.wrong.append(f"{said!r}: {answer.text}")
                self.answered += 1
                i += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_under_load(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """What is in flight is answered, readiness goes off, the exit code is 0, no process is left."""
    server = start("--set", "num_replicas=2", "--set", "max_batch_size=4").ready()
    pids = server.wait_for_replicas(2)
    gate = tmp_path / "gate"
    held: list[httpx.Response] = []
    clients = Clients(server, 4)
    wait_until(lambda: clients.answered >= 50, "under load")
    holders = [
        threading.Thread(target=lambda: held.append(server.ask(f"wait {gate}"))) for _ in range(12)
    ]
    for holder in holders:
        holder.start()
    # The held rows block both replicas and so the clients; the count holds its own request too.
    wait_until(lambda: in_flight(server) == 12 + 4 + 1, "everybody waits")

    clients.draining.set()
    os.killpg(server.process.pid, number)  # as a terminal does, and a service manager
    wait_until(lambda: "Draining" in server.said, "draining")
    wait_until(lambda: not is_ready(server), "readiness off")
    assert server.process.poll() is None, "it waits for what is in flight"
    gate.touch()

    assert 0 == server.end(), server.said
    for holder in holders:
        holder.join(PATIENCE_S)
    clients.stop()
    assert [200] * 12 == [answer.status_code for answer in held]
    assert [] == clients.wrong
    assert not any(map(lives, pids))


def in_flight(server: Server) -> int:
    metrics = httpx.get(f"{server.address}/metrics", timeout=PATIENCE_S).text
    found = re.search(r"^salver_http_requests_in_flight (\d+)", metrics, re.MULTILINE)
    assert found, metrics
    return int(found[1])


def is_ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.address}/-/readyz", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


def test_a_second_signal_ends_at_once(start: Start) -> None:
    """Also while a model hangs; no process is left."""
    server = start().ready()
    pids = server.wait_for_replicas(1)

    def hang() -> None:
        with pytest.raises(httpx.TransportError):
            server.ask("hang")

    asking = threading.Thread(target=hang)
    asking.start()
    wait_until(lambda: server_is_busy(server), "hanging")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Draining" in server.said, "draining")
    server.process.send_signal(signal.SIGTERM)

    assert 1 == server.end()
    wait_for_end(pids, 5)
    asking.join(PATIENCE_S)


def server_is_busy(server: Server) -> bool:
    state = httpx.get(f"{server.address}/-/readyz", timeout=PATIENCE_S).json()
    return state["deployments"]["Echo"]["replicas"][0]["state"] == "busy"


def test_a_server_that_is_killed_leaves_no_process(start: Start) -> None:
    """Replicas, and what their models spawned, end with it within 2 seconds."""
    server = start("--set", "num_replicas=2").ready()
    pids = server.wait_for_replicas(2)
    pids.append(int(server.ask("spawn").json()["results"][0]["prediction"]))
    assert all(map(lives, pids))

    server.process.kill()
    server.end()

    wait_for_end(pids, 2)


def test_a_signal_while_models_load_ends_cleanly(start: Start, tmp_path: Path) -> None:
    """Nothing is drained, nothing is left, and the exit code is 0."""
    slow = tmp_path / "slow"
    slow.touch()
    server = start(TEST_SLOW_FILE=str(slow))
    wait_until(lambda: "Loading" in server.said, "loading")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    server.process.send_signal(signal.SIGTERM)

    assert 0 == server.end(), server.said
    assert not children.exists()
    assert "Traceback" not in server.said


def test_a_killed_replica_fails_no_request_over_http(start: Start) -> None:
    """`kill -9` of one of two replicas under clients of the HTTP service."""
    server = start("--set", "num_replicas=2").ready()
    victim = server.wait_for_replicas(2)[0]
    clients = Clients(server, 8)
    wait_until(lambda: clients.answered >= 100, "under load")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.replicas(), "noticed")
    server.wait_for_replicas(2)
    clients.stop()

    assert [] == clients.wrong
    metrics = httpx.get(f"{server.address}/metrics", timeout=PATIENCE_S).text
    assert 'salver_replica_restarts_total{deployment="Echo"} 1.0' in metrics


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@pytest.mark.parametrize("stderr", ["nobody reads it", "its disk is full"])
def test_what_cannot_be_said_costs_no_answer(stderr: str) -> None:
    """Rows that fail are told to who asked, replicas stay, and the end is an orderly one."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    reader, writer = os.pipe()
    if stderr == "its disk is full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen(
        [*SALVER, "serve", TARGET, "--port", str(port)],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writer,
        process_group=0,
    )
    os.close(writer)
    os.close(reader)

    def is_ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/-/readyz", timeout=PATIENCE_S).status_code == 200
        return False

    try:
        wait_until(lambda: is_ready() or process.poll() is not None, "ready")
        assert process.poll() is None
        pids = set()
        for text in ("raise one", "hello", "raise two", "hello"):
            answer = httpx.post(f"{url}/predict/", json={"text": text}, timeout=PATIENCE_S).json()
            if text == "hello":
                pids.add(answer["results"][0]["pid"])
            else:
                assert answer["error"]["code"] == "model_error"
        assert len(pids) == 1
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def test_a_users_route_asks_the_deployment(start: Start) -> None:
    """A route of the FastAPI app answers beside the generated one."""
    server = start(target="services.web:service").ready()
    assert {"said": "HELLO"} == httpx.get(f"{server.address}/hello/", timeout=PATIENCE_S).json()
    assert "TEXT" == server.ask("text").json()["results"][0]["prediction"]


def test_an_api_key_is_asked_for(start: Start) -> None:
    """With SALVER_API_KEY, predictions need it and health checks do not."""
    server = start(SALVER_API_KEY="12345").ready()
    assert 401 == server.ask("text").status_code
    assert 401 == server.ask("text", authorization="Bearer 54321").status_code
    assert 200 == server.ask("text", authorization="Bearer 12345").status_code
    assert 200 == httpx.get(f"{server.address}/-/healthz", timeout=PATIENCE_S).status_code
    assert "12345" not in server.said


def fails(result: subprocess.CompletedProcess[str], *says: str) -> None:
    assert 1 == result.returncode, result.stderr
    for one in says:
        assert one in result.stderr
    assert "Traceback" not in result.stderr


def test_a_busy_port_is_named() -> None:
    """The error says which port and what to do, before any model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fails(salver("serve", TARGET, "--port", port), port, "127.0.0.1", "in use")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:service", "no module 'no_such_module'"),
        ("services.chaos:servise", "Did you mean 'service'"),
        ("services.chaos", "MODULE:NAME"),
        ("services/none.py:service", "no file services/none.py"),
    ],
)
def test_a_wrong_target_is_explained(target: str, says: str) -> None:
    """One sentence and exit code 1, no traceback."""
    fails(salver("serve", target), says)


@pytest.mark.parametrize("layer", ["--set", "file", "environment"])
def test_a_misspelt_option_names_its_neighbours(layer: str, tmp_path: Path) -> None:
    """Wherever it was given, the message names the option, its value and the nearest name."""
    config = tmp_path / "options.yaml"
    config.write_text("num_replcas: 3\n")
    arguments: dict[str, tuple[list[str], dict[str, str]]] = {
        "--set": (["--set", "num_replcas=3"], {}),
        "file": (["--config", str(config)], {}),
        "environment": ([], {"SALVER_NUM_REPLCAS": "3"}),
    }
    given, env = arguments[layer]
    fails(salver("serve", TARGET, *given, **env), "'num_replcas'", "3", "'num_replicas'")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "num_replicas=0"], "'num_replicas' was given 0"),
        (["--set", "num_replicas"], "NAME=VALUE"),
        (["--set", "Ecko.num_replicas=2"], "'Echo"),
        (["--config", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["--set", "autoscaling_config={max_replicas: 2}"], "belongs to Ray"),
        (["--set", "optimize_for=latensy"], "'optimize_for' was given 'latensy'"),
        (["--host", "0.0.0.0"], "SALVER_API_KEY"),
    ],
)
def test_a_wrong_option_is_explained(arguments: list[str], says: str) -> None:
    """One sentence that says what was given and what to do; others are not let in by accident."""
    fails(salver("serve", TARGET, "--port", "0", *arguments), says)


def test_options_grow_stronger_from_file_to_environment_to_argument(
    start: Start, tmp_path: Path
) -> None:
    """Each layer overrides the one before it."""
    config = tmp_path / "options.yaml"
    config.write_text("max_batch_size: 3\nnum_cpus: 3\nrequest_timeout_s: 7\n")
    server = start(
        "--config",
        str(config),
        "--set",
        "num_cpus=5",
        SALVER_MAX_BATCH_SIZE="4",
        SALVER_NUM_CPUS="4",
    ).ready()
    assert "batches of up to 4" in server.said
    assert "5" == server.ask("env OMP_NUM_THREADS").json()["results"][0]["prediction"]


OPEN = ("--set", "num_replicas=null", "--set", "max_batch_size=null")


@pytest.mark.parametrize(
    ("goal", "runs"),
    [
        ([], r"1 replica x 1 thread, batches of up to \d+ rows \(chosen for throughput: "),
        (["--optimize-for", "latency"], r"1 replica x \d+ threads?, batches of .*for latency: "),
    ],
)
def test_what_is_left_open_is_chosen_and_said(start: Start, goal: list[str], runs: str) -> None:
    """A cheap model gets one replica; one line says the numbers, and the batch that was timed."""
    server = start(*OPEN, *goal).ready()
    line = re.search(rf"^Echo: {runs}\d+ rows? took [\d.]+ ms", server.said, re.MULTILINE)
    assert line, server.said
    plan = httpx.get(f"{server.address}/-/readyz").json()["deployments"]["Echo"]["plan"]
    assert f"batches of up to {plan['max_batch_size']} row" in server.said
    assert "A" == server.ask("a").json()["results"][0]["prediction"]


def test_a_misspelt_goal_is_refused() -> None:
    """The two that there are are named."""
    result = salver("serve", TARGET, "--optimize-for", "latensy")
    assert 2 == result.returncode
    assert "'throughput', 'latency'" in result.stderr


def test_a_model_that_fails_to_load_shows_why(tmp_path: Path) -> None:
    """Exit code 1, and the child's own traceback."""
    (tmp_path / "broken").touch()
    result = salver("serve", TARGET, "--port", "0", TEST_FAIL_FILE=str(tmp_path / "broken"))

    assert 1 == result.returncode
    assert "Echo could not be loaded" in result.stderr
    assert "RuntimeError: told to fail at load" in result.stderr
    assert "chaos.py" in result.stderr


HEAVY = {
    "alembic",
    "fastapi",
    "mlflow",
    "pandas",
    "pyarrow",
    "ray",
    "sqlalchemy",
    "starlette",
    "torch",
}
HEAVY_FOR_HELP = HEAVY | {"numpy", "prometheus_client", "pydantic", "uvloop", "yaml"}
LOOK = "import json, sys; print(json.dumps([len(sys.modules), *{m.split('.')[0] for m in sys.modules}]))"


def loaded(code: str) -> tuple[int, set[str]]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LOOK}"], capture_output=True, text=True, check=True
    ).stdout
    number, *names = json.loads(out.splitlines()[-1])
    return number, set(names)


def test_help_and_import_stay_light() -> None:
    """`import salver` loads next to nothing, `salver --help` only what parses arguments."""
    bare, _ = loaded("")
    alone, names = loaded("import salver")
    assert not names & HEAVY_FOR_HELP
    assert alone - bare < 10

    code = "import sys, salver.cli\ntry: salver.cli.main(['--help'])\nexcept SystemExit: pass"
    helped, names = loaded(code)
    assert not names & HEAVY_FOR_HELP
    assert helped - bare < 250


def test_defining_a_service_loads_no_server() -> None:
    """A module that only describes a service pulls in neither a web framework nor a registry."""
    _, names = loaded(
        "import salver; salver.Service, salver.deployment, salver.Threshold, salver.best_checkpoint"
    )
    assert not names & (HEAVY | {"prometheus_client", "uvloop"})


SCRIPT = """
from pydantic import BaseModel
from salver import Service, deployment

class Text(BaseModel):
    text: str

@deployment(input=Text)
class Echo:
    def __call__(self, batch):
        return [text.upper() for text in batch["text"]]

echo = Echo.bind()
service = Service(echo)
"""
RUN = (
    SCRIPT
    + """
if __name__ == "__main__":
    import json, urllib.request
    service.run(blocking=False, port=0)
    said = echo.predict([{"text": "a"}])[0]["prediction"]
    several = service.predict([{"text": "b"}])[0]["prediction"]
    replicas = service.status()["deployments"]["Echo"]["replicas"]
    print(json.dumps({"said": said, "several": several, "pid": replicas[0]["pid"]}), flush=True)
"""
)


def script(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    (path / "script.py").write_text(code)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("ends", ["service.shutdown()", "pass", "raise SystemExit(3)"])
def test_a_script_runs_a_service_in_its_background(tmp_path: Path, ends: str) -> None:
    """It prints the address, predicts in process, and leaves no process however it ends."""
    result = script(tmp_path, f"{RUN}\n    {ends}\n")

    assert (3 if "3" in ends else 0) == result.returncode, result.stderr
    assert re.search(r"Ready\. Try it at http://127\.0\.0\.1:[1-9]\d*/docs", result.stderr)
    answer: dict[str, Any] = json.loads(result.stdout)
    assert ("A", "B") == (answer["said"], answer["several"])
    wait_for_end([answer["pid"]], 5)


def test_a_script_that_runs_its_service_unguarded_is_told(tmp_path: Path) -> None:
    """The child that imports the script does not run it again; the error says what to write."""
    result = script(tmp_path, f"{SCRIPT}\nservice.run(blocking=False, port=0)\n")

    assert 1 == result.returncode
    assert "if __name__ == '__main__':" in result.stderr
