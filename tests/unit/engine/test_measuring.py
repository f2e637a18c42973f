"""The trial of a replica: on a clock of its own, and on the memory of this process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from engine.fakes import FIELDS, batch_of, run, settle
from salver.engine.measuring import BOX_S, WARM_UP_S, available_bytes, resident_bytes, timed, tried
from salver.engine.planning import SIZES, Trial
from salver.errors import ReplicaDied
from salver.types import Batch, Failure, Outcomes

ROWS = Batch(FIELDS, [(f"row {i}",) for i in range(max(SIZES))])


class Model:
    """Takes as long as it is told, on the clock of the running loop."""

    def __init__(self, batch_s: float, row_s: float, warm_up_s: float = 0.0) -> None:
        self.batch_s, self.row_s, self.warm_up_s = batch_s, row_s, warm_up_s
        self.asked: list[int] = []

    async def __call__(self, batch: Batch) -> Outcomes:
        first = not self.asked
        self.asked.append(len(batch))
        await asyncio.sleep(self.batch_s + self.row_s * len(batch) + self.warm_up_s * first)
        return Outcomes(len(batch), {"prediction": ["x"] * len(batch)})


def trial_of(model: Model, sizes: tuple[int, ...] = SIZES) -> tuple[dict[int, float], str, float]:
    async def scenario() -> tuple[dict[int, float], str, float]:
        clock = asyncio.get_running_loop().time
        begun = clock()
        seconds, trouble = await timed(model, ROWS, sizes, clock=clock)
        return seconds, trouble, clock() - begun

    return run(scenario())


def test_every_size_of_a_quick_model_is_timed() -> None:
    """The first call is not counted."""
    model = Model(1e-3, 1e-5, warm_up_s=0.05)
    seconds, trouble, took = trial_of(model)
    assert "" == trouble
    assert {n: pytest.approx(1e-3 + n * 1e-5) for n in SIZES} == seconds
    assert 1 == model.asked[0]
    assert took <= 0.05 + 1e-3 + 1e-5 + BOX_S


def test_a_slow_model_is_timed_as_far_as_time_allows() -> None:
    """Sizes that would not fit are left out."""
    seconds, trouble, took = trial_of(Model(0, 0.01))
    assert "" == trouble
    assert [1, 2, 4] == sorted(seconds)
    assert took <= 0.01 + BOX_S


def test_a_slow_model_is_timed_whole_where_there_is_time() -> None:
    """As before a simulation, which nobody waits for at a start."""

    async def scenario() -> tuple[dict[int, float], str]:
        clock = asyncio.get_running_loop().time
        model = Model(0, 0.1, warm_up_s=2.0)
        return await timed(model, ROWS, (1, 2), box_s=10.0, warm_up_s=10.0, clock=clock)

    assert ({1: pytest.approx(0.1), 2: pytest.approx(0.2)}, "") == run(scenario())


def test_a_slow_first_call_leaves_all_the_time_for_the_others() -> None:
    """A model that imports or compiles on its first call is known as well as any other."""
    seconds, trouble, took = trial_of(Model(1e-3, 1e-5, warm_up_s=0.9 * WARM_UP_S))
    assert ("", list(SIZES)) == (trouble, sorted(seconds))
    assert took <= WARM_UP_S + BOX_S


def test_a_model_slower_than_the_time_for_its_first_call_is_not_waited_for() -> None:
    """The call goes on by itself; nothing was timed, and why is said."""
    seconds, trouble, took = trial_of(Model(0, 3600))
    assert ({}, pytest.approx(WARM_UP_S)) == (seconds, took)
    assert "a batch took more than 0.5 s" == trouble


def test_what_was_timed_before_the_box_ended_counts() -> None:
    """A batch that takes longer than expected ends the trial, not its results."""

    class Sudden(Model):
        async def __call__(self, batch: Batch) -> Outcomes:
            self.row_s = 3600 if len(batch) == 4 else self.row_s
            return await super().__call__(batch)

    seconds, trouble, _ = trial_of(Sudden(0, 0.001))
    assert [1, 2] == sorted(seconds)
    assert "more than" in trouble


def test_only_the_sizes_wanted_are_asked() -> None:
    """A model that was said to take 3 rows at most never sees 4."""
    model = Model(1e-3, 1e-3)
    seconds, _, _ = trial_of(model, (3,))
    assert [3] == list(seconds)
    assert {1, 3} == set(model.asked)


def test_trouble_is_told_and_not_raised() -> None:
    """A model that fails or dies on an invented row starts all the same."""

    async def fails(batch: Batch) -> Outcomes:
        return Outcomes(len(batch), {}, {0: Failure("model_error", "no")})

    async def dies(batch: Batch) -> Outcomes:
        raise ReplicaDied("ended")

    async def scenario() -> None:
        for model, says in ((fails, "the model failed on"), (dies, "its replica ended on")):
            seconds, trouble = await timed(model, ROWS, SIZES)
            assert {} == seconds
            assert says in trouble
            assert "examples=[...]" in trouble
        assert ({}, True) == _and(await timed(fails, None, SIZES), "no row could be made")

    def _and(found: tuple[dict[int, float], str], says: str) -> tuple[dict[int, float], bool]:
        return found[0], says in found[1]

    run(scenario())


def test_a_trial_weighs_a_process_and_no_thread() -> None:
    """Memory is that of the replica's own process."""

    async def quick(batch: Batch) -> Outcomes:
        return Outcomes(len(batch), {"prediction": ["x"] * len(batch)})

    async def scenario() -> tuple[Trial, Trial]:
        await settle()
        return await tried(quick, ROWS, (1,), os.getpid()), await tried(quick, ROWS, (1,), None)

    process, thread = asyncio.run(scenario())
    assert process.seconds
    if Path("/proc/self/status").exists():
        assert process.resident is not None
        assert process.resident > 2**20
    assert thread.resident is None


def test_memory_is_read_as_the_system_tells_it(tmp_path: Path) -> None:
    """A process's own share is better than what it maps; a container's limit counts too."""
    assert resident_bytes(7, tmp_path) is None
    assert available_bytes(tmp_path, tmp_path) is None
    process = tmp_path / "7"
    process.mkdir()
    (process / "status").write_text("Name:\tx\nVmRSS:\t    2000 kB\n")
    assert 2000 * 1024 == resident_bytes(7, tmp_path)
    (process / "smaps_rollup").write_text("00-ff ---p [rollup]\nRss: 2000 kB\nPss:  500 kB\n")
    assert 500 * 1024 == resident_bytes(7, tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:   4000 kB\n")
    assert 4000 * 1024 == available_bytes(tmp_path, tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert 4000 * 1024 == available_bytes(tmp_path, tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 900000\ninactive_file 100000\n")
    assert 2_100_000 == available_bytes(tmp_path, tmp_path)


def test_the_rows_are_those_given() -> None:
    """Batches of a trial are the first of the rows it was given."""
    seen = []

    async def notes(batch: Batch) -> Outcomes:
        seen.append([row[0] for row in batch.rows])
        return Outcomes(len(batch), {"prediction": ["x"] * len(batch)})

    run(timed(notes, batch_of("a", "b"), (1, 2)))  # type: ignore[arg-type]
    assert [["a"], ["a"], ["a", "b"]] == seen[:3]
