"""Slices against SciPy's tests, and by simulation: what is not there, and what is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from salver.errors import ConfigError
from salver.trust.slices import LEAST, Slice, fewer_by_chance, parts

Array = np.ndarray[Any, Any]
ROWS = 1000
RUNS = 500


def asked(random: np.random.Generator, bad: int = 0) -> dict[str, list[Any]]:
    """Columns of many kinds; the first `bad` rows are those of a source of their own."""
    return {
        "source": ["forum"] * bad + random.choice(["shop", "mail", "app"], ROWS - bad).tolist(),
        "size": random.normal(0, 1, ROWS).tolist(),
        "text": ["x" * n for n in random.poisson(60, ROWS).tolist()],
        "is_new": (random.random(ROWS) < 0.5).tolist(),
        "stars": random.integers(1, 6, ROWS).tolist(),
    }


def named(found: list[Slice], column: str) -> dict[str, Slice]:
    return {one.value: one for one in found if one.column == column}


def half_right(rows: int) -> Array:
    return np.arange(rows) % 2 == 0


def test_tails_are_those_of_fishers_test_of_scipy() -> None:
    """Few and many rows, down to chances of less than 1e-100."""
    random = np.random.default_rng(0)
    for _ in range(200):
        of, others = int(random.integers(1, 400)), int(random.integers(1, 3000))
        hits, others_hits = int(random.integers(0, of + 1)), int(random.integers(0, others + 1))
        table = [[hits, of - hits], [others_hits, others - others_hits]]
        expected = float(stats.fisher_exact(table, alternative="less").pvalue)
        found = fewer_by_chance(hits, of, others_hits, others)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-290), table
    assert 0 < fewer_by_chance(0, 100, 3000, 3000) < 1e-100


def test_tails_reach_1_where_nothing_can_be_fewer() -> None:
    """All right, all wrong, and as many right as there are."""
    for given in ((5, 5, 5, 5), (0, 5, 0, 5), (5, 5, 0, 5), (0, 1, 0, 1), (3, 3, 2, 9)):
        assert fewer_by_chance(*given) == pytest.approx(1.0, abs=1e-12)
        assert fewer_by_chance(*given) <= 1


def test_p_values_are_corrected_for_all_parts_that_were_looked_at() -> None:
    """Those of Fisher's test, corrected by Benjamini & Yekutieli, both as SciPy does it."""
    random = np.random.default_rng(1)
    right = random.random(ROWS) < np.repeat([0.75, 0.93], [60, ROWS - 60])
    found, seen = parts(asked(random, bad=60), right)
    assert len(found) == seen > 15
    raw = [
        stats.fisher_exact(
            [[one.hits, one.of - one.hits], [one.others_hits, one.others_of - one.others_hits]],
            alternative="less",
        ).pvalue
        for one in found
    ]
    assert raw == sorted(raw)
    expected = stats.false_discovery_control(raw, method="by")
    assert [one.p_value for one in found] == pytest.approx(expected.tolist(), rel=1e-9)
    assert [one.is_real for one in found] == (expected <= 0.05).tolist()


def test_without_a_difference_seldom_any_part_is_called_real() -> None:
    """In 5 % of 500 runs at most, give or take what chance does in one of 1,000 cases."""
    random, wrong, uncorrected = np.random.default_rng(2), 0, 0
    for _ in range(RUNS):
        found, _ = parts(asked(random), random.random(ROWS) < 0.9)
        wrong += any(one.is_real for one in found)
        first = found[0]
        chance = fewer_by_chance(first.hits, first.of, first.others_hits, first.others_of)
        uncorrected += chance <= 0.05
    assert stats.binom.sf(wrong - 1, RUNS, 0.05) > 1e-3
    assert uncorrected > 0.3 * RUNS  # so there was something to correct


def test_a_bad_part_is_found_and_comes_first() -> None:
    """70 % right against 95 %, 80 of 1,000 rows: in 98 of 100 runs."""
    random, first = np.random.default_rng(3), 0
    for _ in range(RUNS):
        right = random.random(ROWS) < np.repeat([0.7, 0.95], [80, ROWS - 80])
        worst = parts(asked(random, bad=80), right)[0][0]
        first += (worst.column, worst.value, worst.is_real) == ("source", "forum", True)
    assert first >= 0.98 * RUNS


def test_what_is_better_than_the_others_is_not_real() -> None:
    """Only a lower share of right rows is looked for."""
    right = np.append(np.ones(80, dtype=bool), half_right(920))
    found = named(parts({"source": ["a"] * 80 + ["b"] * 920}, right)[0], "source")
    assert not found["a"].is_real
    assert found["b"].is_real
    assert (found["a"].hits, found["a"].of) == (80, 80)
    assert (found["a"].others_hits, found["a"].others_of) == (460, 920)


def test_few_different_values_are_parts_and_rare_ones_are_put_together() -> None:
    """Each of at least twenty rows; what has no value is a part as well."""
    values = ["a"] * 100 + ["b"] * LEAST + ["c"] * (LEAST - 1) + ["d"] * 5 + [None] * 30
    found, seen = parts({"kind": values}, half_right(len(values)))
    sizes = {one.value: one.of for one in found}
    assert sizes == {"a": 100, "b": LEAST, "(other)": LEAST + 4, "(missing)": 30}
    assert seen == 4


def test_numbers_are_cut_into_five_ranges() -> None:
    """Of equally many rows; NaN and None are missing."""
    values = [float(one) for one in range(500)] + [None, float("nan")] * 20
    found = named(parts({"price": values}, half_right(540))[0], "price")
    assert {name: one.of for name, one in found.items()} == {
        "up to 99": 100,
        "100 to 199": 100,
        "200 to 299": 100,
        "300 to 399": 100,
        "above 399": 100,
        "(missing)": 40,
    }


def test_texts_are_cut_by_their_length() -> None:
    """Many different texts; the column says so."""
    found, _ = parts({"title": ["y" * n for n in range(500)]}, half_right(500))
    assert {one.column for one in found} == {"length of title"}
    assert [one.of for one in found] == [100] * 5
    assert "100 to 199" in named(found, "length of title")


@pytest.mark.parametrize(
    "values",
    [
        [[1]] * 200,
        [{"a": 1}] * 200,
        [*["a"] * 199, [1]],
        [*map(str, range(100)), *range(100)],
        [object()] * 200,
        ["all alike"] * 200,
        [None] * 200,
        [3.5] * 200,
    ],
    ids=["lists", "dicts", "a list", "mixed", "objects", "a constant", "nothing", "a number"],
)
def test_columns_that_cannot_be_cut_have_no_parts(values: list[Any]) -> None:
    """They are passed over, and are not counted as looked at."""
    assert parts({"odd": values}, half_right(200)) == ([], 0)


def test_values_are_shown_as_short_texts() -> None:
    """Numbers without needless digits, texts on one line and of forty characters at most."""
    values = [True, 2.0, 0.1 + 0.2, 12345678.0, "", "two\n lines", "z" * 300, 7]
    shown = {}
    for one in values:
        column = [one] * 30 + ["another"] * 30
        shown[repr(one)] = next(
            x.value for x in parts({"c": column}, half_right(60))[0] if x.value != "another"
        )
    assert list(shown.values()) == [
        "True",
        "2",
        "0.3",
        "12,345,678",
        "(empty)",
        "two lines",
        "z" * 39 + "…",
        "7",
    ]


@pytest.mark.filterwarnings("error")
def test_the_frequent_ones_of_many_texts_are_parts_of_their_own() -> None:
    """Of 150 countries the few that most rows come from are looked at, the others together."""
    names = ["France"] * 300 + ["Peru"] * 200 + [f"country {i}" for i in range(148)] * 2
    found, _ = parts({"country": names}, half_right(len(names)))
    assert {(one.value, one.of) for one in found} == {
        ("France", 300),
        ("Peru", 200),
        ("(other)", 296),
    }


def test_numbers_of_any_size_can_be_cut() -> None:
    """Whole numbers that no float holds, infinite ones and those of NumPy."""
    huge = [10**n for n in range(0, 6000, 10)] + [-(10**400), float("inf"), -float("inf")]
    found, _ = parts({"n": huge, "m": list(np.arange(603))}, half_right(603))
    assert sum(one.of for one in found if one.column == "m") == 603
    assert any(one.column == "n" for one in found)
    constant = [10**5000] * 300 + [1] * 303
    assert {one.of for one in parts({"n": constant}, half_right(603))[0]} == {300, 303}


def test_without_rows_or_columns_there_are_no_parts() -> None:
    """Nothing was looked at."""
    assert parts({}, half_right(100)) == ([], 0)
    assert parts({"a": []}, np.array([], dtype=bool)) == ([], 0)


def test_columns_of_other_lengths_are_refused() -> None:
    """The error names the column; so it does for what is not bool."""
    with pytest.raises(ConfigError, match="'a' has 2 rows and `right` has 3"):
        parts({"a": [1, 2]}, half_right(3))
    with pytest.raises(ConfigError, match="one bool for each"):
        parts({"a": [1, 2]}, np.array([1.0, 0.0]))
