"""Policies as options hold them."""

from __future__ import annotations

import pytest

from salver.errors import ConfigError, InvalidOption, UnknownOption
from salver.policies import (
    ConformalSet,
    Coverage,
    Novelty,
    Policy,
    Precision,
    Promise,
    Scored,
    Threshold,
    as_policies,
)


class Mark:
    """A policy of one's own, written without any import."""

    needs_probabilities = False

    def __call__(self, scored: Scored) -> Scored:
        return scored


def test_all_forms_of_the_option_are_read():
    """Null, one policy, a list of policies and their form in YAML are understood."""
    own = Mark()
    assert isinstance(own, Policy)
    assert as_policies(None) == ()
    assert as_policies([]) == ()
    assert as_policies(own) == (own,)
    assert as_policies([own, Threshold(0.5)]) == (own, Threshold(0.5))
    assert as_policies({"Threshold": {"p": 0.9, "otherwise": "other"}}) == (
        Threshold(0.9, "other"),
    )
    assert as_policies([{"Threshold": {"p": 0.1}}, own]) == (Threshold(0.1), own)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0.9, ConfigError, "0.9"),
        ("Threshold", ConfigError, "Threshold"),
        (Threshold, ConfigError, "policy="),
        (Mark, ConfigError, "policy="),
        (lambda scored: scored, ConfigError, "needs_probabilities"),
        ((policy for policy in [Threshold(0.5)]), ConfigError, "list"),
        ({"Treshold": {"p": 1}}, UnknownOption, "Did you mean 'Threshold'"),
        ({1: {}}, UnknownOption, "Known: ConformalSet, Coverage, Novelty, Precision, Threshold"),
        ({"Threshold": {"q": 1}}, ConfigError, "unexpected keyword"),
        ({"Threshold": {}}, ConfigError, "p"),
        ({"Threshold": 0.9}, ConfigError, "0.9"),
        ({"Threshold": None}, ConfigError, "None"),
        ({"Threshold": {"p": 2}}, InvalidOption, "2"),
        ([Threshold(0.5), 7], ConfigError, "7"),
    ],
)
def test_anything_else_is_refused(value, kind, words):
    """A wrong policy is an error that names it, also one that could be read only once."""
    with pytest.raises(kind, match=words):
        as_policies(value)


def test_promises_are_read_by_their_names():
    """With the names of their arguments; a promise is told from a rule."""
    given = {
        "Novelty": {"share": 0.01, "otherwise": "other"},
        "Precision": {"precision": 0.95, "per_class": True},
        "Coverage": {"coverage": 0.9},
        "ConformalSet": {"coverage": 0.95},
    }
    found = as_policies(given)
    assert found == (
        Novelty(0.01, "other"),
        Precision(0.95, per_class=True),
        Coverage(0.9),
        ConformalSet(0.95),
    )
    assert all(isinstance(one, Promise) for one in found)
    assert not isinstance(Threshold(0.5), Promise)
