"""The child processes of replicas, one of which may be started ahead of time.

A child imports for a third of a second before it can load anything. Started before the service is
known, it does so while its parent imports too. This module does not know what a child will load.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from salver.settings import child_environment

# Variables that set the threads of the libraries models compute with.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "NPROC",  # of XLA
)


@dataclass(frozen=True, slots=True)
class Child:
    """A child process that waits to be told what to load.

    Attributes:
        process: The process, leader of a group of its own.
        channel: Our end of the socket that it reads.
        lifeline: Our end of a pipe; the child ends when it is closed, as with this process.
        environment: Its variables, as it was started with them.
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket
    lifeline: int
    environment: Mapping[str, str]

    def end(self) -> None:
        """Ends a child that is not wanted; it has loaded and spawned nothing."""
        self.channel.close()
        os.close(self.lifeline)
        if self.process.poll() is None:
            end_group(self.process)


def environment(threads: int, devices: str | None = None) -> dict[str, str]:
    """The variables of a child: those of this process, and what it computes with.

    Args:
        threads: Math threads.
        devices: Value of `CUDA_VISIBLE_DEVICES`; null leaves it.
    """
    changes = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if threads == 1:
        changes["TOKENIZERS_PARALLELISM"] = "false"
    if devices is not None:
        changes["CUDA_VISIBLE_DEVICES"] = devices
    return child_environment(changes)


def spawn(environment: Mapping[str, str]) -> Child:
    """Starts a child; blocks for some milliseconds.

    Raises:
        OSError: If the system allows no more processes or open files.
    """
    ours, theirs = socket.socketpair()
    try:
        lifeline_end, lifeline = os.pipe()
        try:
            fds = (theirs.fileno(), lifeline_end)
            process = subprocess.Popen(
                [sys.executable, "-m", "salver.engine.worker", *map(str, fds)],
                pass_fds=fds,
                env=environment,
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the engine, which drains; a kill is for all
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(lifeline_end)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, ours, lifeline, environment)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and its group, and reaps it."""
    # Also when the child has ended by itself: what the model spawned is in its group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # Reaped off the loop, or it would stay a zombie.
    threading.Thread(target=process.wait, daemon=True).start()


_ahead: Child | None = None
_lock = threading.Lock()


def spawn_ahead(threads: int) -> None:
    """Starts a child that the first replica will probably be."""
    global _ahead  # noqa: PLW0603 - of a process there is one
    discard()
    with contextlib.suppress(OSError):  # whoever needs one will say what is wrong
        _ahead = spawn(environment(threads))


def take(threads: int, devices: str | None) -> Child:
    """A child: the one that was started ahead, if it fits and lives, or else a new one.

    It does not fit if the service has changed the environment since.

    Raises:
        OSError: As `spawn`.
    """
    global _ahead
    wanted = environment(threads, devices)
    with _lock:
        child, _ahead = _ahead, None
    if child is not None:
        if child.environment == wanted and child.process.poll() is None:
            return child
        child.end()
    return spawn(wanted)


def discard() -> None:
    """Ends the child that was started ahead and that nobody took."""
    global _ahead
    with _lock:
        child, _ahead = _ahead, None
    if child is not None:
        child.end()
