"""Novelty on simulated rows and on sentences about two topics."""

from __future__ import annotations

import json
import string
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError, ConfigError
from salver.trust.novelty import (
    Layers,
    Novelty,
    Table,
    Words,
    fit_layers,
    fit_table,
    fit_words,
    novelty_of,
)

LAYERS, SIZE = 2, 24
LETTERS = "abcdefghij"
GARDEN = {
    "who": ["the gardener", "my neighbour", "an old farmer", "her uncle"],
    "does": ["waters", "prunes", "plants", "picks", "admires"],
    "what": ["roses", "apple trees", "beans", "tomatoes", "the lawn", "tulips"],
    "when": ["in spring", "after the rain", "before noon", "every week", "at dawn"],
}
RAILWAY = {
    "who": ["the driver", "a passenger", "the guard", "my neighbour"],
    "does": ["misses", "boards", "awaits", "inspects", "admires"],
    "what": ["the night train", "a carriage", "the express", "the engine", "a ticket"],
    "when": ["at the station", "before noon", "on platform 9", "every week", "in 1987"],
}


def states(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Float32 of shape (n, LAYERS, SIZE): three clusters, correlated, far from the origin."""
    mixing = np.random.default_rng(99).normal(size=(SIZE, SIZE)) * np.logspace(0, -2, SIZE)
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(98).normal(size=(3, SIZE))
    rows = random.normal(size=(n, LAYERS, SIZE)) @ mixing
    rows += centres[random.integers(0, 3, n)][:, None] + 5 + shift
    return rows.astype(np.float32)


def sentences(n: int, seed: int) -> list[str]:
    """About gardens and railways, with names of places of which there are always new ones."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        topic = GARDEN if random.random() < 0.5 else RAILWAY
        places = ["".join(LETTERS[int(d)] for d in str(i)) for i in random.zipf(1.6, 12)]
        words = [str(random.choice(part)) for part in topic.values()]
        made.append(" ".join([*words, "near", *places[: random.integers(1, 13)]]).capitalize())
    return made


def columns(n: int, seed: int) -> dict[str, np.ndarray]:
    """Two numbers that belong together, a count, a flag, two categories, a nullable one, an id."""
    random = np.random.default_rng(seed)
    size = random.normal(170, 10, n)
    made: dict[str, Any] = {
        "size": size,
        "weight": size * 0.5 + random.normal(0, 2, n),
        "children": random.poisson(1.0, n).astype(np.int64),
        "member": random.random(n) < 0.3,
        "city": random.choice(["Bern", "Basel", "Genf"], n, p=[0.6, 0.3, 0.1]).astype(object),
        "paid": random.choice(["cash", "card"], n).astype(object),
        "age": np.array([None if u < 0.2 else int(20 + 60 * u) for u in random.random(n)], object),
        "id": np.array([f"{seed}-{i}" for i in range(n)], object),
    }
    return made


def changed(given: dict[str, np.ndarray], **values: Any) -> dict[str, np.ndarray]:
    """The same rows with other values in some columns."""
    n = len(given["size"])
    made = dict(given)
    for name, value in values.items():
        column = np.empty(n, dtype=np.asarray(value).dtype if value is not None else object)
        column[:] = value
        made[name] = column.astype(object) if column.dtype.kind == "U" else column
    return made


def auroc(ordinary: np.ndarray, other: np.ndarray) -> float:
    """Chance that one of `other` is larger than one of `ordinary`."""
    apart = other[:, None] - ordinary[None]
    return float(np.mean((apart > 0) + 0.5 * (apart == 0)))


@cache
def one_of_each() -> list[tuple[Novelty, np.ndarray, Any]]:
    """A score of each kind, what its held-out rows score, and rows that it has not seen."""
    return [
        (*fit_layers(states(400, 0), states(200, 1)), states(2000, 2)),
        (*fit_words(sentences(400, 0), sentences(200, 1)), sentences(2000, 2)),
        (*fit_table(columns(400, 0), columns(200, 1)), columns(2000, 2)),
    ]


def stored(score: Novelty, path: Path) -> Novelty:
    """The score, written to files and read again."""
    np.savez(path / "arrays.npz", **score.arrays())
    with np.load(path / "arrays.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return novelty_of(json.loads(json.dumps(score.as_json(), allow_nan=False)), arrays)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_one_is_the_quantile_of_ordinary_rows(kind: int) -> None:
    """About 5 % of fresh rows are above 1, and held-out rows score like fresh ones."""
    score, held_out, fresh = one_of_each()[kind]
    scores = score.score(fresh)  # type: ignore[arg-type]
    assert (2000,) == scores.shape
    assert np.float64 == scores.dtype
    assert (200,) == held_out.shape
    assert 0.02 < np.mean(scores > 1) < 0.09
    assert np.mean(held_out > 1) <= 0.05
    assert 0.5 == pytest.approx(auroc(held_out, scores), abs=0.07)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_without_training_rows_held_out_rows_are_scored_by_others(kind: int) -> None:
    """Rows do not look familiar because the score was fitted on them."""
    given: Any = (states, sentences, columns)[kind](200, 3)
    fit: Any = (fit_layers, fit_words, fit_table)[kind]
    score, held_out = fit(None, given)
    fresh = score.score((states, sentences, columns)[kind](2000, 4))
    assert np.mean(fresh > 1) < 0.08
    assert 0.5 == pytest.approx(auroc(held_out, fresh), abs=0.08)
    if kind == 0:
        assert np.mean(held_out) > np.mean(score.score(given))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_row_does_not_depend_on_its_mates(kind: int) -> None:
    """One by one, in eights and all at once, it scores the same."""
    score: Any = one_of_each()[kind][0]
    given: Any = (states, sentences, columns)[kind](50, 5)

    def part(start: int, stop: int) -> Any:
        if isinstance(given, dict):
            return {name: column[start:stop] for name, column in given.items()}
        return given[start:stop]

    whole = score.score(given)
    for size in (1, 8, 33):
        parts = [score.score(part(i, i + size)) for i in range(0, 50, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-9)
    assert (0,) == score.score(part(0, 0)).shape


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_what_is_stored_scores_exactly_the_same(kind: int, tmp_path: Path) -> None:
    """Through an .npz without pickles and plain JSON."""
    score, _, fresh = one_of_each()[kind]
    again = stored(score, tmp_path)
    assert type(score) is type(again)
    assert score.scales == again.scales
    np.testing.assert_array_equal(
        score.score(fresh),  # type: ignore[arg-type]
        again.score(fresh),  # type: ignore[arg-type]
    )


def test_clusters_far_away_are_told_apart() -> None:
    """Also if only one layer of two has moved, or one direction that hardly varies."""
    score, _ = fit_layers(states(400, 0), states(200, 1))
    ordinary = score.score(states(1000, 2))
    assert auroc(ordinary, score.score(states(300, 3, shift=5.0))) > 0.99
    moved = states(300, 4)
    moved[:, 1] += 5.0
    assert auroc(ordinary, score.score(moved)) > 0.99
    assert 0.5 == pytest.approx(auroc(ordinary, score.score(states(1000, 5))), abs=0.05)
    turned = states(300, 6)[:, :, ::-1]  # the same numbers, in directions of other variance
    assert auroc(ordinary, score.score(turned)) > 0.99


def test_distances_are_those_of_mahalanobis() -> None:
    """With the covariance that scikit-learn finds."""
    from sklearn.covariance import LedoitWolf

    train, given = states(400, 0), states(10, 1)
    score, _ = fit_layers(train, states(200, 2))
    for layer in range(LAYERS):
        wanted = LedoitWolf().fit(train[:, layer].astype(np.float64))
        squared = wanted.mahalanobis(given[:, layer].astype(np.float64))
        np.testing.assert_allclose(score.distances(given)[:, layer], squared**0.5, rtol=1e-4)


def test_fewer_rows_than_numbers_are_enough() -> None:
    """Twenty rows of 100 numbers tell what is three times as far."""
    random = np.random.default_rng(0)
    score, _ = fit_layers(None, random.normal(size=(20, 1, 100)))
    near = score.score(random.normal(size=(500, 1, 100)))
    assert np.mean(near > 1) < 0.1
    assert score.score(3 * random.normal(size=(500, 1, 100))).min() > 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 5.0, 1e4])
def test_constant_states_are_ordinary_and_others_are_novel(value: float) -> None:
    """Nothing is divided by zero, and rounding is nothing new."""
    given = np.full((20, 1, 4), value, dtype=np.float32)
    score, held_out = fit_layers(None, given)
    assert np.all(held_out <= 1)
    assert np.all(score.score(given) <= 1)
    nudged = given.copy()
    nudged[:, 0, 0] = np.nextafter(nudged[:, 0, 0], np.float32(np.inf))
    assert np.all(score.score(nudged) <= 1)
    other = score.score(given + 1)
    assert np.all(other > 1)
    assert np.all(np.isfinite(other))


def test_states_that_are_not_finite_have_no_finite_score() -> None:
    """And their mates have theirs."""
    score, _ = fit_layers(states(400, 0), states(200, 1))
    given = states(3, 2)
    wanted = score.score(given)[2]
    given[0, 0, 0], given[1, 1, 3] = np.nan, np.inf
    found = score.score(given)
    assert [False, False, True] == np.isfinite(found).tolist()
    assert wanted == pytest.approx(found[2])


def test_random_strings_are_more_novel_than_sentences() -> None:
    """Whether they are one word or many."""
    score, _ = fit_words(sentences(300, 0), sentences(100, 1))
    random = np.random.default_rng(2)
    signs = list(string.ascii_lowercase + string.digits)
    noise = [
        " ".join("".join(random.choice(signs, random.integers(3, 9))) for _ in range(count))
        for count in (1, 1, 2, 5, 12, 30)
    ]
    ordinary = score.score(sentences(500, 3))
    assert score.score([*noise, "...", "Der Zug nach Ulm"]).min() > max(ordinary.max(), 1.0)


def test_an_empty_text_is_as_novel_as_can_be() -> None:
    """More so than any number of unknown words."""
    score, _ = fit_words(sentences(300, 0), sentences(100, 1))
    empty, dots, unknown = score.score(["", " ... ?!", "qwx " * 5000])
    assert empty == dots
    assert empty > unknown > 1


def test_one_unknown_word_tells_less_than_ten_of_ten() -> None:
    """A known word alone is ordinary, and every unknown one among others counts."""
    score, _ = fit_words(sentences(300, 0), sentences(100, 1))
    one, ten, known, mixed, whole = score.score(
        ["qwx", "qwx " * 10, "roses", "my neighbour admires qwx", "my neighbour admires roses"]
    )
    assert whole < mixed < one < ten
    assert known <= 1


def test_texts_of_which_all_words_are_known_score_alike() -> None:
    """Nothing tells held-out ones from new ones, and one unknown word is novel."""
    given = ["the light is on", "the light is off", "the light is not on"] * 20
    score, held_out = fit_words(None, given)
    np.testing.assert_array_equal(held_out, score.score(given))
    assert held_out.max() <= 1
    assert score.score(["the light is broken"])[0] > 1
    assert score.score(["on"])[0] <= 1


def test_numbers_and_their_outliers_are_told() -> None:
    """Also numbers that are ordinary alone and do not belong together."""
    score, _ = fit_table(columns(400, 0), columns(200, 1))
    given = columns(50, 2)
    ordinary = score.score(given)
    assert score.score(changed(given, size=400.0)).min() > 1
    assert score.score(changed(given, size=np.inf)).min() > 1
    assert score.score(changed(given, size=155.0, weight=95.0)).min() > 1
    assert np.median(ordinary) < 1


def test_an_unseen_category_is_novel() -> None:
    """A rare one is less so; an id, which is always new, does not count."""
    score, _ = fit_table(columns(400, 0), columns(200, 1))
    given = columns(50, 2)
    assert score.score(changed(given, city="Rom")).min() > 1
    assert score.score(changed(given, paid=None)).min() > 1
    rare = score.distances(changed(given, city="Genf"))[:, 1]
    assert np.all(rare < score.distances(changed(given, city="Rom"))[:, 1])
    assert np.all(rare > score.distances(changed(given, city="Bern"))[:, 1])
    np.testing.assert_array_equal(score.score(given), score.score(changed(given, id="another")))


def test_a_missing_number_is_novel_where_none_was_missing() -> None:
    """Where some were, it is not."""
    score, _ = fit_table(columns(400, 0), columns(200, 1))
    given = columns(500, 2)
    assert score.score(changed(given, weight=np.nan)).min() > 1
    assert score.score(changed(given, children=None)).min() > 1
    assert np.mean(score.score(changed(given, age=None)) > 1) < 0.2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [["size"], ["city"], ["constant"], ["same"], ["void", "none"]])
def test_tables_of_one_sort_are_scored(names: list[str], tmp_path: Path) -> None:
    """Numbers alone, categories alone, constants alone, and columns that are always empty."""

    def some(n: int, seed: int) -> dict[str, np.ndarray]:
        given = columns(n, seed)
        given |= {"constant": np.full(n, 0.1), "same": np.array(["x"] * n, object)}
        given |= {"void": np.full(n, np.nan), "none": np.array([None] * n, object)}
        return {name: given[name] for name in names}

    score, held_out = fit_table(None, some(20, 0))
    score = stored(score, tmp_path)
    assert isinstance(score, Table)
    assert np.mean(held_out > 1) <= 0.05
    assert np.mean(score.score(some(500, 1)) > 1) < 0.3
    other = np.array([1e6 if score.numbers else "y"] * 3)
    assert score.score(dict.fromkeys(names, other)).min() > 1


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_too_few_rows_are_refused(kind: int) -> None:
    """With how many it takes."""
    fit: Any = (fit_layers, fit_words, fit_table)[kind]
    make: Any = (states, sentences, columns)[kind]
    with pytest.raises(ConfigError, match=r"10 held-out rows .* at least 20"):
        fit(None, make(10, 0))
    with pytest.raises(ConfigError, match=r"19 training rows .* at least 20"):
        fit(make(19, 0), make(20, 1))
    fit(None, make(20, 0))


def test_rows_that_tell_nothing_are_refused() -> None:
    """Texts without words, tables of ids, columns that are missing, states without numbers."""
    with pytest.raises(ConfigError, match="no words"):
        fit_words(None, ["..."] * 20)
    with pytest.raises(ConfigError, match=r"\['id'\]"):
        fit_table(None, {"id": columns(20, 0)["id"]})
    with pytest.raises(ConfigError, match=r"lack columns .*\['size'\]"):
        fit_table({"size": np.ones(20), "x": np.ones(20)}, {"x": np.ones(20)})
    with pytest.raises(ConfigError, match=r"shape \(20, 24\)"):
        fit_layers(None, states(20, 0)[:, 0])
    with pytest.raises(ConfigError, match=r"shape \(20, 1, 24\)"):
        fit_layers(states(20, 0)[:, :1], states(20, 0))
    with pytest.raises(ConfigError, match="not finite"):
        fit_layers(None, np.full((20, 1, 4), np.nan))


def test_rows_of_another_model_are_refused() -> None:
    """Other layers, or no such column."""
    layers, _ = fit_layers(None, states(20, 0))
    with pytest.raises(CheckpointError, match=r"shape \(3, 1, 24\)"):
        layers.score(states(3, 1)[:, :1])
    table, _ = fit_table(None, columns(20, 0))
    with pytest.raises(CheckpointError, match=r"\['size'"):
        table.score({"city": columns(3, 1)["city"]})


def spoilt(score: Novelty) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """What may be stored and is not this score."""
    told, arrays = score.as_json(), score.arrays()
    found = [
        ({**told, "kind": "tea"}, arrays),
        ({**told, "scales": []}, arrays),
        ({**told, "scales": [*told["scales"], 1.0]}, arrays),
        ({**told, "scales": [0.0] * len(told["scales"])}, arrays),
        ({**told, "scales": ["1"] * len(told["scales"])}, arrays),
        ({name: value for name, value in told.items() if name != "scales"}, arrays),
        (told, {}),
    ]
    for name, array in arrays.items():
        found.append((told, {**arrays, name: array[:0]}))
        found.append((told, {**arrays, name: array.astype(np.float64)}))
        found.append((told, {**arrays, name: array[..., None]}))
    return found


@pytest.mark.parametrize("kind", [Layers, Words, Table])
def test_what_is_stored_wrongly_is_refused(kind: type) -> None:
    """Unknown kinds, missing parts, other shapes and types of arrays."""
    (score,) = (made for made, _, _ in one_of_each() if isinstance(made, kind))
    cases = spoilt(score)
    if kind is Table:
        arrays = score.arrays()
        cases.append(({**score.as_json(), "columns": {}}, arrays))
        cases.append(({**score.as_json(), "columns": []}, arrays))
        broken = {name: np.full_like(array, np.nan) for name, array in arrays.items()}
        cases.append((score.as_json(), broken))
    for told, arrays in cases:
        with pytest.raises(CheckpointError, match="salver calibrate"):
            novelty_of(told, arrays)
