from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from worlds import World, about, answered

from salver.account.windows import WINDOWS, novel_of, parts, precision_of, windows

WORLD = World()
HELD_OUT, LENGTHS = WORLD.drawn(1000, np.random.default_rng(0))
REFERENCE = about(HELD_OUT, LENGTHS).reference
ROWS = answered(*WORLD.drawn(3000, np.random.default_rng(1)), HELD_OUT)


def test_windows_hold_every_row_once_in_the_order_of_time() -> None:
    """Up to twenty windows of equally many rows follow each other without gaps."""
    found = windows(ROWS, REFERENCE)
    assert len(found) == WINDOWS
    assert sum(one.rows for one in found) == 3000
    assert {one.rows for one in found} == {150}
    assert all(a.end < b.start for a, b in pairwise(found))


def test_few_rows_are_one_window() -> None:
    """Fewer than a hundred rows are not cut."""
    assert len(windows(ROWS.take(slice(0, 99)), REFERENCE)) == 1


def test_a_window_counts_what_is_in_it() -> None:
    """Answers, right ones and novel ones are those of its own rows."""
    first = windows(ROWS, REFERENCE)[0]
    mine = ROWS.take(slice(0, 150))
    assert first.right == precision_of(mine)
    assert first.novel == novel_of(mine)
    assert abs(sum(first.shares.values()) - 1) < 1e-9
    assert first.psi is not None
    assert 0 <= first.psi < 0.3


def test_the_window_of_a_shift_stands_out() -> None:
    """Rows of other classes at the end lift the index of the last windows alone."""
    other = answered(
        *WORLD.changed(shares=(0.1, 0.1, 0.8)).drawn(300, np.random.default_rng(2)), HELD_OUT
    )
    both = replace(
        ROWS,
        **{n: np.concatenate([getattr(ROWS, n), getattr(other, n)]) for n in ROWS.__slots__},
    )
    psi = [one.psi or 0 for one in windows(both, REFERENCE)]
    assert min(psi[-1:]) > 2 * max(psi[:-2])


def test_the_part_that_is_answered_worst_comes_first() -> None:
    """A value of an input column with many wrong answers is named, and called real."""
    random = np.random.default_rng(3)
    source = ["forum" if one < 0.1 else "shop" for one in random.random(3000)]
    rows = replace(ROWS, label=ROWS.label.copy())
    for at, one in enumerate(source):
        if one == "forum" and random.random() < 0.4:
            rows.label[at] = "another"
    found, seen = parts(rows, [{"source": one} for one in source])
    assert (found[0].column, found[0].value, found[0].is_real) == ("source", "forum", True)
    assert found[0].right.share is not None
    assert found[0].others is not None
    assert found[0].right.share.value < found[0].others - 0.2
    assert seen >= 10


def test_without_inputs_there_are_parts_by_length_and_answer() -> None:
    """Where no input was kept, the length of the text and the answer still cut the rows."""
    found, _ = parts(ROWS, [None] * 3000)
    assert {one.column for one in found} == {"text length", "answer"}


def test_an_index_that_is_all_chance_is_not_shown() -> None:
    """With many classes in few rows the index is large although nothing has changed."""
    random = np.random.default_rng(4)
    rows = replace(
        ROWS, prediction=random.choice([f"c{i}" for i in range(50)], 3000).astype(object)
    )
    reference = rows.take(slice(0, 600))
    assert all(one.psi is None for one in windows(rows, reference))


def test_answers_that_are_no_classes_are_not_judged() -> None:
    """A number that was answered is neither right nor wrong."""
    rows = replace(ROWS, prediction=ROWS.prediction.copy())
    rows.prediction[:1000] = None
    judged = precision_of(rows)
    assert judged.of == precision_of(rows.take(slice(1000, None))).of
