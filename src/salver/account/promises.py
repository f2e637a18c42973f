"""Counts what became of promises, and how likely that is if they are kept.

It does not know how a policy keeps its promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from salver.account.about import About, Stated
from salver.account.results import Held, Observed
from salver.account.rows import UNKNOWN, Rows
from salver.bounds import binomial_cdf, clopper_pearson
from salver.outputs import Array
from salver.trust.drift import misses
from salver.trust.quality import Estimate

_GRID = 400  # shares at which a tail is averaged

WHAT = {
    "precision": "labelled answers are right",
    "coverage": "rows are answered",
    "sets": "labelled rows have the true class in their set",
    "novelty": "rows are withheld as novel",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A promise, and how likely what was seen is if it is kept.

    Attributes:
        held: What was seen.
        whole: p-value of all rows.
        recent: p-value of the latest ones.
    """

    held: Held
    whole: float
    recent: float

    def message(self, seen: Observed, which: str) -> str:
        """What was seen in all or in the latest rows, against what was promised."""
        assert seen.share is not None
        at_most = "at least" if self.held.is_least else "at most"
        return (
            f"{self.held.policy}: {seen.hits:,} of {which} {seen.of:,} {WHAT[self.held.about]} "
            f"({seen.share.value:.1%}); {at_most} {self.held.promised:.1%} were promised."
        )


def judged(about: About, rows: Rows, told: Rows, recent: int) -> list[Judged]:
    """Each promise of a version, in the order of its policies.

    Args:
        about: What was promised.
        rows: In the order of time.
        told: Rows whose true class is known, in the order of time.
        recent: How many of the latest rows to look at on their own; where only labelled ones
            count, how many of these.
    """
    return [_judged(*one, recent) for one in _counted(about, rows, told)]


def share(hits: int, of: int) -> Observed:
    """A share that was counted, with its interval."""
    return Observed(hits, of, Estimate(hits / of, *clopper_pearson(hits, of)) if of else None)


def tail(hits: int, of: int, promise: Stated) -> float:
    """Probability of so few hits, or so many of what is to be rare, if the promise is just kept.

    The tail of a binomial distribution. A conformal promise holds on average over held-out rows, not
    for these: there the share itself has the beta distribution of Vovk (2012, "Conditional
    validity of inductive conformal predictors"), over which the tail is averaged.

    Args:
        hits: Rows of which it is true.
        of: Rows.
        promise: About their share.
    """
    if not of:
        return 1.0
    # Of what is to be rare: errors, withheld rows.
    rare = of - hits if promise.is_least else hits
    allowed = 1 - promise.share if promise.is_least else promise.share
    beyond = math.floor((promise.held_out + 1) * allowed + 1e-9)
    if not promise.is_conformal or beyond < 1:
        return misses(hits, of, promise.share, promise.is_least)
    shares, weights = _beta(beyond, promise.held_out + 1 - beyond)
    tails = [1 - binomial_cdf(rare - 1, of, p) for p in shares.tolist()]
    return float(np.dot(weights, tails))


def _beta(a: int, b: int) -> tuple[Array, Array]:
    """Shares that a beta distribution gives, and how much weight each has."""
    mean = a / (a + b)
    reach = 10 * math.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high = max(mean - reach, 0.0), min(mean + reach, 1.0)
    shares = low + (np.arange(_GRID) + 0.5) * (high - low) / _GRID
    logs = (a - 1) * np.log(shares) + (b - 1) * np.log1p(-shares)
    weights = np.exp(logs - logs.max())
    return shares, weights / weights.sum()


Looked = tuple[Array, Array]  # bool of shape (n,): rows that count, and those of which it is true


def _counted(about: About, rows: Rows, told: Rows) -> Iterator[tuple[Stated, str, Looked]]:
    """Each promise with its name and what to count; one for each class where that is promised."""
    names = [policy.partition("(")[0] for policy in about.policies]
    promises = {promise.policy: promise for promise in about.promises}
    for place, policy in enumerate(about.policies):
        promise = promises.get(policy)
        if promise is None:
            continue
        if promise.about == "precision":
            yield from _precision(promise, told)
        elif not {*names[:place]} & {*names[place:]}:  # or nobody knows which of two it was
            looked = rows if promise.about != "sets" else told
            yield promise, policy, _reaching(promise, looked, names[:place], names[place])


def _reaching(promise: Stated, rows: Rows, before: Sequence[str], name: str) -> Looked:
    # Nobody knows whether a row reached the others that an unknown policy has withheld.
    reached = ~rows.failed & ~np.isin(rows.withheld_by.astype(str), [*before, UNKNOWN])
    if promise.about == "sets":
        return reached & ~np.isnan(rows.covered), rows.covered == 1
    mine = rows.withheld_by == name
    return reached, mine if promise.about == "novelty" else ~mine


def _precision(promise: Stated, told: Rows) -> Iterator[tuple[Stated, str, Looked]]:
    given = told.judged
    classes = sorted(set(told.prediction[given].tolist()))
    if not promise.per_class or not classes:
        yield promise, promise.policy, (given, told.right)
        return
    for name in classes:
        of_class = given & (told.prediction == name)
        yield promise, f"{promise.policy} of {name}", (of_class, told.right)


def _judged(promise: Stated, name: str, looked: Looked, recent: int) -> Judged:
    counts, is_true = looked
    hits = is_true[counts]
    whole, newest = (share(int(h.sum()), len(h)) for h in (hits, hits[-recent:]))
    chances = [tail(one.hits, one.of, promise) for one in (whole, newest)]
    held = Held(
        name,
        promise.about,
        promise.share,
        promise.is_least,
        whole,
        newest,
        is_broken=False,
        is_average=promise.is_conformal,
        p_value=min(chances),
    )
    return Judged(held, *chances)
