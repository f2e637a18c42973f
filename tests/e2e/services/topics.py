"""A classifier of short texts, small enough to be made on the spot: weights of words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver import Service, checkpoint, deployment

CLASSES = ["cooking", "sailing", "chess"]
WORDS = {
    "cooking": "pan oven salt butter stew onion simmer roast knife dough yeast pepper",
    "sailing": "sail mast keel harbour wind anchor rudder crew deck tide bow rope",
    "chess": "pawn rook bishop knight castle mate queen endgame gambit opening clock board",
}
COMMON = "the a of and with we then after before long small good new old day time way"


class Text(BaseModel):
    """What is asked."""

    text: str


@deployment(input=Text)
class Topics:
    """Sums the weights of the words of a text."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        stored = json.loads(Path(folder, "weights.json").read_text("utf-8"))
        self._weights = {word: np.array(row) for word, row in stored.items()}
        self.classes_ = CLASSES

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Probabilities of a batch of texts."""
        nothing = np.zeros(len(CLASSES))
        scores = np.array(
            [
                sum((self._weights.get(word, nothing) for word in text.lower().split()), nothing)
                for text in batch["text"]
            ]
        )
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        return {"probabilities": shifted / shifted.sum(axis=1, keepdims=True)}


class Noted(Text):
    """The same with what few files have."""

    note: str = ""


@deployment(input=Noted)
class NotedTopics(Topics):
    """Does not look at it."""


@deployment(input=Text)
class Tags(Topics):
    """Says yes or no to each class by itself, so that its numbers do not sum to 1."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Scores of a batch of texts, each within 0 and 1."""
        return {"probabilities": super().__call__(batch)["probabilities"] ** 0.5}


def make(folder: Path, seed: int = 0) -> None:
    """Writes weights that know most of the words."""
    random = np.random.default_rng(seed)
    weights = {word: random.normal(0, 0.3, 3).tolist() for word in COMMON.split()}
    for position, name in enumerate(CLASSES):
        for word in WORDS[name].split():
            row = random.normal(0, 0.3, 3)
            row[position] += random.exponential(1.2)
            weights[word] = row.tolist()
    (folder / "weights.json").write_text(json.dumps(weights), "utf-8")


def rows(n: int, seed: int) -> list[dict[str, str]]:
    """Texts with their topics; some have few words of it."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        topic = CLASSES[random.integers(3)]
        own = random.choice(WORDS[topic].split(), random.integers(1, 4)).tolist()
        rest = random.choice(COMMON.split(), random.integers(3, 9)).tolist()
        words = [*own, *rest]
        random.shuffle(words)
        found.append({"text": " ".join(words), "topic": topic})
    return found


def _service(kind: Any) -> Service | None:
    folder = os.environ.get("TOPICS")
    return Service(kind.bind(checkpoint(folder))) if folder else None


service, noted, tags = _service(Topics), _service(NotedTopics), _service(Tags)
