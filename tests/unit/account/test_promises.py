from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from salver.account.about import Stated
from salver.account.promises import share, tail

PRECISION = Stated("Precision(0.9)", "precision", 0.9)
NOVELTY = Stated("Novelty(0.02)", "novelty", 0.02)
SETS = Stated("ConformalSet(0.9)", "sets", 0.9)


def test_what_is_better_than_promised_is_no_surprise() -> None:
    """A promise that is more than kept is never suspected."""
    assert tail(950, 1000, replace(PRECISION, held_out=0)) > 0.99
    assert tail(5, 1000, replace(NOVELTY, held_out=500)) > 0.9
    assert tail(0, 0, replace(PRECISION, held_out=0)) == 1.0


def test_what_is_far_from_promised_is_certain() -> None:
    """A share that misses its promise by far has a p-value near 0."""
    assert tail(800, 1000, replace(PRECISION, held_out=0)) < 1e-9
    assert tail(150, 1000, replace(NOVELTY, held_out=500)) < 1e-6
    assert tail(700, 1000, replace(SETS, held_out=500)) < 1e-9


def test_precision_has_the_binomial_tail() -> None:
    """P(at most 880 of 1,000) at 0.9 is what the binomial distribution says."""
    stats = pytest.importorskip("scipy.stats")
    assert tail(880, 1000, replace(PRECISION, held_out=300)) == pytest.approx(
        stats.binom.cdf(880, 1000, 0.9)
    )


@pytest.mark.parametrize(("m", "n", "k"), [(309, 1000, 40), (100, 5000, 200), (5000, 300, 12)])
def test_a_conformal_promise_allows_for_the_held_out_rows(m: int, n: int, k: int) -> None:
    """Its tail is that of the beta-binomial distribution of exchangeable rows."""
    stats = pytest.importorskip("scipy.stats")
    beyond = int((m + 1) * 0.02)
    exact = stats.betabinom.sf(k - 1, n, beyond, m + 1 - beyond)
    assert tail(k, n, replace(NOVELTY, held_out=m)) == pytest.approx(exact, rel=0.01)


def test_conformal_promises_that_are_kept_are_rarely_suspected() -> None:
    """Over 4,000 draws of held-out and new rows, p is below 0.05 in at most 5 %, and 0.001 in 0.1 %.

    A plain binomial test would suspect many more, as its limit is no better than its held-out rows.
    """
    random = np.random.default_rng(0)
    m, n, runs = 200, 1000, 4000
    beyond = int((m + 1) * NOVELTY.share)
    p_values = []
    known: dict[int, float] = {}
    for _ in range(runs):
        limit = np.sort(random.random(m))[m - beyond]
        hits = int((random.random(n) > limit).sum())
        if hits not in known:
            known[hits] = tail(hits, n, replace(NOVELTY, held_out=m))
        p_values.append(known[hits])
    found = np.array(p_values)
    assert (found < 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)
    assert (found < 0.001).sum() <= 12  # 4 are expected; more than 12 have probability 2e-4
    assert (found < 0.05).mean() > 0.02  # or the test would see nothing


def test_a_share_has_its_interval() -> None:
    """Hits of rows come with the exact interval; without rows there is none."""
    found = share(90, 100).share
    assert found is not None
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.9, 0.824, 0.951)
    assert share(0, 0).share is None
