"""A model that tells about the process it runs in, and one that ends it: `process_models:service`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from salver import Service, deployment
from salver.engine.children import THREAD_VARIABLES


class Question(BaseModel):
    about: str


@deployment(input=Question)
class Process:
    """Answers a row with what the method of that name says."""

    def __init__(self) -> None:
        names = (*THREAD_VARIABLES, "CUDA_VISIBLE_DEVICES")
        self.seen_at_load = {name: os.environ.get(name) for name in names}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        return {"prediction": [getattr(self, about)() for about in batch["about"]]}

    def environment(self) -> dict[str, Any]:
        return self.seen_at_load

    def pid(self) -> int:
        return os.getpid()

    def spawn(self) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    def megabytes(self) -> str:
        return "x" * 10_000_000

    def crash(self) -> None:
        os._exit(7)


@deployment(input=Question)
class CrashesAtStart:
    def __init__(self) -> None:
        os._exit(7)

    def __call__(self, batch: Any) -> Any: ...


service = Service(Process.bind(), CrashesAtStart.bind())
