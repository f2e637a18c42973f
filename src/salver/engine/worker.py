"""The child process of a `ProcessReplica`: loads one deployment and answers batches.

Started as `python -m salver.engine.worker SOCKET LIFELINE` with two inherited file descriptors.
It ends when either is closed, so it never outlives the engine. It does not know HTTP or files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from salver.engine.frames import (
    FrameReader,
    batch_from_message,
    pack,
    pack_outcomes,
)
from salver.types import Field

_READ_BYTES = 1 << 18


def main() -> None:
    """Serves the engine at the other end of the socket until it closes."""
    descriptor, lifeline = int(sys.argv[1]), int(sys.argv[2])
    for fd in (descriptor, lifeline):
        os.set_inheritable(fd, False)  # what a model spawns must not keep them open
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A service manager signals all processes of a service; when a replica ends, the engine says.
    # No SIG_IGN here, and the default after a fork: what a model spawns must stay terminable.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    faulthandler.enable()
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    from salver.engine import targets  # noqa: F401 - while the engine finds out what to load

    with socket.socket(fileno=descriptor) as channel:
        _serve(channel)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that broke, a stream that is closed
            stream.flush()
    _end()


def _end_with(lifeline: int) -> None:
    """Ends the process when the engine has ended, however it ended."""
    os.read(lifeline, 1)
    _end()


def _end() -> None:
    """Ends at once, for models leave threads and processes behind that do not end by themselves."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _serve(channel: socket.socket) -> None:
    questions = _questions(channel)
    first = next(questions, None)
    if first is None:
        return  # the engine ended before it said what to load
    number, _, birth = first
    fields = tuple(Field(*f) for f in birth["fields"])
    try:
        loaded = _load(birth)
    except BaseException:  # noqa: BLE001 - a constructor may raise anything; it is reported
        channel.sendall(pack([number, {"error": traceback.format_exc()}]))
        return
    ready = {"examples": loaded.examples, "tokenizer_file": loaded.tokenizer_file}
    channel.sendall(pack([number, ready]))
    # What was loaded stays: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    for number, _, rows in questions:
        outcomes = loaded.pipeline.run(batch_from_message(fields, rows))
        channel.sendall(pack_outcomes(number, outcomes))


def _load(birth: Mapping[str, Any]) -> Any:
    sys.path[:] = birth["sys_path"]
    from salver.engine import loading, targets

    deployment = targets.load_service(birth["target"]).deployments[birth["deployment"]]
    options = deployment.options.replace(birth["overrides"], "the overrides")
    return loading.load(deployment.with_options(options), birth["resolved"], _log)


def _log(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, or its disk is full
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()


def _questions(channel: socket.socket) -> Iterator[Any]:
    reader = FrameReader()
    # One buffer for all: a large one of its own for each read would be mapped and unmapped.
    buffer = memoryview(bytearray(_READ_BYTES))
    while size := channel.recv_into(buffer):
        yield from reader.feed(buffer[:size])


if __name__ == "__main__":
    main()
