"""What batches cost, learned from their times."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from salver.engine.costs import LEAST, Costs

Model = Callable[[Sequence[int]], float]


def padded(lengths: Sequence[int]) -> float:
    return 0.003 + 0.0001 * len(lengths) * max(lengths)


def unpadded(lengths: Sequence[int]) -> float:
    return 0.003 + 0.0001 * sum(lengths)


def learned(model: Model, batches: int = 300, noise: float = 0.2) -> Costs:
    """Costs after batches of 1 to 8 rows of many lengths."""
    dice = random.Random(7)
    costs = Costs()
    for _ in range(batches):
        lengths = [dice.randint(20, 400) for _ in range(dice.randint(1, 8))]
        costs.observe(lengths, model(lengths) * (1 + noise * dice.uniform(-1, 1)))
    return costs


def test_a_model_that_pads_is_known_by_its_times() -> None:
    """A unit of padding costs what a unit of text costs, and a batch its fixed share."""
    costs = learned(padded)
    assert costs.share == pytest.approx(1, abs=0.1)
    assert costs.fixed == pytest.approx(30, rel=0.5)


def test_a_model_that_does_not_pad_is_known_by_its_times() -> None:
    """Long neighbours cost a short row next to nothing."""
    assert learned(unpadded).share < 0.15


def test_a_model_that_changes_its_ways_is_learned_anew() -> None:
    """Old batches are forgotten."""
    costs = learned(padded)
    dice = random.Random(8)
    for _ in range(1000):
        lengths = [dice.randint(20, 400) for _ in range(8)]
        costs.observe(lengths, unpadded(lengths))
    assert costs.share < 0.3


def test_without_evidence_padding_is_taken_to_cost() -> None:
    """Batches without padding leave the cautious guess as it is."""
    costs = Costs()
    for rows in (1, 2, 4, 8) * 10:
        costs.observe([100] * rows, unpadded([100] * rows))
    assert costs.share == pytest.approx(1, abs=0.05)
    assert costs.fixed == pytest.approx(30, rel=0.05)


def test_rows_without_texts_are_all_alike() -> None:
    """There is nothing to sort by; each counts as one unit, beside what a batch costs."""
    costs = Costs()
    for rows in (1, 2, 4, 8, 16) * 20:
        costs.observe([0] * rows, 0.01 + 0.001 * rows)
    assert not costs.is_worth_sorting([0, 0])
    assert costs.fixed == pytest.approx(10, rel=0.05)
    assert costs.fixed_s == pytest.approx(0.01, rel=0.05)
    assert not costs.is_worth_a_batch([0] * 4)
    assert costs.is_worth_a_batch([0] * 6)


def test_before_anything_is_known_any_row_is_worth_a_batch() -> None:
    """Nobody waits for a guess."""
    assert Costs().is_worth_a_batch([0])


def test_nothing_is_sorted_before_anything_is_known() -> None:
    """The first batches are cut as if nothing had a price."""
    costs = Costs()
    for seen in range(LEAST):
        assert not costs.is_worth_sorting([1, 1000]), seen
        costs.observe([1, 1000], padded([1, 1000]))
    assert costs.is_worth_sorting([1, 1000])


def test_padding_that_costs_little_is_not_worth_sorting() -> None:
    """Rows of nearly one length are taken as they come, and all rows where calls are dear."""
    assert not learned(padded).is_worth_sorting([100, 100, 101])
    assert not learned(lambda ls: 0.5 + padded(ls)).is_worth_sorting([100, 200, 150])


@pytest.mark.parametrize("must", range(6))
def test_a_row_goes_with_its_likes(must: int) -> None:
    """Short rows go with short ones and long with long, and the row itself is always there."""
    lengths = [100, 102, 104, 390, 395, 400]
    assert learned(padded).best_run(lengths, must, 8) == ((0, 3) if must < 3 else (3, 6))


def test_a_run_is_never_longer_than_a_batch() -> None:
    """The most rows of a batch hold, however alike the rows are."""
    first, end = learned(padded).best_run([100] * 50, 25, 8)
    assert end - first == 8
    assert first <= 25 < end


def test_a_dear_batch_takes_rows_that_are_less_alike() -> None:
    """Where a call costs much by itself, padding is cheaper than another call."""
    lengths = [100, 200, 300]
    dear = learned(lambda ls: 0.5 + padded(ls))
    assert dear.best_run(lengths, 0, 8) == (0, 3)
    assert learned(padded).best_run(lengths, 0, 8) == (0, 1)


def test_a_row_without_text_is_no_trouble() -> None:
    """An empty text stands alone or with others, and nothing is divided by it."""
    first, end = learned(padded).best_run([0, 0, 300], 0, 8)
    assert first == 0 and 1 <= end <= 3
