"""The batcher: which waiting rows go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from salver.engine.batching import LESSON_EVERY, WINDOW, Batcher, Entry, Full


@dataclass
class Asker:
    gone: bool = False


def entry(length: int = 1, arrived: float = 0.0, deadline: float = math.inf) -> Entry:
    return Entry(("x" * length,), length, arrived, deadline, Asker(), 0)


def lengths(entries: list[Entry]) -> list[int]:
    return sorted(e.length for e in entries)


def test_an_idle_service_adds_no_delay() -> None:
    """A single row is handed out at once, and nothing is ready when nothing waits."""
    batcher = Batcher(max_batch_size=8, limit=10)
    assert batcher.ready_at() is None
    assert [] == batcher.take(0.0)

    one = entry()
    batcher.put([one])

    assert -math.inf == batcher.ready_at()
    assert [one] == batcher.take(0.0)
    assert 0 == len(batcher)


def test_rows_of_similar_length_go_together() -> None:
    """The batch is the oldest row and the rows nearest to it in length."""
    batcher = Batcher(max_batch_size=3, limit=10)
    batcher.put([entry(n) for n in (50, 1, 2, 49, 51, 3)])

    assert [49, 50, 51] == lengths(batcher.take(0.0))
    assert [1, 2, 3] == lengths(batcher.take(0.0))


def test_neighbours_are_sought_among_eight_batches() -> None:
    """A row far behind is not called to the front, however well it would go with the oldest."""
    batcher = Batcher(max_batch_size=2, limit=100)
    batcher.put([entry(50), *[entry(n) for n in range(100, 115)], entry(50)])

    assert [50, 100] == lengths(batcher.take(0.0))


def test_the_oldest_row_is_in_every_batch() -> None:
    """A long row is not overtaken by short ones that keep coming."""
    batcher = Batcher(max_batch_size=2, limit=10)
    long = entry(1000)
    batcher.put([long, *[entry(1) for _ in range(5)]])

    assert long in batcher.take(0.0)


def loaded(rows: int = 8) -> Batcher:
    """After many batches of a model whose batch costs as much as ten rows."""
    batcher = Batcher(max_batch_size=64, limit=1000)
    for n in (1, 2, 4, 8, 16) * 20:
        batcher.costs.observe([100] * n, 0.01 + 0.001 * n)
    for _ in range(50):
        batcher.put([entry(100) for _ in range(rows)])
        assert rows == len(batcher.take(0.0))
    return batcher


def test_few_rows_are_no_batch_of_their_own_under_load() -> None:
    """While another replica computes, they wait for more, as long as a batch costs at most."""
    batcher = loaded()
    batcher.put([entry(100, arrived=5.0) for _ in range(3)])

    assert 5.01 == pytest.approx(batcher.ready_at(busy=1), abs=1e-3)
    assert [] == batcher.take(5.001, idle=1, busy=1)
    batcher.put([entry(100, arrived=5.0) for _ in range(3)])
    assert 6 == len(batcher.take(5.001, idle=1, busy=1))
    batcher.put([entry(100, arrived=5.0)])
    assert 1 == len(batcher.take(5.02, idle=1, busy=1))


def test_a_lone_replica_never_waits() -> None:
    """With nothing under way there is nothing to wait for."""
    batcher = loaded()
    batcher.put([entry(100)])

    assert 1 == len(batcher.take(0.0, idle=2, busy=0))


def test_without_load_no_row_waits() -> None:
    """Two askers at once get a replica each, whatever a batch costs."""
    batcher = loaded(rows=2)
    batcher.put([entry(100), entry(100)])

    assert 1 == len(batcher.take(0.0, idle=2, busy=0))
    assert 1 == len(batcher.take(0.0, idle=1, busy=1))


def test_rows_are_not_spread_over_replicas_when_that_costs_more() -> None:
    """Half of them would not be worth a batch; twice as many are."""
    batcher = loaded()
    batcher.put([entry(100) for _ in range(8)])
    assert 8 == len(batcher.take(0.0, idle=2))

    batcher.put([entry(100) for _ in range(16)])
    assert 8 == len(batcher.take(0.0, idle=2))


def test_rows_that_do_not_fit_the_bound_are_refused_together() -> None:
    """Either all rows of an asker are taken or none."""
    batcher = Batcher(max_batch_size=8, limit=3)
    batcher.put([entry(), entry()])

    with pytest.raises(Full):
        batcher.put([entry(), entry()])

    assert 2 == len(batcher)
    batcher.put([entry()])
    assert 3 == len(batcher)


def test_rows_nobody_waits_for_take_no_place_from_others() -> None:
    """A full queue of rows whose askers left has room for an asker who is there."""
    batcher = Batcher(max_batch_size=2, limit=2)
    left = [entry(), entry()]
    batcher.put(left)
    for one in left:
        one.waiter.gone = True

    there = entry()
    batcher.put([there])

    assert [there] == batcher.take(0.0)


def test_a_batch_that_is_not_full_waits() -> None:
    """With a wait, a batch is ready when it is full or when its oldest row has waited."""
    batcher = Batcher(max_batch_size=3, limit=10, wait_s=0.5)
    batcher.put([entry(arrived=1.0), entry(arrived=1.2)])

    assert 1.5 == batcher.ready_at()
    assert [] == batcher.take(1.4)
    assert 2 == len(batcher.take(1.5))

    batcher.put([entry(arrived=2.0) for _ in range(3)])
    assert 3 == len(batcher.take(2.0))


def test_a_full_batch_is_not_torn_apart_by_idle_replicas_when_it_was_waited_for() -> None:
    """Who asks to wait for full batches gets full batches, also when several replicas are free."""
    batcher = Batcher(max_batch_size=4, limit=10, wait_s=0.5)
    batcher.put([entry() for _ in range(4)])

    assert 4 == len(batcher.take(0.0, idle=4))


def test_rows_that_left_do_not_fill_a_batch() -> None:
    """Rows whose asker has gone count neither as rows nor as time waited."""
    batcher = Batcher(max_batch_size=2, limit=10, wait_s=0.5)
    gone, new = entry(arrived=0.0), entry(arrived=0.4)
    batcher.put([gone, new])
    gone.waiter.gone = True

    assert [] == batcher.take(0.5)
    assert [new] == batcher.take(0.9)


def test_what_waits_is_spread_over_free_replicas() -> None:
    """Eight rows and four free replicas make four batches of two."""
    batcher = Batcher(max_batch_size=8, limit=10)
    batcher.put([entry() for _ in range(8)])

    assert [2, 2, 2, 2] == [len(batcher.take(0.0, idle)) for idle in (4, 3, 2, 1)]


def test_rows_nobody_waits_for_cost_no_prediction() -> None:
    """Rows whose asker left or whose deadline has passed are dropped."""
    batcher = Batcher(max_batch_size=8, limit=10)
    left, late, wanted = entry(), entry(deadline=1.0), entry(deadline=1.1)
    left.waiter.gone = True
    batcher.put([left, late, wanted])

    assert [wanted] == batcher.take(1.0)
    assert 0 == len(batcher)


def test_a_great_many_rows_that_left_are_dropped_at_once() -> None:
    """Hundreds of thousands of abandoned rows do not stand in the way of one that is wanted."""
    batcher = Batcher(max_batch_size=8, limit=1_000_000)
    gone = Asker(gone=True)
    row = ("x",)
    batcher.put([Entry(row, 1, 0.0, math.inf, gone, i) for i in range(300_000)])
    wanted = entry()
    batcher.put([wanted])

    assert [wanted] == batcher.take(0.0)
    assert 0 == len(batcher)


def test_a_batch_may_be_larger_than_the_window() -> None:
    """`max_batch_size` is honoured however large it is."""
    batcher = Batcher(max_batch_size=4 * WINDOW, limit=10_000)
    batcher.put([entry() for _ in range(5 * WINDOW)])

    assert 4 * WINDOW == len(batcher.take(0.0))


def test_drain_removes_everything() -> None:
    """What is drained is what waited, in order of arrival."""
    batcher = Batcher(max_batch_size=8, limit=10)
    rows = [entry(n) for n in (3, 1, 2)]
    batcher.put(rows)

    assert rows == batcher.drain()
    assert 0 == len(batcher)


class AnyHistory(RuleBasedStateMachine):
    """A batcher under any order of arrivals, departures, time and takes."""

    @initialize(
        size=strategies.integers(1, 9),
        limit=strategies.integers(1, 40),
        wait=strategies.sampled_from([0.0, 0.0, 0.5, 2.0]),
    )
    def make(self, size: int, limit: int, wait: float) -> None:
        self.batcher = Batcher(size, limit, wait)
        self.now = 0.0
        self.waiting: list[Entry] = []
        self.older: dict[Entry, int] = {}
        self.takes: dict[Entry, int] = {}

    @rule(
        sizes=strategies.lists(strategies.integers(0, 500), min_size=1, max_size=12),
        patience=strategies.sampled_from([0.25, 1.0, math.inf]),
    )
    def arrive(self, sizes: list[int], patience: float) -> None:
        new = [entry(n, self.now, self.now + patience) for n in sizes]
        there = sum(not one.waiter.gone for one in self.waiting)
        try:
            self.batcher.put(new)
        except Full:
            assert len(self.batcher) + len(new) > self.batcher.limit
            assert len(self.batcher) >= there - sum(e.deadline <= self.now for e in self.waiting)
            return
        for one in new:
            self.older[one], self.takes[one] = len(self.waiting), 0
            self.waiting.append(one)

    @precondition(lambda self: self.waiting)
    @rule(which=strategies.integers(0, 1000))
    def leave(self, which: int) -> None:
        self.waiting[which % len(self.waiting)].waiter.gone = True

    @rule(seconds=strategies.sampled_from([0.125, 0.25, 0.5, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(idle=strategies.integers(1, 5))
    def take(self, idle: int) -> None:
        wanted = [e for e in self.waiting if not e.waiter.gone and e.deadline > self.now]
        ready_at = self.batcher.ready_at()
        taken = self.batcher.take(self.now, idle)
        assert len(taken) == len(set(taken)) <= self.batcher.max_batch_size
        assert set(taken) <= set(wanted), "a row was handed out twice, or nobody wanted it"
        self.check_readiness(wanted, taken, idle)
        if taken:
            assert wanted[0] in taken, "the oldest row was passed over"
            assert ready_at is not None and ready_at <= self.now
        for one in wanted:
            self.takes[one] += bool(taken)
            assert self.takes[one] <= self.older[one] + 1, "a row starved"
        self.waiting = [e for e in wanted if e not in taken]
        assert len(self.batcher) == len(self.waiting), "a row was lost, or kept although unwanted"

    def check_readiness(self, wanted: list[Entry], taken: list[Entry], idle: int) -> None:
        size, wait = self.batcher.max_batch_size, self.batcher.wait_s
        ready = bool(wanted) and (len(wanted) >= size or wanted[0].arrived + wait <= self.now)
        assert ready == bool(taken)
        share = math.ceil(len(wanted) / (1 if wait else idle))
        assert not ready or len(taken) == min(size, share)

    @invariant()
    def bound_is_kept(self) -> None:
        if hasattr(self, "batcher"):
            assert len(self.batcher) <= self.batcher.limit


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestAnyHistory(AnyHistory.TestCase):
    """Rows go out once or are dropped unwanted; none starves; bounds, sizes and waits are kept."""


def test_a_refusal_under_overload_does_not_look_at_the_queue_again() -> None:
    """Waiters are asked once whether they left, until a batch is taken."""
    looks: list[int] = []

    class Counts:
        @property
        def gone(self) -> bool:
            looks.append(1)
            return False

    batcher = Batcher(max_batch_size=1, limit=4)
    batcher.put([Entry(("x",), 1, 0.0, math.inf, Counts(), 0) for _ in range(4)])
    for _ in range(10):
        with pytest.raises(Full):
            batcher.put([entry()])

    assert 4 == len(looks)
    batcher.take(0.0)
    before = len(looks)
    with pytest.raises(Full):
        batcher.put([entry(), entry()])
    assert before + 3 == len(looks)


def test_rows_that_would_be_padded_wait_for_their_likes() -> None:
    """Once batches have shown what padding costs, a short row does not take long ones along."""
    batcher = Batcher(8, 100)
    for lengths in ([100, 400], [100], [400, 400, 400], [50, 60]):
        batcher.costs.observe(lengths, 0.003 + 0.0001 * len(lengths) * max(lengths))
    batcher.put([entry(length=length) for length in (100, 400, 104, 390, 98)])
    assert [e.length for e in batcher.take(0.0)] == [100, 104, 98]
    assert [e.length for e in batcher.take(0.0)] == [400, 390]


def test_now_and_then_a_batch_is_cut_in_order_of_arrival() -> None:
    """Otherwise nothing more would be learnt about what padding costs."""
    batcher = Batcher(2, 1000)
    for lengths in ([100, 400], [100], [400, 400, 400], [50, 60]):
        batcher.costs.observe(lengths, 0.003 + 0.0001 * len(lengths) * max(lengths))
    batcher.put([entry(length=length) for length in (100, 400, 250) * LESSON_EVERY])
    taken = [[e.length for e in batcher.take(0.0)] for _ in range(LESSON_EVERY)]
    assert [100, 400] not in taken[:-1]
    assert taken[-1] == [100, 400]


def test_a_batch_that_is_to_fill_is_not_cut_by_its_cost() -> None:
    """With a wait for full batches, full batches are what is meant."""
    batcher = Batcher(4, 100, wait_s=1.0)
    for lengths in ([100, 400], [100], [400, 400, 400], [50, 60]):
        batcher.costs.observe(lengths, 0.003 + 0.0001 * len(lengths) * max(lengths))
    batcher.put([entry(length=length) for length in (100, 400, 104, 390)])
    assert len(batcher.take(0.0)) == 4
