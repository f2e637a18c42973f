"""Models that behave in every way a model can, for any kind of replica: `models.py:service`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver import Service, Threshold, checkpoint, deployment
from salver.engine.replica import THREAD_VARIABLES


class Row(BaseModel):
    text: str
    extra: Any = None




@deployment(input=Row, policy=Threshold(0.6, otherwise="unsure"))
class Echo:
    """Answers what it was given; some texts make it misbehave."""

    def __init__(self) -> None:
        self.classes_ = ["short", "long"]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        texts = list(batch["text"])
        for text in texts:
            self._misbehave(text)
        long = np.array([min(len(text), 10) / 10 for text in texts])
        long[[text == "nan" for text in texts]] = np.nan
        columns: dict[str, Any] = {
            "probabilities": np.stack([1 - long, long], axis=1),
            "echo": texts,
            "extra": [repr(extra) for extra in batch["extra"]],
        }
        if "too few" in texts:
            columns["echo"] = columns["echo"][:-1]
        if "type" in texts:
            columns["echo"] = [object()] * len(texts)
        return columns

    def _misbehave(self, text: str) -> None:
        if text == "raise":
            raise ValueError("as the row asked")
        if text == "exit":
            sys.exit(3)
        if text == "interrupt":
            raise KeyboardInterrupt
        if text == "loud":
            sys.stdout.write("a line on stdout\n" * 50_000)
            sys.stderr.write("a line on stderr\n" * 50_000)


@deployment(input=Row)
class RaisesAtStart:
    def __init__(self) -> None:
        raise FileNotFoundError("weights.bin is not here")

    def __call__(self, batch: Any) -> Any: ...


@deployment(input=Row)
class ExitsAtStart:
    def __init__(self) -> None:
        sys.exit("no licence for this model")

    def __call__(self, batch: Any) -> Any: ...


@deployment(input=Row)
class ImportsWhatIsMissing:
    def __init__(self) -> None:
        import a_library_that_is_not_installed  # noqa: F401 - that is the point

    def __call__(self, batch: Any) -> Any: ...


@deployment(input=Row, examples=[{"input": {"text": "a"}, "prediction": "long"}])
class AnswersOtherwise(Echo):
    pass


@deployment(input=Row, examples=[{"text": "raise"}])
class FailsItsExample(Echo):
    pass


@deployment(input=Row)
class Weights:
    """Answers with the content of its checkpoint."""

    def __init__(self, weights: Any) -> None:
        self.word = weights.file("word.txt").read_text()

    def __call__(self, batch: Mapping[str, Any]) -> list[str]:
        return [self.word for _ in batch["text"]]


@deployment(input=Row)
class Process:
    """Tells about the process it runs in, or ends it."""

    def __init__(self) -> None:
        self.threads = {name: os.environ.get(name) for name in THREAD_VARIABLES}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        answers = [getattr(self, text)() for text in batch["text"]]
        return {"prediction": answers}

    def pid(self) -> int:
        return os.getpid()

    def environment(self) -> dict[str, Any]:
        return {**self.threads, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES")}

    def spawn(self) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    def crash(self) -> None:
        os._exit(7)


@deployment(input=Row)
class CrashesAtStart:
    def __init__(self) -> None:
        os._exit(7)

    def __call__(self, batch: Any) -> Any: ...


service = Service(
    Echo.bind(),
    RaisesAtStart.bind(),
    ExitsAtStart.bind(),
    ImportsWhatIsMissing.bind(),
    AnswersOtherwise.options(name="AnswersOtherwise").bind(),
    FailsItsExample.options(name="FailsItsExample").bind(),
    Weights.bind(checkpoint("runs:/0123456789abcdef0123456789abcdef/checkpoint")),
    Process.bind(),
    CrashesAtStart.bind(),
)
TARGET = f"{Path(__file__).resolve()}:service"
