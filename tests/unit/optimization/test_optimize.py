"""What is chosen of what was measured, and what is kept of the original."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from salver.errors import CheckpointError
from salver.models.choices import Choice
from salver.offline.labelled import Labelled
from salver.optimization.answers import Answers
from salver.optimization.building import heard
from salver.optimization.fidelity import compared
from salver.optimization.optimize import best_of, golden, staying
from salver.optimization.results import Candidate
from salver.schema import Schema

torch = pytest.importorskip("torch")


def candidate(name: str, single: float, batched: float, **others: Any) -> Candidate:
    numbers = np.full((200, 2), 0.5)
    said = Answers(numbers, 2, ("a", "b"), ("a",) * 200, np.zeros(200, dtype=bool))
    found = {"fidelity": compared(said, [said]), **others}
    return Candidate(name, single_ratio=single, batched_ratio=batched, **found)


def test_the_fastest_that_passes_is_chosen() -> None:
    """At what it was asked to be fast at."""
    both = [candidate("a", 3.0, 1.5), candidate("b", 1.5, 3.0)]
    assert "b" == best_of(both, "throughput")
    assert "a" == best_of(both, "latency")


def test_what_is_refused_or_fails_is_never_chosen() -> None:
    """However fast it is."""
    spoilt = candidate("spoilt", 9.0, 9.0, refused=("too far",))
    failed = candidate("failed", 9.0, 9.0, trouble="no", fidelity=None)
    assert "good" == best_of([spoilt, failed, candidate("good", 1.2, 1.2)], "throughput")
    assert best_of([spoilt, failed], "throughput") is None


def test_a_little_faster_is_not_worth_another_runtime() -> None:
    """Nor is what noise alone can give."""
    assert best_of([candidate("a", 1.0, 1.05)], "throughput") is None
    assert best_of([candidate("a", 1.0, 1.5)], "throughput", 0.6) is None
    assert "a" == best_of([candidate("a", 1.0, 2.0)], "throughput", 0.6)


def test_what_was_not_measured_again_stays_in_use() -> None:
    """Where a run found nothing better: one that it did measure has lost its place."""
    before = Choice("Digits", "a", "0" * 64, "", "")
    failed = candidate("a", 0, 0, trouble="no", fidelity=None)
    refused = candidate("a", 9.0, 9.0, refused=("too far",))
    assert "a" == staying(before, None, [candidate("b", 1.0, 1.0)])
    assert "a" == staying(before, None, [failed])
    assert "" == staying(before, None, [refused])
    assert "" == staying(before, "b", [candidate("b", 2.0, 2.0)])
    assert "" == staying(None, None, [])
    assert "" == staying(replace(before, name=None), None, [])


class Model:
    """Asks its networks."""

    def __init__(self, *networks: Any) -> None:
        self.networks = networks

    def __call__(self, batch: Any) -> Any:
        found = torch.tensor(batch["x"], dtype=torch.float32)
        for network in self.networks:
            found = network(found)
        return found


def batches() -> list[Any]:
    return [{"x": np.ones((n, 2))} for n in (1, 3, 8)]


def test_the_part_that_computes_is_heard() -> None:
    """On each batch; one that is never asked does not count."""
    model = Model(torch.nn.Linear(2, 2))
    model.spare = torch.nn.Linear(5, 5)  # type: ignore[attr-defined]
    place, part, calls = heard(model, batches())
    assert ("networks", 0) == place
    assert "torch" == part.kind
    assert [1, 3, 8] == [len(call.arrays["input"]) for call in calls]


def test_a_model_without_a_part_says_what_is_looked_for() -> None:
    """And one with two, what to do."""
    with pytest.raises(CheckpointError, match="looks for a network of PyTorch"):
        heard(Model(), batches())
    with pytest.raises(CheckpointError, match=r"2 parts.*compose them"):
        heard(Model(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), batches())


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    day: dt.date


class Asked:
    """An original that was asked."""

    def __init__(self, *predictions: Any) -> None:
        self.first = [{"prediction": one} for one in predictions]


def test_golden_rows_are_sure_and_hold_the_input_alone() -> None:
    """Nothing else of a file becomes part of a variant, and a tie may flip at a start too."""
    schema = Schema(Text)
    given = [
        {
            "text": f"row {i}",
            "day": dt.date(2024, 5, i + 1),
            "tag": "secret",
            "at": dt.date(2024, 5, 1),
        }
        for i in range(4)
    ]
    batch = schema.check_rows([{"text": r["text"], "day": str(r["day"])} for r in given]).batch
    numbers = np.array([[0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.33, 0.33, 0.34]])
    said = Answers(numbers, 3, ("a", "b", "c"), ("",) * 4, np.zeros(4, dtype=bool))
    original: Any = Asked("a", "a", "withheld", "c")
    assert [{"input": {"text": "row 1", "day": "2024-05-02"}, "prediction": "a"}] == golden(
        schema, Labelled(batch, given), original, said
    )
