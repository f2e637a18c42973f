from __future__ import annotations

import json

import numpy as np
from worlds import CLASSES, POLICIES, World, about

from salver import ConformalSet, Coverage, Novelty, Precision, Threshold
from salver.account.about import MAX_REFERENCE, NOTHING, About
from salver.policies import Scored

HELD_OUT, LENGTHS = World().drawn(1000, np.random.default_rng(0))


def test_promises_are_told_apart_from_other_policies() -> None:
    """A threshold promises nothing; each promise says what it is about."""
    policies = [Novelty(0.02), Threshold(0.5), Coverage(0.8), Precision(0.8), ConformalSet(0.9)]
    known = About.of(policies, None)
    assert [(p.about, p.share, p.is_least) for p in known.promises] == [
        ("novelty", 0.02, False),
        ("coverage", 0.8, True),
        ("precision", 0.8, True),
        ("sets", 0.9, True),
    ]
    assert len(known.policies) == 5
    assert known.reference is None


def test_the_reference_is_answered_by_the_same_policies() -> None:
    """Held-out rows are withheld where a service would withhold them."""
    reference = about(HELD_OUT, LENGTHS).reference
    assert reference is not None
    withheld = reference.withheld_by
    assert {one for one in withheld.tolist() if one} == {"Novelty", "Precision"}
    assert set(reference.prediction[withheld == "Novelty"].tolist()) == {"unknown"}
    assert reference.prediction[reference.answered].tolist() == (
        reference.own[reference.answered].tolist()
    )
    assert (withheld == "Novelty").mean() <= 0.02


def test_it_survives_being_written_as_json() -> None:
    """What is read back from JSON says the same."""
    known = about(HELD_OUT, LENGTHS)
    again = About.from_json(json.loads(json.dumps(known.as_json())))
    assert (again.policies, again.promises, again.classes) == (
        known.policies,
        known.promises,
        CLASSES,
    )
    assert known.reference is not None
    assert again.reference is not None
    for name in ("prediction", "own", "withheld_by", "label"):
        assert getattr(again.reference, name).tolist() == getattr(known.reference, name).tolist()
    for name in ("confidence", "novelty", "length"):
        assert getattr(again.reference, name).tolist() == getattr(known.reference, name).tolist()
    assert About.from_json(json.loads(json.dumps(NOTHING.as_json()))) == NOTHING


def test_labels_that_the_model_does_not_have_are_never_right() -> None:
    """A held-out row of an unknown class counts as one whose true class is none of the model's."""
    held_out, lengths = World().drawn(1000, np.random.default_rng(1))
    assert held_out.labels is not None
    held_out.labels[:10] = -1
    reference = about(held_out, lengths).reference
    assert reference is not None
    assert not reference.own_right[:10].any()
    assert reference.labelled[:10].all()


def test_a_large_reference_is_thinned_out() -> None:
    """More rows than tell anything are not kept."""
    held_out, lengths = World().drawn(MAX_REFERENCE + 1, np.random.default_rng(2))
    reference = about(held_out, lengths).reference
    assert reference is not None
    assert len(reference) == (MAX_REFERENCE + 2) // 2


def test_a_policy_that_cannot_take_held_out_rows_costs_only_its_own_part() -> None:
    """With a rule that wants more than is kept, the model's own answers are the reference."""

    class Strict:
        needs_probabilities = False

        def __call__(self, scored: Scored) -> Scored:
            raise KeyError("price")

    reference = about(HELD_OUT, LENGTHS, [*POLICIES, Strict()]).reference
    assert reference is not None
    assert reference.prediction.tolist() == reference.own.tolist()
    assert reference.answered.all()
