"""What every kind of replica promises, held against the bare pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from replicas import KINDS, Running, batch_of, deployment, running

from salver.engine.loading import load
from salver.errors import ReplicaStartFailed
from salver.models.checkpoint import Checkpoint
from salver.types import Outcome


@pytest.fixture(scope="module", params=KINDS)
def echo(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param, "Echo") as replica:
        yield replica


def bare(*rows: Any) -> list[Outcome]:
    """Outcomes of the pipeline in this process, without a replica around it."""
    pipeline = load(deployment("Echo"), {}, lambda _text: None).pipeline
    return list(pipeline.run(batch_of("Echo", rows)))


def seen(outcomes: list[Outcome]) -> list[Any]:
    """Outcomes without the tracebacks, which name lines."""
    return [(o.value, o.failure and o.failure.as_json(), o.abstained) for o in outcomes]


ORDINARY = ["", "a", "three", "a long text", "sixsix"]


def test_outcomes_are_those_of_the_pipeline(echo: Running) -> None:
    """Values, probabilities to the bit and abstentions arrive as the pipeline made them."""
    outcomes = echo.run(*ORDINARY)
    assert seen(bare(*ORDINARY)) == seen(outcomes)
    assert ["short", "short", "unsure", "long", "long"] != [o["prediction"] for o in outcomes[:1]]
    assert [False, False, True, False, False] == [o.abstained for o in outcomes]


def test_no_rows_give_no_outcomes(echo: Running) -> None:
    """An empty batch is no error."""
    assert [] == echo.run()


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        ("raise", "model_error", "raised ValueError"),
        ("exit", "model_error", "raised SystemExit"),
        ("interrupt", "model_error", "raised KeyboardInterrupt"),
        ("too few", "bad_model_output", "has 0 entries, expected 1"),
        ("type", "bad_model_output", "holds a object"),
        ("nan", "", "probabilities"),
    ],
)
def test_a_bad_row_stays_alone(echo: Running, bad: str, code: str, says: str) -> None:
    """Whatever a row makes the model do, it fails alone and the replica goes on."""
    rows = [*ORDINARY[:3], bad, *ORDINARY[3:]]
    outcomes = echo.run(*rows)

    assert seen(bare(*rows)) == seen(outcomes)
    assert [3] == [i for i, outcome in enumerate(outcomes) if not outcome.ok]
    failure = outcomes[3].failure
    assert failure is not None
    assert code in failure.code
    assert says in failure.message
    assert "Traceback" not in failure.message
    assert seen(bare(*ORDINARY)) == seen(echo.run(*ORDINARY))


def test_a_raising_model_leaves_its_traceback_to_the_owner(echo: Running) -> None:
    """`detail` shows the line that raised; `message` does not."""
    (outcome,) = echo.run("raise")
    assert outcome.failure is not None
    assert "as the row asked" not in outcome.failure.message
    assert re.search(r"_misbehave[\s\S]*ValueError: as the row asked", outcome.failure.detail or "")


def test_a_model_may_print(echo: Running) -> None:
    """A megabyte on stdout and stderr neither blocks the replica nor gets into its answers."""
    assert ["loud"] == [o["echo"] for o in echo.run("loud")]


@pytest.mark.parametrize(
    "text",
    ["👩‍👩‍👧‍👦 🇫🇷 e\u0301", "ends in NUL\0", "\0\0", "שלום مرحبا", "\u202eltr", "x" * 100_000, "\ud800"],
    ids=["emoji", "nul", "only nul", "rtl", "override", "100,000 characters", "surrogate"],
)
def test_texts_arrive_whole(echo: Running, text: str) -> None:
    """Any text reaches the model and comes back as it was, or fails as in the pipeline."""
    outcomes = echo.run("before", text, "after")
    assert seen(bare("before", text, "after")) == seen(outcomes)
    assert "before" == outcomes[0]["echo"]
    if outcomes[1].ok:
        assert text == outcomes[1]["echo"]


@pytest.mark.parametrize(
    "extra",
    [2**70, -(2**64), {"deep": [{"n": 2**63}]}, [None, True, 0.1, ""], {"": {}}, 1e308],
    ids=str,
)
def test_values_of_object_fields_arrive_whole(echo: Running, extra: Any) -> None:
    """Nested values and integers of any size reach the model as they are."""
    (outcome,) = echo.run({"text": "x", "extra": extra})
    assert repr(extra) == outcome["extra"]


def test_a_great_batch_arrives_whole(echo: Running) -> None:
    """A thousand rows of several megabytes come back in order."""
    texts = [f"{i} " + "y" * 5000 for i in range(1000)]
    assert texts == [o["echo"] for o in echo.run(*texts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("RaisesAtStart", r"Traceback[\s\S]*__init__[\s\S]*FileNotFoundError: weights.bin"),
        ("ExitsAtStart", r"Traceback[\s\S]*SystemExit: no licence"),
        ("ImportsWhatIsMissing", r"No module named 'a_library_that_is_not_installed'"),
        ("AnswersOtherwise", r"answered 'short' to its golden example.*recorded was 'long'"),
        ("FailsItsExample", r"failed on its golden example[\s\S]*ValueError: as the row asked"),
    ],
)
def test_a_start_that_fails_says_why(kind: str, name: str, says: str) -> None:
    """The error of the start holds the reason as it happened where the model was loaded."""
    with pytest.raises(ReplicaStartFailed, match=says), running(kind, name):
        raise AssertionError("it started")


def resolved(folder: Path) -> dict[str, Any]:
    return {"0": {"path": str(folder), "digest": Checkpoint.open(folder).digest, "source": "x"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_verified_where_it_is_loaded(kind: str, tmp_path: Path) -> None:
    """A replica loads what the digest names, and refuses to start on one flipped byte."""
    (tmp_path / "word.txt").write_text("salver")
    Checkpoint.create(tmp_path, {})
    given = resolved(tmp_path)
    with running(kind, "Weights", given) as replica:
        assert ["salver"] == [o["prediction"] for o in replica.run("x")]

    (tmp_path / "word.txt").write_text("sAlver")
    with pytest.raises(ReplicaStartFailed, match=r"word\.txt"), running(kind, "Weights", given):
        raise AssertionError("it started")
