"""Which offline jobs a round runs, and in which order."""

from pathlib import Path

from bench import offline_plan
from bench.offline_plan import FILE_ROWS, GROWTH_ROUNDS, GROWTH_ROWS, JOBS, START_ROWS, Files
from bench.plan import CONTROL, CONTROL_OF
from bench.systems import Setup

FILES = Files(Path("in.csv"), Path("out"))


def systems(number, model, rows):
    """Who predicts so many rows in one round, in order."""
    return [
        task.system
        for task in offline_plan.tasks(number)
        if (task.model, task.rows) == (model, rows)
    ]


def test_rounds_alternate_and_salver_stands_far_from_its_twin():
    """What a drift of the machine does to one round, it undoes in the next."""
    first = systems(1, "minilm", FILE_ROWS)
    assert first == [*(job.name for job in JOBS), CONTROL]
    assert systems(2, "minilm", FILE_ROWS) == first[::-1]
    assert CONTROL_OF in first


def test_every_file_goes_with_one_that_tells_the_start():
    """In the same round, for each system and model."""
    for number in (1, GROWTH_ROUNDS + 1):
        for task in offline_plan.tasks(number):
            assert task.system in systems(number, task.model, START_ROWS)


def test_growth_stops_after_a_few_rounds():
    """A million rows take long."""
    assert {CONTROL_OF, "pandas"} < set(systems(GROWTH_ROUNDS, "constant", GROWTH_ROWS[-1]))
    assert systems(GROWTH_ROUNDS + 1, "constant", GROWTH_ROWS[-1]) == []


def test_a_command_is_told_the_model_the_files_and_its_share_of_the_cores():
    """Each job's command is complete."""
    for job in JOBS:
        workers, threads = job.shape(2)
        setup = Setup("minilm", Path("models"), 0, threads, workers, 2, Path("bin/python"))
        command = job.command(setup, FILES)
        assert {"in.csv", "out"} < set(command)
        assert not any("{" in part for part in command)
        assert workers * threads == 2


def test_the_bare_loops_are_the_only_limits():
    """One for each way to use the cores."""
    assert [job.shape(2) for job in JOBS if job.bare] == [(1, 2), (2, 1)]
