"""Servers as processes: start one, wait until it answers, read what it uses, end all of it.

A server is every process that carries its mark in its environment, so that daemons which leave
the process group (Ray's, HAProxy's) are counted and ended too. It does not know what is asked of
a server.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.environments import ROOT
from bench.systems import Launch, Setup

MARK = "BENCH_TOKEN"
# All that a server sees of the caller's environment: what it was started from must not matter
# (OPENBLAS_CORETYPE, say, would give one machine two speeds).
INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "TMPDIR", "TZ", "USER")
STOP_LIMIT_S = 8.0
LAST_LIMIT_S = 2.0  # of what outlives the process that was started


class ServerFailed(Exception):
    """A server did not start or ended by itself; the message is the reason."""


@dataclass(frozen=True)
class Usage:
    """What all processes of a server use at one moment.

    Attributes:
        memory_mb: Proportional set size, in which a page shared by n processes counts 1/n for
            each; the resident size of processes that do not show it.
        cpu_s: CPU seconds used so far.
        processes: How many there are.
    """

    memory_mb: float
    cpu_s: float
    processes: int


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def clean_environment(python: Path) -> dict[str, str]:
    """The environment of every measured process: few names, the interpreter's folder on PATH."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Running:
    """One started server.

    Args:
        launch: How it is started and stopped.
        setup: What it is to serve, and where.
        environment: Variables beside those of ``launch`` and ``setup``.
    """

    def __init__(self, launch: Launch, setup: Setup, environment: dict[str, str] | None = None):
        self._launch = launch
        self._token = uuid.uuid4().hex
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._log = self._folder / "log.txt"
        self._env = clean_environment(setup.python) | setup.environment()
        self._env |= (environment or {}) | launch.env | {MARK: self._token}
        self._known: dict[int, psutil.Process] = {}
        self._gone_cpu_s = 0.0
        self._cpu_of: dict[int, float] = {}
        self._root: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def start(self) -> None:
        """Starts the command; it is not ready yet."""
        work = self._folder / "work"
        work.mkdir()
        self.started_at = time.monotonic()
        with self._log.open("wb") as log:
            self._root = subprocess.Popen(
                self._launch.argv,
                env=self._env,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, answers: Callable[[], bool], limit_s: float) -> float:
        """Waits until ``answers`` is true and returns the seconds since the start.

        Raises:
            ServerFailed: If the server ended, or the limit is over.
        """
        while not answers():
            elapsed = time.monotonic() - self.started_at
            if self._root is not None and self._root.poll() is not None and not self.processes():
                raise ServerFailed(
                    f"it ended with code {self._root.returncode}: {self.last_words()}"
                )
            if elapsed > limit_s:
                raise ServerFailed(f"no good answer within {limit_s:g} s: {self.last_words()}")
            time.sleep(0.01)
        return time.monotonic() - self.started_at

    def last_words(self) -> str:
        """The last line of its log that says something, for a reason in the report."""
        if not self._log.exists():
            return "its log is empty"
        lines = self._log.read_text(errors="replace").splitlines()
        spoken = [line.strip() for line in lines if any(map(str.isalpha, line))]
        errors = [line for line in spoken if "rror" in line]
        return (errors or spoken or ["its log is empty"])[-1][:300]

    def processes(self) -> list[psutil.Process]:
        """Every process of the server that lives."""
        for process in self._marked():
            self._known.setdefault(process.pid, process)
        # A program may overwrite the memory that its environment is read from (to show a title);
        # its parents still tell whose it is.
        for process in list(self._known.values()):
            with contextlib.suppress(psutil.Error):
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
        alive = {pid: p for pid, p in self._known.items() if _lives(p)}
        self._known = alive
        return list(alive.values())

    def usage(self) -> Usage:
        """Memory and CPU time of all its processes, those that have ended included in the latter."""
        memory = 0.0
        now: dict[int, float] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                now[process.pid] = times.user + times.system
                memory += _memory(process)
        self._gone_cpu_s += sum(s for pid, s in self._cpu_of.items() if pid not in now)
        self._cpu_of = now
        return Usage(memory / 1e6, self._gone_cpu_s + sum(now.values()), len(now))

    def stop(self) -> None:
        """Ends every process of the server, gently first, and removes its scratch folder."""
        alive = self.processes()
        if self._root is not None and self._root.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._root.pid, signal.SIGTERM)
        if self._launch.stop:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    self._launch.stop,
                    env=self._env,
                    timeout=STOP_LIMIT_S,
                    capture_output=True,
                    check=False,
                )
        if self._root is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._root.wait(STOP_LIMIT_S)
        psutil.wait_procs(alive, timeout=LAST_LIMIT_S)
        while rest := self.processes():
            for process in rest:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(rest, timeout=1)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _marked(self) -> Iterator[psutil.Process]:
        mark = f"{MARK}={self._token}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, psutil.Error):
                if mark in (entry / "environ").read_bytes():
                    yield psutil.Process(int(entry.name))


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return float(process.memory_info().rss)
