from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salver.errors import InvalidOption
from salver.policies import Scored, Threshold


def scored(probabilities: list[list[float]]) -> Scored:
    array = np.array(probabilities, dtype=np.float64).reshape(len(probabilities), -1)
    names = tuple("abcdefgh"[: array.shape[1]])
    best = [names[i] for i in array.argmax(axis=1)]
    return Scored({"prediction": best}, array, names, np.zeros(len(array), dtype=bool))


@pytest.mark.parametrize(
    ("p", "row", "prediction", "abstained"),
    [
        (0.5, [0.5, 0.5], "a", False),
        (0.9, [0.1, 0.9], "b", False),
        (0.9, [0.1, np.nextafter(0.9, 0)], "other", True),
        (0, [0.0, 0.0], "a", False),
        (1, [0.0, 1.0], "b", False),
        (1.0, [0.4, 0.6], "other", True),
    ],
)
def test_a_threshold_keeps_what_reaches_it(p, row, prediction, abstained):
    """A largest probability of exactly `p` is enough; anything below is answered `otherwise`."""
    after = Threshold(p, otherwise="other")(scored([row]))
    assert after.columns["prediction"] == [prediction]
    assert after.abstained.tolist() == [abstained]


@pytest.mark.parametrize("p", [-0.01, 1.01, float("nan"), float("inf"), "0.9", None, True, [0.9]])
def test_a_threshold_is_a_probability(p):
    """What is no number from 0 to 1 is refused where the threshold is made."""
    with pytest.raises(InvalidOption, match=r"Threshold\.p"):
        Threshold(p)


def test_otherwise_is_null_by_default():
    """Without a word for the other rows they are answered null."""
    assert Threshold(0.9)(scored([[0.5, 0.5]])).columns["prediction"] == [None]


@given(
    arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 5)), elements=st.floats(0, 1)),
    st.floats(0, 1),
)
def test_a_threshold_judges_each_row_by_itself(probabilities, p):
    """The answer to a row is the same alone and in a batch, and probabilities stay as they are."""
    before = scored(probabilities.tolist())
    together = Threshold(p, "other")(before)
    alone = [Threshold(p, "other")(scored([row])) for row in probabilities.tolist()]
    assert together.columns["prediction"] == [one.columns["prediction"][0] for one in alone]
    assert together.abstained.tolist() == [bool(one.abstained[0]) for one in alone]
    assert together.abstained.tolist() == [bool(max(row) < p) for row in probabilities.tolist()]
    assert np.array_equal(together.probabilities, probabilities)
    assert not before.abstained.any()


def test_an_earlier_abstention_stays():
    """A policy adds to what earlier policies withheld."""
    first = Threshold(0.8, "unsure")(scored([[0.7, 0.3], [0.9, 0.1]]))
    second = Threshold(0.0, "never")(first)
    assert second.abstained.tolist() == [True, False]
    assert second.columns["prediction"] == ["unsure", "a"]


def test_the_first_policy_to_withhold_a_row_says_what_is_answered_and_why():
    """A later one that would withhold it, too, changes nothing."""
    after = Threshold(0.95, "later")(Threshold(0.8, "first")(scored([[0.7, 0.3], [0.9, 0.1]])))
    assert after.columns["prediction"] == ["first", "later"]
    assert list(after.reasons) == [
        "Threshold: probability 0.700 is below 0.8",
        "Threshold: probability 0.900 is below 0.95",
    ]
