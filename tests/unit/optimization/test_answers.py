"""What a model said, in numbers."""

from __future__ import annotations

import numpy as np

from salver.optimization.answers import answers_of
from salver.types import ClassProbabilities, Failure, Outcomes


def test_outcomes_come_back_in_the_order_of_rows() -> None:
    """Whichever batches they were in; a failed row has no numbers."""
    first = Outcomes(
        2,
        {
            "prediction": ["b", "a"],
            "probabilities": ClassProbabilities(("a", "b"), [[0, 1], [1, 0]]),
        },
    )
    second = Outcomes(1, {}, {0: Failure("model_error", "no")})
    found = answers_of([first, second], [2, 0, 1])
    assert found.numbers is not None
    assert [1.0, 0.0] == found.numbers[0].tolist()
    assert [0.0, 1.0] == found.numbers[2].tolist()
    assert [False, True, False] == found.failed.tolist()
    assert np.isnan(found.numbers[1]).all()


def test_numbers_are_found_at_any_depth() -> None:
    """The rest of an answer is compared as it is."""
    given = [{"label": "x", "score": 0.5, "span": [1.5, 2.5]}]
    found = answers_of([Outcomes(1, {"entities": [given]})], [0])
    assert found.numbers is not None
    assert [0.5, 1.5, 2.5] == found.numbers[0].tolist()
    assert "'label': 'x'" in found.decided[0]


def test_probabilities_by_name_are_put_in_one_order() -> None:
    """As a service may give them that makes its own outcomes."""
    rows = [{"a": 0.9, "b": 0.1}, {"b": 0.8, "a": 0.2}]
    found = answers_of([Outcomes(2, {"probabilities": rows})], [0, 1])
    assert ("a", "b") == found.classes
    assert found.numbers is not None
    assert [[0.9, 0.1], [0.2, 0.8]] == found.numbers.tolist()
    assert [0, 1] == found.labels.tolist()
