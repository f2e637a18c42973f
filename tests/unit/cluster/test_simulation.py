"""The simulation of autoscaling, with times and policies that can be worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salver.cluster.simulation import Load, Simulation

ONE = {1: 0.1}  # seconds of a batch: ten requests per second and row


def load(rates, batch_s=ONE, max_batch_size=1, start_s=0.0, max_ongoing=1000, look_back_s=1.0):
    return Load(rates, batch_s, max_batch_size, max_ongoing, start_s, look_back_s)


def fixed(n):
    return lambda _now, _under_way, _replicas: n


def test_without_requests_nothing_is_queued_or_answered():
    """An idle service has a latency of nothing, not of zero."""
    seconds = Simulation(load([0.0] * 3), fixed(1), 1).run()
    assert [(0, 1, 1, 0, None)] * 3 == [
        (s.rate, s.replicas, s.target, s.queued, s.p99_s) for s in seconds
    ]


def test_a_queue_grows_by_what_one_replica_cannot_answer():
    """Twenty requests a second at a replica that answers ten leave about ten more each second."""
    seconds = Simulation(load([20.0] * 20), fixed(1), 1).run()
    assert 20 * (20 - 10) == pytest.approx(seconds[-1].queued, rel=0.2)


def test_two_replicas_answer_twice_as_much():
    """The queue of twice the load at twice the replicas stays bounded."""
    seconds = Simulation(load([16.0] * 60), fixed(2), 2).run()
    assert seconds[-1].queued < 30
    lone = Simulation(load([16.0] * 60), fixed(1), 1).run()
    assert lone[-1].queued > 5 * 60


def test_batches_form_by_themselves_under_load():
    """A batch of eight that takes no longer than one row answers eight times as much."""
    batched = load([60.0] * 20, {1: 0.1, 8: 0.1}, max_batch_size=8)
    seconds = Simulation(batched, fixed(1), 1).run()
    assert seconds[-1].queued < 30
    assert max(s.p99_s for s in seconds if s.p99_s) < 0.35


def test_a_new_replica_answers_only_when_it_has_started():
    """Three seconds after the decision, and not before."""

    def later(now, _under_way, _replicas):
        return 2 if now >= 2 else 1

    seconds = Simulation(load([1.0] * 8, start_s=3.0), later, 1).run()
    assert [1, 1, 2, 2, 2, 2, 2, 2] == [s.target for s in seconds]
    assert [1, 1, 1, 1, 2, 2, 2, 2] == [s.replicas for s in seconds]


def test_one_more_replica_sends_none_away():
    """From two to three: the two that are ready stay."""

    def later(now, _under_way, _replicas):
        return 3 if now >= 1 else 2

    seconds = Simulation(load([1.0] * 6, start_s=2.0), later, 2).run()
    assert [2, 2, 3, 3, 3, 3] == [s.replicas for s in seconds]


def test_a_replica_that_leaves_answers_what_it_holds():
    """Every request is answered once, also when replicas come and go."""

    def wavering(now, _under_way, _replicas):
        return 1 + int(now) % 3

    simulation = Simulation(load([20.0] * 12 + [0.0] * 20, max_batch_size=4), wavering, 1)
    answered = 0
    original = simulation._seen

    def counted(arrived, now):
        nonlocal answered
        answered += len(simulation._latencies)
        return original(arrived, now)

    simulation._seen = counted
    seconds = simulation.run()
    assert sum(s.rate for s in seconds) == answered
    assert 0 == seconds[-1].queued


def test_the_policy_sees_the_mean_of_requests_under_way():
    """Averaged over the look-back, so that a short burst counts little."""
    seen = []

    def watching(_now, under_way, _replicas):
        seen.append(under_way)
        return 1

    Simulation(load([20.0] * 10, look_back_s=5.0), watching, 1).run()
    assert 0 == seen[0]
    assert all(late >= early - 1 for early, late in zip(seen, seen[20:], strict=False))


@given(
    sizes=st.dictionaries(st.integers(1, 64), st.floats(1e-4, 1.0), min_size=1),
    rows=st.integers(1, 64),
)
def test_the_time_of_a_batch_lies_between_its_neighbours(sizes, rows):
    """Measured sizes keep their time; one between two lies between their times."""
    batch_s = load([0.0], sizes).seconds_of(rows)
    assert batch_s >= 0
    if rows in sizes:
        assert sizes[rows] == batch_s
    below = [n for n in sizes if n < rows]
    above = [n for n in sizes if n > rows]
    if below and above and rows not in sizes:
        low, high = sizes[max(below)], sizes[min(above)]
        assert min(low, high) - 1e-9 <= batch_s <= max(low, high) + 1e-9


@settings(max_examples=20)
@given(st.lists(st.floats(0, 50), min_size=1, max_size=10), st.integers(0, 5))
def test_a_run_can_be_repeated(rates, seed):
    """The same trace and seed give the same numbers."""
    first, second = (Simulation(load(rates), fixed(2), 2, seed).run() for _ in range(2))
    assert first == second
    assert len(rates) == len(first)
