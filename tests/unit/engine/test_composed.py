"""Composed functions: plain Python over the rows of one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from engine.fakes import batch_of, run
from salver import deployment
from salver.engine.composed import ComposedHandle
from salver.errors import DeadlineExceeded, QueueFull
from salver.types import Failure, Outcome


class Text(BaseModel):
    text: str


def handle(function: Callable[..., Any], **options: Any) -> ComposedHandle:
    return ComposedHandle(deployment(input=Text, **options)(function).bind())


def ask(function: Callable[..., Any], *texts: str, **options: Any) -> list[Outcome]:
    async def scenario() -> list[Outcome]:
        return await handle(function, **options).ask(batch_of(*texts))

    return run(scenario())


def test_a_function_gets_rows_and_gives_one_result_per_row() -> None:
    """Mappings, plain labels and outcomes of other deployments are all results."""
    seen: list[Any] = []
    passed_on = Outcome({"prediction": "c"}, None, True)

    async def triage(rows: list[dict[str, str]]) -> list[Any]:
        seen.extend(rows)
        return [{"prediction": "a", "score": 1.5}, "b", passed_on]

    outcomes = ask(triage, "x", "y", "z")

    assert [{"text": "x"}, {"text": "y"}, {"text": "z"}] == seen
    assert {"prediction": "a", "score": 1.5} == outcomes[0].value
    assert "b" == outcomes[1]["prediction"]
    assert passed_on == outcomes[2]


def test_no_rows_do_not_reach_the_function() -> None:
    """An empty batch has no outcomes."""

    async def never(rows: Any) -> Any:
        raise AssertionError

    assert [] == ask(never)


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), RecursionError(), StopIteration()],
)
def test_a_bad_row_stays_alone(error: BaseException) -> None:
    """Whatever the function raises, only the row concerned fails; the loop goes on."""

    async def triage(rows: list[dict[str, str]]) -> list[str]:
        if any(row["text"] == "bad" for row in rows):
            raise error
        return [row["text"].upper() for row in rows]

    outcomes = ask(triage, *"abc", "bad", *"de")

    assert [True, True, True, False, True, True] == [o.ok for o in outcomes]
    failure = outcomes[3].failure
    assert failure is not None
    assert "model_error" == failure.code
    assert "Traceback" in str(failure.detail)


def test_a_row_that_failed_in_a_part_keeps_its_failure() -> None:
    """Reading a failed outcome gives the row that outcome's failure, not a new one."""
    failure = Failure("non_finite_output", "NaN.")

    async def triage(rows: list[dict[str, str]]) -> list[str]:
        parts = [
            Outcome(None, failure) if r["text"] == "bad" else Outcome({"prediction": "p"})
            for r in rows
        ]
        return [part["prediction"] for part in parts]

    outcomes = ask(triage, "a", "bad")

    assert "p" == outcomes[0]["prediction"]
    assert failure == outcomes[1].failure


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (["a", "b"], "2 results"),
        ("a", "1 results"),
        (None, "no results"),
        ([{"x": object()}], "holds a object"),
    ],
)
def test_what_is_not_one_result_per_row_is_a_bad_output(result: Any, says: str) -> None:
    """The row fails with `bad_model_output`, which says what was given."""

    async def triage(rows: Any) -> Any:
        return result

    (outcome,) = ask(triage, "x")

    assert outcome.failure is not None
    assert "bad_model_output" == outcome.failure.code
    assert says in outcome.failure.message


def test_a_result_that_is_not_finite_fails_its_row() -> None:
    """NaN and infinity never leave, and neighbours keep their results."""

    async def triage(rows: Any) -> Any:
        return [{"score": float("nan")}, {"score": 1.0}]

    outcomes = ask(triage, "x", "y")

    assert outcomes[0].failure is not None
    assert "non_finite_output" == outcomes[0].failure.code
    assert 1.0 == outcomes[1]["score"]


def test_a_full_queue_of_a_part_concerns_the_whole_request() -> None:
    """The asker is told to come again; the function is not run on halves of the rows."""
    calls: list[int] = []

    async def triage(rows: Any) -> Any:
        calls.append(len(rows))
        raise QueueFull("full", 7)

    with pytest.raises(QueueFull) as caught:
        ask(triage, "x", "y")

    assert [2] == calls
    assert 7 == caught.value.retry_after_s


def test_the_deadline_ends_the_function() -> None:
    """After `request_timeout_s` the function is cancelled and the asker is told."""
    cancelled: list[bool] = []

    async def triage(rows: Any) -> Any:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(DeadlineExceeded, match=r"triage .* within 3 s.*request_timeout_s"):
        ask(triage, "x", request_timeout_s=3)

    assert [True] == cancelled


def test_a_shorter_deadline_of_the_asker_counts() -> None:
    """`timeout_s` is stronger than the option."""

    async def slow(rows: Any) -> Any:
        await asyncio.sleep(100)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceeded, match="within 1 s"):
            await handle(slow).ask(batch_of("x"), timeout_s=1)

    run(scenario())


def test_a_timeout_of_the_functions_own_concerns_its_row_only() -> None:
    """A `TimeoutError` that the function raises is not the deadline of the request."""

    async def triage(rows: list[dict[str, str]]) -> list[str]:
        if any(row["text"] == "bad" for row in rows):
            raise TimeoutError("the database")
        return [row["text"] for row in rows]

    outcomes = ask(triage, "a", "bad", "c")

    assert [True, False, True] == [o.ok for o in outcomes]
    assert "model_error" == getattr(outcomes[1].failure, "code", None)
