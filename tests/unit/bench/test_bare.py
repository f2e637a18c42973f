"""The bare loop's batches."""

from bench import bare
from bench.predictors import Constant

ROWS = [{"title": "t" * i, "description": str(i)} for i in range(40)]


def test_batches_hold_rows_of_similar_length_each_once():
    """Sorted by length, cut, and only then mixed."""
    lengths = [len(row["title"]) for row in ROWS]
    batches = bare.batches(list(reversed(ROWS)), list(reversed(lengths)), 8)
    spans = sorted((len(titles[0]), len(titles[-1])) for titles, _ in batches)
    assert spans == [(0, 7), (8, 15), (16, 23), (24, 31), (32, 39)]
    assert sorted(d for _, texts in batches for d in texts) == sorted(
        r["description"] for r in ROWS
    )


def test_batches_are_not_in_the_order_of_length():
    """A loop that the clock cuts off must not have seen the short ones only."""
    batches = bare.batches(ROWS, range(len(ROWS)), 4)
    firsts = [int(descriptions[0]) for _, descriptions in batches]
    assert firsts != sorted(firsts)


def test_a_model_without_tokens_is_sorted_by_characters():
    """Any predictor can be measured."""
    assert bare.lengths_of(Constant(), ROWS[:11]) == [*range(1, 11), 12]
