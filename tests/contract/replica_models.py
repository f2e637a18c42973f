"""A service whose model misbehaves on request, for every kind of replica to hold out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver import Service, Threshold, checkpoint, deployment


class Item(BaseModel):
    text: str = ""
    number: int = 0
    real: float | None = None
    flag: bool = False
    extra: Any = None


class Hurt(BaseException):
    """Neither an Exception nor one of Python's own."""


RAISES = {
    "ValueError": ValueError("secret"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "StopIteration": StopIteration(),
    "RecursionError": RecursionError(),
    "MemoryError": MemoryError(),
    "Hurt": Hurt(),
}


@deployment(input=Item)
class Rude:
    """Echoes its rows; a row `raise X`, `few`, `nan`, ... makes it do that."""

    tokenizer_file_ = Path("/nowhere/tokenizer.json")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = list(batch["text"])
        for text in texts:
            if text.startswith("raise "):
                raise RAISES[text.removeprefix("raise ")]
        if "print" in texts:
            print("to stdout " * 100_000)  # noqa: T201
            print("to stderr " * 100_000, file=sys.stderr)  # noqa: T201
        columns = {
            "prediction": texts,
            "length": np.array([len(text) for text in texts]),
            "number": batch["number"],
            "real": [None if value != value else value for value in batch["real"]],
            "flag": batch["flag"],
            "extra": [
                None if t == "repr" else e for t, e in zip(texts, batch["extra"], strict=True)
            ],
            "repr": [repr(value) for value in batch["extra"]],
            "score": [float("nan") if text == "nan" else 0.5 for text in texts],
            "huge": [2**80 if text == "huge" else 1 for text in texts],
        }
        if "few" in texts:
            columns["prediction"] = texts[1:]
        if "object" in texts:
            columns["prediction"] = [object()] * len(texts)
        return columns


@deployment(input=Item, policy=Threshold(0.6, otherwise="other"))
class Scorer:
    """Gives probabilities, not finite for `nan` and `inf`."""

    classes_ = ("short", "long")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"probabilities": np.array([self._score(text) for text in batch["text"]])}

    def _score(self, text: str) -> list[float]:
        if text in ("nan", "inf"):
            return [float(text), 0.5]
        share = min(len(text) / 100, 1.0)
        return [1 - share, share]


@deployment(input=Item)
class FailsToLoad:
    """Fails at load in the way of its argument."""

    def __init__(self, how: str) -> None:
        if how == "import":
            import no_such_library  # noqa: F401
        elif how == "exit":
            sys.exit("leaving")
        elif how == "raise":
            raise ValueError("the weights are missing")

    def __call__(self, batch: dict[str, Any]) -> Any:
        return ["x"] * len(batch["text"])


@deployment(input=Item)
class Weights:
    """Answers with what its checkpoint holds."""

    def __init__(self, folder: Any) -> None:
        self.said = folder.file("weights.txt").read_text()

    def __call__(self, batch: dict[str, Any]) -> Any:
        return [self.said] * len(batch["text"])


service = Service(
    Rude.bind(),
    Scorer.bind(),
    FailsToLoad.options(name="ImportFails").bind("import"),
    FailsToLoad.options(name="ConstructorExits").bind("exit"),
    FailsToLoad.options(name="ConstructorRaises").bind("raise"),
    FailsToLoad.options(
        name="WrongAnswer", examples=[{"input": {"text": "t"}, "prediction": "y"}]
    ).bind("not"),
    Weights.bind(checkpoint(os.environ.get("TEST_CHECKPOINT", str(Path(__file__).parent)))),
)
