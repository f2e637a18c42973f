"""What was promised, held against what was measured."""

from __future__ import annotations

from bench.goals import goals
from bench.results import Collected, Loop, Sample, Stay, online


def sample(round, system, model, rate, turn=0):
    return Sample(round, system, model, 64, rate, 1.0, 2.0, 0, 0.1, 0.0, turn=turn)


def found(samples, loops=()):
    stays = [Stay(s.round, s.system, s.model, 1.0, 50.0, 60.0, 2, 1) for s in samples]
    content = online(Collected(list(samples), stays, list(loops)), {})
    return {goal.what: goal for goal in goals(content)}


def test_a_rival_is_compared_turn_by_turn():
    """A machine that slows down between two turns of a round does not change the ratio."""
    samples = []
    for turn, speed in enumerate((1.0, 0.1, 0.2)):
        samples += [
            sample(1, "salver", "constant", 1500 * speed, turn),
            sample(1, "litserve", "constant", 100 * speed, turn),
        ]
    goal = found(samples)["constant, 64 connections: requests/s / those of litserve"]
    assert (goal.measured, goal.met) == ("15.00", True)


def test_a_rival_that_was_measured_alone_is_compared_with_the_first_turn():
    """It has but one turn in a round."""
    samples = [sample(1, "salver", "constant", 400, 0), sample(1, "salver", "constant", 9, 1)]
    samples.append(sample(1, "ray-batch", "constant", 100))
    goal = found(samples)["constant, 64 connections: requests/s / those of ray-batch"]
    assert (goal.measured, goal.met) == ("4.00", True)


def test_scikit_learn_is_held_against_loops_of_both_batch_sizes():
    """The loop that larger batches make faster is the harder limit, and both are said."""
    loops = [
        Loop(number, "sklearn", processes, 1, batch, rate * number, 1.0, 1.0, 90.0, 90.0)
        for number in (1, 2)
        for processes, batch, rate in ((1, 8, 60.0), (2, 8, 100.0), (2, 32, 300.0))
    ]
    samples = [sample(number, "salver", "sklearn", 120 * number) for number in (1, 2)]
    words = "sklearn, 64 connections: requests/s / rows/s of the bare loop in"
    said = found(samples, loops)
    small = said[f"{words} batches of 8"]
    best = said[f"{words} the batches that are best for it"]
    assert (small.measured, small.met) == ("1.20", True)
    assert (best.measured, best.met) == ("0.40", False)
