from __future__ import annotations

import pytest

from salver.account.records import Labelled, Record
from salver.account.rows import Rows


@pytest.mark.parametrize(
    ("answer", "own", "label", "classes"),
    [
        ("1", "1.0", "1.0", ("0", "1")),  # classes that are floats
        ("1", "1", "1.0", ("0", "1")),
        ("1", "1", "1", ()),
        ("True", "True", "true", ("False", "True")),
        ("true", "true", "true", ("false", "true")),
        ("1.0", "1.0", "1.0", ("0.0", "1.0")),  # texts that look like numbers
    ],
)
def test_a_class_is_the_same_however_it_was_written(
    answer: str, own: str, label: str, classes: tuple[str, ...]
) -> None:
    """What a file, JSON and a model write in their own ways is one class."""
    record = Record("r", 0, "Tagger", "v", 1.0, prediction=answer, own=own)
    rows = Rows.of([Labelled(record, label)], classes)
    assert rows.right.all()
    assert rows.own_right.all()


def test_texts_that_differ_stay_different() -> None:
    """Only what is a number or a truth value of the model's is spelt anew."""
    record = Record("r", 0, "Tagger", "v", 1.0, prediction="1", own="1")
    for label in ("1.5", "one", "10", "TRUE", "1.00"):
        assert not Rows.of([Labelled(record, label)], ("0", "1")).right.any()
