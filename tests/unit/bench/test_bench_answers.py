"""An answer is right, or the system has no numbers."""

from __future__ import annotations

import json

import pytest

from bench.answers import WrongAnswer, compare
from bench.systems import SYSTEMS

CLASSES = ("a", "b")
FASTAPI = SYSTEMS["fastapi"]


def answer(prediction, *probabilities):
    named = dict(zip(CLASSES, probabilities, strict=True))
    return json.dumps({"prediction": prediction, "probabilities": named}).encode()


def expected(*probabilities):
    return {"row": {"title": "t", "description": "d"}, "probabilities": list(probabilities)}


def test_rounding_is_no_difference():
    """The mates of a batch move sums by a rounding."""
    compare(FASTAPI, answer("a", 0.70001, 0.29999), expected(0.7, 0.3), CLASSES)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (answer("a", 0.71, 0.29), "off by 0.01"),
        (answer("a", float("nan"), 0.3), "off by nan"),
        (answer("b", 0.7, 0.3), "wanted 'a'"),
        (b'{"error": "busy"}', "another form"),
        (b"<html>", "another form"),
        (b'{"prediction": "a", "probabilities": [0.7, 0.3]}', "another form"),
    ],
)
def test_a_wrong_answer_says_what_is_wrong(given, why):
    """A moved probability, a NaN, another class, another form."""
    with pytest.raises(WrongAnswer, match=why):
        compare(FASTAPI, given, expected(0.7, 0.3), CLASSES)


def test_either_class_of_a_tie_will_do():
    """Two classes that are equally likely may come out either way."""
    compare(FASTAPI, answer("b", 0.50001, 0.49999), expected(0.50001, 0.49999), CLASSES)


def test_salvers_answer_is_taken_out_of_its_list():
    """Salver answers a list of results, one per row."""
    body = b'{"results": [' + answer("a", 0.7, 0.3) + b"]}"
    compare(SYSTEMS["salver"], body, expected(0.7, 0.3), CLASSES)
