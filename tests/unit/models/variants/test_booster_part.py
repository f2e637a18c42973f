"""Boosters of LightGBM and XGBoost, listened to and exchanged."""

from __future__ import annotations

import gc
import json
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.models.variants.booster_part import BoosterPart

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

X = np.random.default_rng(0).normal(size=(60, 3))
INPUTS = [("X", "float64")]


class Holder:
    """As users hold a booster."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def part(self) -> BoosterPart:
        """The booster as a part."""
        return BoosterPart(self.model, self, "model")


@pytest.fixture
def holder() -> Holder:
    """One of LightGBM."""
    options = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return Holder(lightgbm.train(options, lightgbm.Dataset(X, X[:, 0]), 3))


@pytest.fixture
def in_place() -> Holder:
    """One of XGBoost."""
    return Holder(xgboost.train({"nthread": 1}, xgboost.DMatrix(X, X[:, 0]), 3))


def graph(arrays: Any) -> list[Any]:
    """A graph that gives a column of sevens."""
    return [np.full((len(arrays[0]), 1), 7, dtype=np.float32)]


def constants_of(call: Any) -> Any:
    """As they come back from the metadata of a variant."""
    return json.loads(json.dumps(dict(call.constants)))


def test_a_booster_is_listened_to(holder: Holder) -> None:
    """It answers as ever, and is in its place again afterwards."""
    model = holder.model
    with holder.part.listening() as calls:
        said = holder.model.predict(X)
    assert model.predict(X).tolist() == said.tolist()
    assert X.tolist() == calls[0].arrays["X"].tolist()
    wanted = {"form": "matrix", "width": 3, "options": {}, "not_finite": []}
    assert (wanted, model) == (calls[0].constants, holder.model)


def test_a_graph_answers_in_its_place(holder: Holder) -> None:
    """In the shape and dtype of the booster's own answers; all else is still the booster's."""
    with holder.part.listening() as calls:
        holder.model.predict(X)
    holder.part.exchange(graph, INPUTS, constants_of(calls[0]))
    found = holder.model.predict(X)
    assert ([7.0] * 60, np.float64) == (found.tolist(), found.dtype)
    assert 3 == holder.model.num_trees()


def test_options_belong_to_the_call(in_place: Holder) -> None:
    """A graph was made for some of them; with others, the booster is asked."""
    expected = in_place.model.inplace_predict(X)
    with in_place.part.listening() as calls:
        in_place.model.inplace_predict(X, iteration_range=(0, 2))
    assert {"iteration_range": [0, 2]} == calls[0].constants["options"]
    in_place.part.exchange(graph, INPUTS, constants_of(calls[0]))
    assert {7.0} == set(in_place.model.inplace_predict(X, iteration_range=(0, 2)).tolist())
    assert expected.tolist() == in_place.model.inplace_predict(X).tolist()


def test_what_does_not_tell_its_content_goes_to_the_booster(in_place: Holder) -> None:
    """XGBoost's own matrix, of which nothing can be heard either."""
    with in_place.part.listening() as calls:
        expected = in_place.model.predict(xgboost.DMatrix(X))
        in_place.model.inplace_predict(X)
    assert 1 == len(calls)
    in_place.part.exchange(graph, INPUTS, constants_of(calls[0]))
    assert expected.tolist() == in_place.model.predict(xgboost.DMatrix(X)).tolist()


def test_what_the_graph_was_not_made_for_goes_to_the_booster(holder: Holder) -> None:
    """Options by their places, and values that are missing where none was."""
    odd = X.copy()
    odd[0, 0] = np.nan
    expected = holder.model.predict(X, 0, 2), holder.model.predict(odd)
    with holder.part.listening() as calls:
        holder.model.predict(X)
    holder.part.exchange(graph, INPUTS, constants_of(calls[0]))
    assert expected[0].tolist() == holder.model.predict(X, 0, 2).tolist()
    assert expected[1].tolist() == holder.model.predict(odd).tolist()


def test_the_booster_outlives_what_took_its_place(holder: Holder) -> None:
    """Its memory is freed once, and by itself."""
    model = holder.model
    for _ in range(3):
        with holder.part.listening():
            pass
        gc.collect()
    assert 60 == len(model.predict(X))


@pytest.mark.parametrize(
    ("args", "options", "reason"),
    [((0, 2), {}, "without their names"), ((), {"start_iteration": np.int8(0)}, "plain options")],
)
def test_options_that_cannot_be_kept_are_refused(
    holder: Holder, args: Any, options: Any, reason: str
) -> None:
    """While the booster is listened to."""
    part = holder.part
    with part.listening(), pytest.raises(CheckpointError, match=reason):
        holder.model.predict(X, *args, **options)


def test_a_graph_of_another_kind_does_not_fit(holder: Holder) -> None:
    """It was made of something else."""
    with pytest.raises(CheckpointError, match="another kind of part"):
        holder.part.exchange(graph, INPUTS, {"form": "matrix", "methods": ["predict"]})
