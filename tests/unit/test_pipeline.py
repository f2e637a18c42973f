from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.held_out import held_out
from salver.errors import CheckpointError, ConfigError, MissingExtra
from salver.outputs import BadModelOutput, plain_row
from salver.pipeline import Pipeline, joined
from salver.policies import Precision, Scored, Threshold
from salver.types import Batch, ClassProbabilities, Failure, Field, Outcomes

SIZE = 32


class Word(str, Enum):  # noqa: UP042 - unlike a StrEnum its str() is not its value
    YES = "yes"


class Level(IntEnum):
    LOW = 1


class Abort(BaseException):
    """What a model should not raise."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def batch(n: int = SIZE) -> Batch:
    return Batch((Field("n", "int64"),), [(i,) for i in range(n)])


def raising(error: Callable[[], BaseException]) -> Callable[[list[int]], Any]:
    def output(_rows: list[int]) -> Any:
        raise error()

    return output


class Model:
    """Two classes; `poison` decides what comes of a batch that holds a poisoned row."""

    classes_ = np.array(["even", "odd"])

    def __init__(self, poisoned: Any = (), poison: Any = raising(lambda: ValueError("boom"))):
        self.poisoned = set(poisoned)
        self.poison = poison
        self.calls: list[int] = []

    def __call__(self, columns: dict[str, np.ndarray]) -> Any:
        rows = columns["n"].tolist()
        self.calls.append(len(rows))
        if self.poisoned.intersection(rows):
            return self.poison(rows)
        odd = [(i % 2) * 0.6 + 0.2 for i in rows]
        return {"probabilities": np.array([[1 - p, p] for p in odd]), "row": rows}


CLEAN = list(Pipeline(Model()).run(batch()))

BAD_OUTPUTS: list[tuple[Any, str]] = [
    # what a model does with a batch that holds a bad row, code of the failure
    (raising(lambda: ValueError("boom")), "model_error"),
    (raising(SystemExit), "model_error"),
    (raising(KeyboardInterrupt), "model_error"),
    (raising(GeneratorExit), "model_error"),
    (raising(StopIteration), "model_error"),
    (raising(RecursionError), "model_error"),
    (raising(MemoryError), "model_error"),
    (raising(Abort), "model_error"),
    (raising(Unprintable), "model_error"),
    (raising(lambda: BaseExceptionGroup("several", [Abort(), ValueError()])), "model_error"),
    (lambda rows: None, "bad_model_output"),
    (lambda rows: 5, "bad_model_output"),
    (lambda rows: "x" * len(rows), "bad_model_output"),
    (lambda rows: b"x" * len(rows), "bad_model_output"),
    (lambda rows: (i for i in rows), "bad_model_output"),
    (lambda rows: {}, "bad_model_output"),
    (lambda rows: [], "bad_model_output"),
    (lambda rows: object(), "bad_model_output"),
    (lambda rows: [object()] * len(rows), "bad_model_output"),
    (lambda rows: [1j] * len(rows), "bad_model_output"),
    (lambda rows: [b"x"] * len(rows), "bad_model_output"),
    (lambda rows: [2**63] * len(rows), "bad_model_output"),
    (lambda rows: ["\ud800"] * len(rows), "bad_model_output"),
    (lambda rows: [{"\ud800": 1}] * len(rows), "bad_model_output"),
    (lambda rows: [1] * (len(rows) + 1), "bad_model_output"),
    (lambda rows: [1] * (len(rows) - 1), "bad_model_output"),
    (lambda rows: np.array(1), "bad_model_output"),
    (lambda rows: {"prediction": set(rows)}, "bad_model_output"),
    (lambda rows: {"prediction": dict.fromkeys(rows)}, "bad_model_output"),
    (lambda rows: {"prediction": 1}, "bad_model_output"),
    (lambda rows: {"prediction": "x" * len(rows)}, "bad_model_output"),
    (lambda rows: {"prediction": rows, "more": [*rows, 1]}, "bad_model_output"),
    (lambda rows: np.ones((len(rows), 3)), "bad_model_output"),
    (lambda rows: np.ones((len(rows) + 1, 2)), "bad_model_output"),
    (lambda rows: {"probabilities": np.ones(len(rows))}, "bad_model_output"),
    (lambda rows: {"probabilities": [["x", "y"]] * len(rows)}, "bad_model_output"),
    (lambda rows: {"probabilities": [[1.0], *[[0.5, 0.5]] * (len(rows) - 1)]}, "bad_model_output"),
]


@pytest.mark.parametrize(("poison", "code"), BAD_OUTPUTS, ids=range(len(BAD_OUTPUTS)))
@pytest.mark.parametrize("position", [0, 13, 31])
def test_a_bad_row_fails_alone(poison, code, position):
    """Whatever a model does with one row of 32, that row fails and the others are answered."""
    model = Model({position}, poison)
    outcomes = Pipeline(model).run(batch())
    assert list(outcomes.failures) == [position]
    assert outcomes.failures[position].code == code
    others = [i for i in range(SIZE) if i != position]
    assert [outcomes[i] for i in others] == [CLEAN[i] for i in others]
    assert len(model.calls) <= 11


@given(st.sets(st.integers(0, SIZE - 1)), st.integers(1, SIZE))
def test_exactly_the_poisoned_rows_fail(poisoned, n):
    """For any set of bad rows and any size, these fail and the others equal the clean answers."""
    outcomes = Pipeline(Model(poisoned)).run(batch(n))
    assert set(outcomes.failures) == {i for i in poisoned if i < n}
    assert len(outcomes) == n
    for i, outcome in enumerate(outcomes):
        assert not outcome.ok if i in poisoned else outcome == CLEAN[i]


@pytest.mark.parametrize("position", range(SIZE))
def test_one_bad_row_costs_eleven_calls(position):
    """Halving finds one bad row of 32 with 11 calls of the model, wherever it stands."""
    model = Model({position})
    Pipeline(model).run(batch())
    assert len(model.calls) == 11
    assert sum(size == 1 for size in model.calls) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["probabilities", "score", "nested"])
@pytest.mark.parametrize("position", [0, 13, 31])
def test_a_number_that_is_not_finite_fails_its_row(bad, where, position):
    """NaN or infinity in any output fails that row by the name of the column, without a re-run."""

    class Scores(Model):
        def __call__(self, columns):
            n = len(columns["n"])
            self.calls.append(n)
            probabilities, score = np.full((n, 2), 0.5), np.zeros(n)
            nested = [{"all": [0.0]} for _ in range(n)]
            if where == "probabilities":
                probabilities[position, 1] = bad
            elif where == "score":
                score[position] = bad
            else:
                nested[position]["all"][0] = bad
            return {"probabilities": probabilities, "score": score, "nested": nested}

    model = Scores()
    outcomes = Pipeline(model, [Threshold(0.9, "other")]).run(batch())
    assert list(outcomes.failures) == [position]
    assert outcomes.failures[position].code == "non_finite_output"
    assert where in outcomes.failures[position].message
    assert model.calls == [SIZE]
    assert outcomes.abstained == set(range(SIZE)) - {position}
    orjson.dumps([outcome.as_json() for outcome in outcomes])


def test_a_failure_shows_the_kind_of_error_and_logs_the_rest():
    """A client learns the class of the exception; text and traceback go to detail and log."""
    logged: list[str] = []
    model = Model({2}, raising(lambda: OSError("/secret/path is missing")))
    failure = Pipeline(model, log=logged.append).run(batch(4)).failures[2]
    assert failure.message == "The model raised OSError on this row."
    assert "/secret/path" in failure.detail
    assert logged == [failure.detail]


# --- outputs that are accepted


@pytest.mark.parametrize(
    ("output", "values"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, 2], dtype=np.int8), [1, 2]),
        (np.array([0.5, 1.5], dtype=np.float32), [0.5, 1.5]),
        ([True, np.True_], [True, True]),
        ([np.int64(1), np.float64(0.5)], [1, 0.5]),
        ([Word.YES, Level.LOW], ["yes", 1]),
        ([None, "x"], [None, "x"]),
        ([["a", 1], ("b", 2)], [["a", 1], ["b", 2]]),
        ([{"a": np.ones(2)}, {1: None}], [{"a": [1.0, 1.0]}, {"1": None}]),
        (np.zeros((2, 2, 1)), [[[0.0], [0.0]], [[0.0], [0.0]]]),
        ({"prediction": pd.Series(["a", "b"])}, ["a", "b"]),
        (pd.DataFrame({"prediction": ["a", "b"]}), ["a", "b"]),
        ([2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        (["é\0", "🙂"], ["é\0", "🙂"]),
    ],
    ids=range(16),
)
def test_predictions_become_plain_values(output, values):
    """Lists, arrays, frames and columns of usual values are given on as JSON knows them."""
    outcomes = Pipeline(lambda columns: output).run(batch(2))
    assert [outcome["prediction"] for outcome in outcomes] == values
    assert [type(v) for v in outcomes.columns["prediction"]] == [type(v) for v in values]
    assert json.loads(orjson.dumps([o.as_json()["prediction"] for o in outcomes])) == values


def test_a_matrix_is_probabilities():
    """An array of shape (n, k) names the best class of each row and one probability per class."""
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])

    class Matrix:
        classes_ = ("no", "yes")

        def __call__(self, columns):
            return probabilities

    assert [outcome.as_json() for outcome in Pipeline(Matrix()).run(batch(2))] == [
        {"prediction": "yes", "probabilities": {"no": 0.25, "yes": 0.75}},
        {"prediction": "no", "probabilities": {"no": 0.5, "yes": 0.5}},
    ]
    bare = Pipeline(lambda columns: probabilities).run(batch(2))
    assert bare[0].as_json() == {"probabilities": [0.25, 0.75]}


def test_a_models_own_prediction_is_kept():
    """A model that gives predictions beside probabilities is believed."""

    class Own:
        classes_ = ("no", "yes")

        def __call__(self, columns):
            return {"prediction": ["yes"], "probabilities": [[0.9, 0.1]]}

    assert Pipeline(Own()).run(batch(1))[0]["prediction"] == "yes"


def test_an_empty_batch_costs_no_call():
    """Nothing to predict gives no outcomes."""
    model = Model()
    assert len(Pipeline(model).run(batch(0))) == 0
    assert len(Pipeline(model).run_without_policies(batch(0))) == 0
    assert model.calls == []


def test_two_classes_of_one_name_are_refused():
    """A probability would be lost if two classes shared a key, also as text."""
    for classes in (["a", "a"], [1, "1"]):
        model = type("Twice", (Model,), {"classes_": classes})()
        with pytest.raises(ConfigError, match=r"Twice\.classes_"):
            Pipeline(model)


# --- policies


def test_policies_apply_to_isolated_rows_too():
    """After a batch was halved, each row is decided as it would be in a clean batch."""
    policies = [Threshold(0.8, "other")]
    clean = Pipeline(Model(), policies).run(batch())
    assert clean.abstained == frozenset()
    strict = [Threshold(0.81, "other")]
    outcomes = Pipeline(Model({5, 6}), strict).run(batch())
    assert set(outcomes.failures) == {5, 6}
    assert outcomes.abstained == set(range(SIZE)) - {5, 6}
    assert {o["prediction"] for o in outcomes if o.ok} == {"other"}
    assert [o["probabilities"] for o in outcomes if o.ok] == [
        o["probabilities"] for i, o in enumerate(clean) if i not in (5, 6)
    ]


class Odd:
    """Withholds the answer of odd rows."""

    needs_probabilities = False

    def __call__(self, scored: Scored) -> Scored:
        odd = np.array([row % 2 == 1 for row in scored.columns["row"]])
        return replace(scored, abstained=scored.abstained | odd)


@given(st.sets(st.integers(0, SIZE - 1)))
def test_abstentions_keep_their_rows(poisoned):
    """Positions of abstentions are right however the batch was halved; failed rows have none."""
    outcomes = Pipeline(Model(poisoned), [Odd()]).run(batch())
    assert outcomes.abstained == {i for i in range(1, SIZE, 2) if i not in poisoned}
    assert [o.abstained for o in outcomes] == [i in outcomes.abstained for i in range(SIZE)]


def test_the_model_alone_can_be_asked():
    """Without policies the model's own answer is given."""
    pipeline = Pipeline(Model(), [Threshold(1, "other")])
    assert list(pipeline.run_without_policies(batch())) == CLEAN


def test_a_policy_that_needs_probabilities_needs_classes():
    """A threshold over a model without classes is refused when it is loaded, with what to do."""
    with pytest.raises(ConfigError, match="classes_"):
        Pipeline(lambda columns: ["a"], [Threshold(0.5)])


def test_a_model_that_gives_no_probabilities_after_all_is_at_fault():
    """A model that names classes but returns labels fails the policy's rows with the reason."""
    model = Model(range(SIZE), lambda rows: ["even"] * len(rows))
    failure = Pipeline(model, [Threshold(0.5)]).run(batch(1)).failures[0]
    assert failure.code == "bad_model_output"
    assert "Threshold needs" in failure.message


class Rule:
    needs_probabilities = False

    def __init__(self, **changes: Callable[[Scored], Any]) -> None:
        self.changes = changes

    def __call__(self, scored: Scored) -> Scored:
        return replace(scored, **{name: make(scored) for name, make in self.changes.items()})


def test_columns_of_a_policy_become_plain_values():
    """A policy may add columns of numpy values; they are given on as JSON knows them."""
    rule = Rule(columns=lambda s: {**s.columns, "confidence": s.probabilities.max(axis=1)})
    outcomes = Pipeline(Model(), [rule]).run(batch(2))
    assert orjson.loads(orjson.dumps(outcomes[1].as_json()))["confidence"] == 0.8
    assert outcomes[1].as_json() == {**CLEAN[1].as_json(), "confidence": 0.8}


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(columns=lambda s: {**s.columns, "x": [float("nan")] * 2}), "non_finite_output"),
        (Rule(columns=lambda s: {**s.columns, "x": [object()] * 2}), "bad_model_output"),
        (Rule(columns=lambda s: {"prediction": ["one"] * 3}), "bad_model_output"),
        (Rule(abstained=lambda s: np.ones(5, dtype=bool)), "bad_model_output"),
        (Rule(columns=lambda s: 1 / 0), "model_error"),
    ],
)
def test_a_bad_policy_fails_rows_and_raises_nothing(rule, code):
    """What a policy returns is checked like the output of a model."""
    outcomes = Pipeline(Model(), [rule]).run(batch(2))
    assert {failure.code for failure in outcomes.failures.values()} == {code}
    assert len(outcomes.failures) == 2


# --- pandas


def test_pandas_is_asked_for_before_the_first_batch(monkeypatch):
    """Without pandas a pipeline of frames is refused with the extra to install."""
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"batch_format='pandas' .*salver\[pandas\]"):
        Pipeline(Model(), batch_format="pandas")
    Pipeline(Model())


def test_a_frame_has_the_values_of_the_columns():
    """batch_format="pandas" keeps dtypes: null stays None among texts, lists stay lists."""
    fields = (
        Field("text", "string", True),
        Field("n", "int64"),
        Field("maybe", "int64", True),
        Field("x", "float64", True),
        Field("list", "object"),
        Field("flag", "bool"),
    )
    rows = [("a\0", 1, None, None, [1, 2], True), (None, 2, 3, 0.5, [3, 4], False)]
    seen: list[pd.DataFrame] = []

    def model(frame):
        seen.append(frame)
        return frame

    outcomes = Pipeline(model, batch_format="pandas").run(Batch(fields, rows))
    dtypes = [str(dtype) for dtype in seen[0].dtypes]
    assert dtypes == ["object", "int64", "object", "float64", "object", "bool"]
    assert seen[0]["text"].tolist() == ["a\0", None]
    assert seen[0]["list"].tolist() == [[1, 2], [3, 4]]
    assert outcomes[1].as_json() == dict(zip(seen[0].columns, rows[1], strict=True))
    assert list(outcomes.failures) == [0]  # its NaN came back as it was given


# --- joining


def test_joined_outcomes_are_one_after_the_other():
    """Positions of failures and abstentions move with their rows; missing columns are null."""
    first = Outcomes(2, {"p": [1, 2], "only": ["x", "y"]}, {}, frozenset({1}))
    second = Outcomes(2, {"p": [3, 4]}, {0: Failure("a", "b")}, frozenset({1}))
    both = joined(first, second)
    assert both == Outcomes(
        4,
        {"p": [1, 2, 3, 4], "only": ["x", "y", None, None]},
        {2: Failure("a", "b")},
        frozenset({1, 3}),
    )


def test_no_probability_is_invented_where_there_is_none():
    """A half without probabilities gets zeros only where all its rows failed, else null."""
    named = Outcomes(1, {"probabilities": ClassProbabilities(("a", "b"), [[0.25, 0.75]])})
    failed = Outcomes(1, {}, {0: Failure("a", "b")})
    other = Outcomes(1, {"prediction": ["x"]})
    for half in (joined(named, failed), joined(failed, named)):
        assert isinstance(half.columns["probabilities"], ClassProbabilities)
    assert joined(named, other)[1].as_json() == {"probabilities": None, "prediction": "x"}
    assert joined(other, named)[1]["probabilities"] == {"a": 0.25, "b": 0.75}


def test_one_result_is_made_plain():
    """A composed function's result is checked as a model's is."""
    assert plain_row({"a": np.float32(0.5), 1: Word.YES}) == ({"a": 0.5, "1": "yes"}, None)
    assert plain_row({"a": float("nan")})[1].code == "non_finite_output"
    with pytest.raises(BadModelOutput, match="object"):
        plain_row({"a": object()})


def test_a_model_may_give_an_exception_for_a_row():
    """That row fails with it, and no other row is asked again."""
    asked = []

    def model(columns):
        asked.append(len(columns["n"]))
        return {"prediction": [ValueError("x") if n == 1 else int(n) for n in columns["n"]]}

    outcomes = Pipeline(model).run(batch(3))
    assert [3] == asked
    assert "model_error" == outcomes[1].failure.code
    assert "ValueError" in outcomes[1].failure.message
    assert [0, 2] == [outcomes[0]["prediction"], outcomes[2]["prediction"]]


def test_a_model_that_takes_no_batches_is_found_out():
    """Which `run` hides, by asking row by row."""

    def single(columns):
        if len(columns["n"]) > 1:
            raise ValueError("one at a time")
        return columns["n"].tolist()

    assert [0, 1] == [o["prediction"] for o in Pipeline(single).run(batch(2))]
    assert not Pipeline(single).takes_batches(batch(2))
    assert Pipeline(single).takes_batches(batch(1))


class Trusted:
    """What was calibrated: half the probability, and the length of a text as its novelty."""

    def __init__(self) -> None:
        self.held_out = held_out(500)

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.max(axis=1) / 2

    def novelty(self, batch: Batch, hidden_states: np.ndarray | None) -> np.ndarray:
        lengths = np.array([len(row[0]) for row in batch.rows], dtype=float)
        return lengths if hidden_states is None else hidden_states[:, 0, 0]


class Inner:
    """Gives more than an answer."""

    classes_ = ("a", "b", "c")

    def __init__(self, **others):
        self.others = others

    def __call__(self, batch):
        n = len(batch["text"])
        given = {name: make(n) for name, make in self.others.items()}
        return {"probabilities": np.tile([0.8, 0.1, 0.1], (n, 1)), **given}


def texts(*given: str) -> Batch:
    return Batch((Field("text", "string"),), [(text,) for text in given])


def test_what_is_known_of_an_answer_stands_beside_it():
    """In details, for those who ask; the answer itself is the plain one."""
    outcomes = Pipeline(Inner(), trust=Trusted()).run(texts("x", "yyy"))
    assert set(outcomes[0].value) == {"prediction", "probabilities"}
    assert [o.details for o in outcomes] == [
        {"confidence": 0.4, "novelty": 1.0},
        {"confidence": 0.4, "novelty": 3.0},
    ]
    assert outcomes[1].as_json(["novelty", "truncated"]).keys() - outcomes[1].value.keys() == {
        "novelty",
        "truncated",
    }


def test_details_may_be_given_with_every_answer():
    """As columns; null where they are not known, and never instead of the model's own."""
    model = Inner(confidence=lambda n: ["high"] * n)
    details = ("confidence", "novelty", "abstained", "version")
    pipeline = Pipeline(model, [Threshold(0.9)], details=details, version="v1")
    value = pipeline.run(texts("x"))[0].value
    assert value["confidence"] == "high"
    assert value["novelty"] is None
    assert value["version"] == "v1"
    assert value["abstained"] == "Threshold: probability 0.800 is below 0.9"


def test_hidden_states_are_for_novelty_alone():
    """No client sees them; other shapes are not usable."""
    model = Inner(hidden_states=lambda n: np.full((n, 2), 7.0))
    outcome = Pipeline(model, trust=Trusted()).run(texts("x"))[0]
    assert outcome.details["novelty"] == 7.0
    assert "hidden_states" not in {**outcome.value, **outcome.details}
    assert "hidden_states" not in Pipeline(model).run(texts("x"))[0].value
    flat = Inner(hidden_states=np.zeros)
    assert Pipeline(flat).run(texts("x"))[0].failure.code == "bad_model_output"
    endless = Inner(hidden_states=lambda n: np.full((n, 2), np.inf))
    assert Pipeline(endless, trust=Trusted()).run(texts("x"))[0].failure.code == "non_finite_output"


class OfAnother(Trusted):
    """What was calibrated for another model."""

    def novelty(self, batch: Batch, hidden_states: np.ndarray | None) -> np.ndarray:
        raise CheckpointError("It is of other states. Run salver calibrate again.")


def test_a_calibration_of_another_model_is_not_said_to_be_an_error_of_the_model():
    """What the row's failure says is what to do."""
    failure = Pipeline(Inner(), trust=OfAnother()).run(texts("x"))[0].failure
    assert failure.code == "bad_model_output"
    assert failure.message.endswith("It is of other states. Run salver calibrate again.")


def test_what_a_model_has_cut_off_is_told_to_those_who_ask():
    """It is no part of the plain answer."""
    outcome = Pipeline(Inner(truncated=lambda n: [{"kept": 2, "of": 5}] * n)).run(texts("x"))[0]
    assert "truncated" not in outcome.value
    assert outcome.details == {"truncated": {"kept": 2, "of": 5}}


def test_promises_get_their_limits_when_a_model_is_loaded():
    """Without held-out rows that is an error, with what to do."""
    with pytest.raises(ConfigError, match="salver calibrate"):
        Pipeline(Inner(), [Precision(0.9)])
    pipeline = Pipeline(Inner(), [Precision(0.9, "unsure")], trust=Trusted())
    outcome = pipeline.run(texts("x"))[0]
    assert outcome.abstained
    assert outcome["prediction"] == "unsure"
    assert outcome.details["abstained"].startswith("Precision: confidence 0.400 is below ")


def test_details_survive_a_bad_neighbour():
    """Halves of a batch are put together again, with null where one knows nothing."""
    known = Outcomes(1, {"prediction": ["a"]}, details={"confidence": [0.5]})
    both = joined(known, Outcomes(1, {"prediction": ["b"]}))
    assert [o.details for o in both] == [{"confidence": 0.5}, {"confidence": None}]


class Withholds:
    """A policy of one's own that withholds all rows, and gives these reasons."""

    needs_probabilities = False

    def __init__(self, reasons):
        self.reasons = reasons

    def __call__(self, scored):
        n = len(scored.abstained)
        return replace(scored, abstained=np.ones(n, dtype=bool), reasons=self.reasons[:n])


def test_reasons_are_texts_for_each_row():
    """Without any, the policy's name is the reason; others make its output unusable."""
    known = Pipeline(Inner(), [Withholds(())]).run(texts("x", "y"))
    assert [o.details for o in known] == [{"abstained": "Withholds"}] * 2
    for reasons in ([7, 7], np.array([1.0, 2.0])):
        outcome = Pipeline(Inner(), [Withholds(reasons)]).run(texts("x", "y"))[1]
        assert outcome.failure.code == "bad_model_output"
    short = Pipeline(Inner(), [Withholds(["only one"])]).run(texts("x", "y"))
    assert [o.details["abstained"] for o in short] == ["only one", "only one"]  # asked one by one
