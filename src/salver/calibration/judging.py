"""Judges a calibration: on rows that it was not fitted on, and on rows that mean nothing.

It does not know how a calibration was fitted, nor who reads what is found.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salver.bounds import clopper_pearson
from salver.calibration.fitting import Rows, others_answered
from salver.calibration.results import Kept, Strange
from salver.definition import Deployment
from salver.errors import ConfigError
from salver.outputs import Array
from salver.policies import HeldOut, Policy, Precision, Scored, Threshold, kept
from salver.trust.calibration import Choice
from salver.trust.fitted import Fitted, novelty
from salver.trust.quality import Estimate, honesty, is_distribution, reliability
from salver.types import Batch

FOLDS = 20  # fewer would leave too few rows for limits that all of them allow
NOISE_ROWS = 1000
_SHOWN = 10  # numbers of a row in a message
# What a user would otherwise set, and what a promise would do: to compare with.
REFERENCES: tuple[Policy, ...] = (Threshold(0.9), Precision(0.95))
AnswersTo = Callable[[Batch], Rows]


def judged(
    deployment: Deployment,
    made: Fitted,
    choice: Choice | None,
    answers_to: AnswersTo,
    others: Mapping[str, Batch],
) -> dict[str, Any]:
    """The part of a report that is about what was fitted.

    Args:
        deployment: Whose policies are judged.
        made: What was fitted.
        choice: How its calibrator was chosen.
        answers_to: Asks the model.
        others: Rows that are unlike those of training, by what they are.
    """
    held_out = made.held_out
    given, scored = held_out.scored.probabilities, held_out.scored
    right = held_out.right
    found: dict[str, Any] = {
        "rows": len(held_out),
        "calibrator": "" if made.calibrator is None else made.calibrator.name,
        "note": _unsure(scored) if choice is None else choice.note,
        "attempts": () if choice is None else choice.attempts,
        "before": None,
        "after": None,
        "reliability_before": (),
        "reliability_after": (),
        "confidences": (),
        "rights": (),
        "policies": policies_on(deployment.policies, held_out),
        "novelty": "" if made.score is None else made.score.kind,
        "novelties": () if scored.novelty is None else np.sort(scored.novelty).tolist(),
    }
    if given is not None and right is not None and scored.confidence is not None and choice:
        assert held_out.labels is not None
        known = held_out.labels >= 0
        labels = held_out.labels[known]
        order = np.argsort(scored.confidence, kind="stable")
        found |= {
            "before": honesty(given[known], labels),
            "after": honesty(choice.out_of_fold, labels, given[known].argmax(axis=1)),
            "reliability_before": reliability(given.max(axis=1), right),
            "reliability_after": reliability(scored.confidence, right),
            "confidences": scored.confidence[order].tolist(),
            "rights": right[order].tolist(),
        }
    noise = noise_for(deployment)
    asked = {**({} if noise is None else {"random strings": noise}), **others}
    strange = []
    for name, one in asked.items():
        try:
            rows = answers_to(one)
        except ConfigError:  # it refuses all of them, so that nothing is to be told apart
            found["note"] = f"{found['note']} The model fails at all {len(one):,} {name}.".strip()
        else:
            strange.append(_strange(name, deployment, made, rows))
    return {**found, "strange": tuple(strange)}


def _unsure(scored: Scored) -> str:
    """Why there is no confidence, where probabilities are known."""
    if scored.probabilities is None or not scored.classes:
        return ""
    is_strange = ~is_distribution(scored.probabilities)
    if is_strange.any():
        first = ", ".join(f"{one:.3g}" for one in scored.probabilities[is_strange][0, :_SHOWN])
        return (
            f"On {is_strange.sum():,} of {len(is_strange):,} rows the model's probabilities do not "
            f"sum to 1, or are not within 0 and 1 (the first: {first}), so they are not those of "
            "classes that exclude each other: there is no confidence. If its classes do exclude each "
            "other, let the model return a softmax, and run salver calibrate again."
        )
    others = others_answered(scored)
    return (
        f"On {others:,} rows the model does not answer its likeliest class, so that no probability "
        "says how sure it is of its answers: there is no confidence."
        if others
        else ""
    )


def policies_on(policies: Sequence[Policy], held_out: HeldOut) -> tuple[Kept, ...]:
    """What each policy does to held-out rows, all of a deployment together, and the references."""
    shown: list[tuple[str, Sequence[Policy]]] = [(repr(one), [one]) for one in policies]
    if len(policies) > 1:
        shown.append(("all of them", policies))
    found = [_in_folds(name, some, held_out) for name, some in shown]
    if held_out.scored.probabilities is not None and held_out.right is not None:
        others = [one for one in REFERENCES if one not in policies]
        found += [replace(_in_folds(repr(o), [o], held_out), is_own=False) for o in others]
    return tuple(found)


def _in_folds(name: str, policies: Sequence[Policy], held_out: HeldOut) -> Kept:
    """Limits from all rows but a part, judged on that part, in turn.

    A part where no limit can be chosen from the others is withheld, as a service would not start.
    """
    n = len(held_out)
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    withheld, covered, sizes = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n)
    has_sets = False
    try:
        kept(policies, held_out)
    except ConfigError as error:
        return Kept(name, trouble=error.message)
    for one in range(FOLDS):
        mine = fold == one
        decided = held_out.take(mine).scored
        try:
            rules = kept(policies, held_out.take(~mine))
        except ConfigError:
            withheld[mine] = True
            continue
        for rule in rules:
            decided = rule(decided)
        withheld[mine] = decided.abstained
        sets = decided.columns.get("prediction_set")
        if sets is not None and held_out.labels is not None:
            has_sets = True
            covered[mine] = _covered(sets, decided, held_out.labels[mine])
            sizes[mine] = list(map(len, sets))
    answered = ~withheld
    right = None if held_out.right is None else int((held_out.right & answered).sum())
    given = int(answered.sum())
    return Kept(
        name,
        answered=_share(given, n),
        precision=None if right is None or not given else _share(right, given),
        right=right or 0,
        given=given,
        sets=_share(int(covered.sum()), n) if has_sets else None,
        set_size=float(sizes.mean()) if has_sets else None,
    )


def _covered(sets: Sequence[Sequence[Any]], scored: Scored, labels: Array) -> list[bool]:
    return [
        label >= 0 and scored.classes[label] in one
        for one, label in zip(sets, labels.tolist(), strict=True)
    ]


def _share(k: int, n: int) -> Estimate:
    return Estimate(k / n, *clopper_pearson(k, n))


def _strange(name: str, deployment: Deployment, made: Fitted, rows: Rows) -> Strange:
    """What becomes of rows of another kind."""
    given = rows.scored.probabilities
    strange = None if made.score is None else novelty(made.score, rows.batch, rows.hidden)
    scored = Scored(
        rows.scored.columns,
        given,
        rows.scored.classes,
        rows.scored.abstained,
        None if given is None or made.calibrator is None else made.confidence(given),
        strange,
    )
    try:
        for rule in kept(deployment.policies, made.held_out):
            scored = rule(scored)
    except ConfigError:
        pass  # said of the policy itself, above
    ordinary = made.held_out.scored
    return Strange(
        name,
        rows=len(rows),
        withheld=float(scored.abstained.mean()),
        novelty=None
        if strange is None or ordinary.novelty is None
        else area_under_curve(ordinary.novelty, strange),
        probability=None
        if given is None or ordinary.probabilities is None
        else area_under_curve(-ordinary.probabilities.max(axis=1), -given.max(axis=1)),
        novelties=() if strange is None else np.sort(strange).tolist(),
    )


def noise_for(deployment: Deployment) -> Batch | None:
    """Rows of random letters and digits; null for a model that takes more than texts."""
    names = deployment.schema.names
    if not all(field.dtype == "string" for field in deployment.schema.fields):
        return None
    generator = random.Random(0)
    letters = string.ascii_lowercase + string.digits

    def text() -> str:
        return "".join(generator.choices(letters, k=generator.randint(4, 16)))

    rows = []
    for i in range(NOISE_ROWS):
        row = dict.fromkeys(names, "")
        row[names[i % len(names)]] = text()
        rows.append(row)
    batch = deployment.schema.check_rows(rows).batch
    return batch if len(batch) else None


def area_under_curve(ordinary: Array, strange: Array) -> float:
    """Probability that a strange row scores above an ordinary one, ties counted half.

    The area under the ROC curve, as the statistic of Mann & Whitney (1947).

    Args:
        ordinary: Scores of shape (n,).
        strange: Scores of shape (m,).
    """
    ordered = np.sort(ordinary)
    below = np.searchsorted(ordered, strange, side="left")
    up_to = np.searchsorted(ordered, strange, side="right")
    return float((below + up_to).mean() / 2 / len(ordered))
