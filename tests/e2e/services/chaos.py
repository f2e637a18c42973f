"""A model that does what its rows say: answer, wait, hang, crash, spawn a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from salver import Service, deployment


class Text(BaseModel):
    text: str = ""


@deployment(input=Text, num_replicas=1, max_batch_size=8)
class Echo:
    """Gives each text in capitals and the process that did it; notes what it saw in a file."""

    def __init__(self) -> None:
        while os.path.exists(os.environ.get("TEST_SLOW_FILE", "")):
            time.sleep(0.01)
        if os.path.exists(os.environ.get("TEST_FAIL_FILE", "")):
            raise RuntimeError("told to fail at load")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = list(batch["text"])
        self.note(texts)
        said = [self.obey(*text.split(" ", 1)) for text in texts]
        return {"prediction": said, "pid": [os.getpid()] * len(texts)}

    def note(self, texts: list[str]) -> None:
        log = os.environ.get("TEST_LOG")
        if log:
            with open(log, "a", encoding="utf-8") as file:
                file.write("".join(f"{text}\n" for text in texts))

    def obey(self, verb: str, rest: str = "") -> str:
        if verb == "exit":
            os._exit(9)
        elif verb == "hang":
            while True:
                pass
        elif verb == "work":
            time.sleep(float(rest))
        elif verb == "wait":
            while not Path(rest).exists():
                time.sleep(0.005)
        elif verb == "spawn":
            return str(subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL).pid)
        elif verb == "raise":
            raise ValueError(rest)
        elif verb == "env":
            return os.environ.get(rest, "")
        return f"{verb} {rest}".strip().upper()


echo = Echo.bind()
other = Echo.options(name="Other").bind()


@deployment(input=Text)
async def both(rows: list[dict[str, str]], first: Any, second: Any) -> list[dict[str, Any]]:
    """Asks two deployments at once."""
    answers = await asyncio.gather(first(rows), second(rows))
    return [
        {"first": a["prediction"], "second": b["prediction"]} for a, b in zip(*answers, strict=True)
    ]


service = Service(echo)
composed = Service(both.bind(echo, other))
