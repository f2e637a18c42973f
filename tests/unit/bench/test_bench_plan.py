"""What a run measures, in which order, and for how long."""

from __future__ import annotations

import pytest

from bench.plan import (
    CONTROL,
    SLOW_START_S,
    Loops,
    Together,
    UnknownName,
    Visit,
    enough,
    make,
    shuffled,
)


def names(plan, number, model):
    visits = []
    for step in plan.steps(number):
        if isinstance(step, Together):
            visits += step.visits
        elif isinstance(step, Visit):
            visits.append(step)
    return [v.system.name for v in visits if v.model == model]


def test_every_other_round_goes_in_the_opposite_order():
    """A drift of the machine falls on all alike."""
    plan = make(only=["salver", "litserve"])
    assert names(plan, 2, "constant") == names(plan, 1, "constant")[::-1]
    assert names(plan, 3, "constant") == names(plan, 1, "constant")


def test_the_limits_and_the_control_stand_in_every_round():
    """One who asks for two systems still gets the bare servers, the loops and the A/A control."""
    plan = make(only=["salver", "litserve"], models=["constant", "minilm"])
    assert set(names(plan, 1, "constant")) == {
        "bare-uvicorn",
        "bare-granian",
        "salver",
        "litserve",
        CONTROL,
    }
    assert set(names(plan, 1, "minilm")) == {"salver", "litserve", CONTROL}
    assert [s.model for s in plan.steps(2) if isinstance(s, Loops)] == ["minilm"]


def test_the_twins_of_the_control_stand_apart():
    """What is measured twice in a row would agree too well."""
    order = names(make(only=["salver", "fastapi", "litserve", "mosec"]), 1, "minilm")
    assert abs(order.index("salver") - order.index(CONTROL)) == len(order) - 1


def test_systems_that_start_quickly_are_measured_in_turns():
    """They run side by side, so that a turn is short; the others stand alone."""
    slow = [system.name for system in make().systems if system.cost_s >= SLOW_START_S]
    steps = [s for s in make().steps(1) if not isinstance(s, Loops)]
    alone = {s.system.name for s in steps if isinstance(s, Visit)}
    together = {v.system.name for s in steps if isinstance(s, Together) for v in s.visits}
    assert alone == set(slow)
    assert together == {system.name for system in make().systems} - alone


def test_each_turn_has_an_order_of_its_own():
    """So that no system always follows the same one; another run has the same orders."""
    orders = [shuffled(5, 1, 64, turn) for turn in range(20)]
    assert orders == [shuffled(5, 1, 64, turn) for turn in range(20)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert {order[0] for order in orders} == {0, 1, 2, 3, 4}


def test_a_system_that_is_slow_to_start_is_spared_unless_it_is_asked_for():
    """Its start would take most of the time: fewer rounds, and only the models that decide."""
    slow = [system.name for system in make().systems if system.cost_s >= SLOW_START_S]
    assert slow
    assert set(slow) <= set(names(make(), 1, "minilm"))
    assert not set(slow) & {*names(make(), 5, "minilm"), *names(make(), 1, "bert-base")}
    asked = make(only=[slow[0]])
    assert slow[0] in names(asked, 5, "minilm")
    assert slow[0] in names(asked, 1, "bert-base")


@pytest.mark.parametrize(
    ("connections", "rate", "seconds"), [(64, 1000, 4), (64, 50, 5.12), (256, 10, 8), (64, None, 4)]
)
def test_a_slow_server_is_measured_longer(connections, rate, seconds):
    """Long enough that the empty queue at first is a small part, twice the plan at most."""
    assert enough(4, connections, rate) == seconds


def test_asking_for_connections_and_seconds_overrides_the_defaults():
    """What is asked for is measured, also where the model's defaults differ."""
    plan = make(models=["bert-base"], connections=[1, 64], seconds=2)
    assert plan.models["bert-base"].seconds == {1: 2, 64: 2}


def test_a_full_run_takes_about_an_hour():
    """The estimate that is printed, in minutes; the offline part comes on top."""
    assert make().cost_s / 60 < 70


@pytest.mark.parametrize("given", [{"only": ["slaver"]}, {"models": ["gpt"]}])
def test_an_unknown_name_is_an_error_that_lists_the_known(given):
    """A misspelt system or model is not silently left out."""
    with pytest.raises(UnknownName, match=r"salver|constant"):
        make(**given)
