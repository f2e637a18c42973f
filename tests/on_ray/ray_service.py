"""`salver serve --engine ray` as a process of its own, with the Ray that it starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
START_S = 180.0


class RayService:
    """A running service.

    Args:
        process: The command.
        port: Where Ray's proxy answers.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(
        self, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of an answer; a GET without content."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data,
            {"content-type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, _decoded(response.read()), dict(response.headers)
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read()), dict(error.headers)

    def processes(self) -> list[psutil.Process]:
        """All of Ray's processes that this command started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def pids_of(self, words: str) -> list[int]:
        """Processes whose title or command line holds `words`."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


def environment() -> dict[str, str]:
    """Of commands: modules of this folder are found."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def salver(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "salver.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        cwd=HERE,
        check=False,
    )


@contextlib.contextmanager
def served(target: str, *arguments: str) -> Iterator[RayService]:
    """Serves until the end of the block; then nothing of it is left."""
    command = [sys.executable, "-m", "salver.cli", "serve", target, "--engine", "ray"]
    process = subprocess.Popen(
        [*command, "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=HERE,
        start_new_session=True,
    )
    said: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith("Ready."):
                port = int(line.removesuffix("/docs\n").rpartition(":")[2])
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}: {''.join(said)[-3000:]}")
        yield RayService(process, port)
    finally:
        children = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=90)
        finally:
            process.kill()
        _, left = psutil.wait_procs(children, timeout=20)
        assert not left, f"left behind: {left}"
