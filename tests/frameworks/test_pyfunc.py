"""Models of one's own: MLflow's predict is what a model by URI answers, online and offline."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pydantic
import pytest
import scipy.sparse
import yaml
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.agent import ChatAgentMessage, ChatAgentResponse
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage
from mlflow.types.schema import Array, Map, Object, Property
from sklearn.linear_model import LinearRegression

from frameworks.asking import Asker
from salver.errors import CheckpointError, SalverError
from salver.models.adoption import described
from salver.models.checkpoint import Checkpoint
from salver.models.description import Description
from salver.models.served import ServedModel
from salver.schema import Schema as Rows

# The processes that serve cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
mlflow.tracing.disable()  # of agents, into a store in the working directory

TABLE = pd.DataFrame(
    {
        "a b": np.arange(7, dtype=np.int64),
        "weight": np.linspace(0, 1, 7, dtype=np.float32),
        "city": ["Ulm", "Köln", "Graz", "Ulm", "Köln", "Graz", "Ulm"],
    }
)


class Mine(mlflow.pyfunc.PythonModel):
    """Takes a parameter and a file."""

    def load_context(self, context: Any) -> None:
        self.by_city = json.loads(Path(context.artifacts["prices"]).read_text())

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        price = model_input["city"].map(self.by_city) * params["factor"]
        return pd.DataFrame(
            {"price": price + model_input["weight"], "dear": np.where(price > 5, "yes", "no")}
        )


def test_a_model_of_ones_own_by_alias(asker: Asker, tmp_path: Path) -> None:
    """A table goes in and comes out; the parameter has its default, the file is found."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"Ulm": 1.5, "Köln": 2.25, "Graz": 4}')
    signature = infer_signature(TABLE, params={"factor": 2.0})
    logged = mlflow.pyfunc.log_model(
        name="model", python_model=Mine(), artifacts={"prices": str(prices)}, signature=signature,
        pip_requirements=[], registered_model_name="mine",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("mine", "champion", "1")
    expected = mlflow.pyfunc.load_model(logged.model_uri).predict(TABLE)
    rows = [{**row, "weight": float(row["weight"])} for row in TABLE.to_dict("records")]
    asker.agree(
        "models:/mine@champion",
        rows,
        {"price": expected["price"], "dear": list(expected["dear"])},
        "--allow-code",
    )


SCRIPT = """
import mlflow
import pydantic
from helper import loud

class Message(pydantic.BaseModel):
    text: str
    times: int | None = 1

class Shouting(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[Message]) -> list[str]:
        return [loud(m.text) * m.times for m in model_input]

mlflow.models.set_model(Shouting())
"""


@pytest.fixture
def shouting(tmp_path: Path) -> Path:
    """A model from a script, with a module beside it."""
    script, helper, where = tmp_path / "shout.py", tmp_path / "helper.py", tmp_path / "shouting"
    script.write_text(SCRIPT)
    helper.write_text("def loud(text):\n    import late\n    return text.upper() + late.MARK\n")
    (tmp_path / "late.py").write_text("MARK = '!'\n")
    sys.path.insert(0, str(tmp_path))
    try:
        mlflow.pyfunc.save_model(
            where, python_model=str(script), pip_requirements=[],
            code_paths=[str(helper), str(tmp_path / "late.py")],
        )  # fmt: skip
    finally:
        sys.path.remove(str(tmp_path))
        for name in ("helper", "late"):
            sys.modules.pop(name, None)
    return where


def test_a_script_with_types_is_served_where_code_is_allowed(asker: Asker, shouting: Path) -> None:
    """And refused where not, with all that would run and the option that allows it."""
    refused = asker.run("serve", str(shouting), "--port", "0")
    assert 1 == refused.returncode
    assert "shout.py is Python code" in refused.stderr
    assert "code/helper.py, code/late.py can be imported" in refused.stderr
    assert "--allow-code" in refused.stderr
    rows = [{"input": {"text": "ah"}}, {"input": {"text": "o", "times": 3}}]
    asker.agree(str(shouting), rows, {"prediction": ["AH!", "O!O!O!"]}, "--allow-code")


def served(folder: Path) -> tuple[ServedModel, Rows]:
    """The model in `folder` in this process, and the schema of its rows."""
    checkpoint = Checkpoint.create(folder, described(folder, str(folder)))
    return ServedModel(checkpoint), Rows(Description.of(checkpoint).signature.row_model("Row"))


def ask(folder: Path, rows: Sequence[Any]) -> Any:
    """What it answers to rows of JSON."""
    model, schema = served(folder)
    return model(schema.parse_json(json.dumps(rows).encode()).columns())


def test_running_it_leaves_the_folder_as_it_is(shouting: Path) -> None:
    """No bytecode is written: every later process would find another digest."""
    model, schema = served(shouting)
    batch = schema.parse_json(b'{"input": {"text": "ah", "times": 2}}')
    assert {"prediction": ["AH!AH!"]} == model(batch.columns())
    Checkpoint.open(shouting)


def saved(where: Path, model: Any, schema: Schema | None = None, **more: Any) -> Path:
    signature = {} if schema is None else {"signature": ModelSignature(schema)}
    mlflow.pyfunc.save_model(where, python_model=model, pip_requirements=[], **signature, **more)
    return where


class Telling(mlflow.pyfunc.PythonModel):
    """Answers with what it was given."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        if isinstance(model_input, pd.DataFrame | dict):
            parts = {c: (str(v.dtype), v.tolist()) for c, v in model_input.items()}
        else:
            parts = (str(model_input.dtype), model_input.tolist())
        return [f"{type(model_input).__name__} {parts}"] * len(model_input)


NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - MLflow's have no zone
GIVEN: dict[str, tuple[Schema, Any, list[Any]]] = {
    "table": (
        Schema(
            [
                ColSpec("boolean", "b"),
                ColSpec("integer", "i"),
                ColSpec("long", "l"),
                ColSpec("float", "f"),
                ColSpec("double", "d", required=False),
                ColSpec("string", "s", required=False),
                ColSpec("binary", "y"),
                ColSpec("datetime", "t"),
            ]
        ),
        pd.DataFrame(
            {
                "b": [True, False],
                "i": np.array([1, 2], dtype=np.int32),
                "l": [2**40, 2],
                "f": np.array([0.1, 2], dtype=np.float32),
                "d": [0.1, None],
                "s": ["ü", None],
                "y": [b"\0a", b""],
                "t": [NOON, NOON],
            }
        ),
        [
            {"b": True, "i": 1, "l": 2**40, "f": 0.1, "d": 0.1, "s": "ü", "y": "AGE=",
             "t": "2024-05-01T12:00:00"},
            {"b": False, "i": 2, "l": 2, "f": 2, "y": "", "t": "2024-05-01T14:00:00+02:00"},
        ],
    ),
    "unnamed column": (
        Schema([ColSpec("string")]), ["a", "b"], [{"input": "a"}, {"input": "b"}]
    ),
    "unnamed tensor": (
        Schema([TensorSpec(np.dtype("float32"), (-1, 2))]),
        np.array([[1, 2], [3, 4]], dtype=np.float32),
        [{"input": [1, 2]}, {"input": [3, 4]}],
    ),
    "named tensors": (
        Schema(
            [TensorSpec(np.dtype("int64"), (-1, 2), "x"), TensorSpec(np.dtype("float64"), (-1,), "y")]
        ),
        {"x": np.array([[1, 2], [3, 4]]), "y": np.array([0.5, 1])},
        [{"x": [1, 2], "y": 0.5}, {"x": [3, 4], "y": 1}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_a_function_is_given_what_mlflow_gives_it(tmp_path: Path, name: str) -> None:
    """Container, dtypes and values, though MLflow's own checks are left out where they can be."""
    schema, given, rows = GIVEN[name]
    where = saved(tmp_path / "model", Telling(), schema)
    expected = mlflow.pyfunc.load_model(str(where)).predict(given)
    assert {"prediction": expected} == ask(where, rows)


class Repeating(mlflow.pyfunc.PythonModel):
    """Answers with the rows."""

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        return model_input.to_dict("records")


def test_nested_values_are_what_mlflow_makes_of_them(tmp_path: Path) -> None:
    """With the model's own names of parts, and without those that are not given."""
    part = Object([Property("copy of", DataType.string), Property("n", DataType.long, False)])
    schema = Schema(
        [ColSpec(Array(DataType.double), "many"), ColSpec(Array(part), "parts"),
         ColSpec(Map(DataType.long), "by_name"), ColSpec(part, "one", required=False)]
    )  # fmt: skip
    where = saved(tmp_path / "model", Repeating(), schema)
    rows = [
        {
            "many": [0.5, 2],
            "parts": [{"copy of": "a"}],
            "by_name": {"k": 1},
            "one": {"copy of": ""},
        },
        {"many": [], "parts": [], "by_name": {}},
    ]
    given = pd.DataFrame(json.loads(json.dumps(rows[:1])))
    expected = mlflow.pyfunc.load_model(str(where)).predict(given)
    answer = ask(where, rows)["prediction"]
    assert [{"copy of": "a"}] == expected[0]["parts"]
    assert json.loads(json.dumps(expected[0], default=lambda v: v.tolist())) == answer[0]
    assert {"many": [], "parts": [], "by_name": {}, "one": None} == answer[1]


def test_nested_times_and_bytes_reach_the_model_as_such(tmp_path: Path) -> None:
    """MLflow's own check of them refuses every form of a time."""
    part = Object([Property("at", DataType.datetime), Property("raw", DataType.binary)])
    schema = Schema([ColSpec(Array(part), "parts"), ColSpec(Map(DataType.datetime), "days")])
    where = saved(tmp_path / "model", Repeating(), schema)
    model, rows = served(where)
    given = {"parts": [{"at": "2024-05-01T12:00:00", "raw": "AA=="}], "days": {"may": "2024-05-01"}}
    columns = rows.parse_json(json.dumps(given).encode()).columns()
    table = Description.of(Checkpoint.open(where)).signature.arrays(columns)
    assert [{"at": NOON, "raw": b"\0"}] == table["parts"][0]
    assert {"may": NOON.replace(hour=0)} == table["days"][0]
    (said,) = model(columns)["prediction"]
    assert [{"at": "2024-05-01T12:00:00", "raw": "AA=="}] == said["parts"]


def test_an_integer_that_is_missing_makes_its_column_floats(tmp_path: Path) -> None:
    """As pandas has it; MLflow itself refuses such a table."""
    schema = Schema([ColSpec("long", "n", required=False)])
    where = saved(tmp_path / "model", Telling(), schema)
    (said, _) = ask(where, [{"n": 3}, {"n": None}])["prediction"]
    assert "DataFrame {'n': ('float64', [3.0, nan])}" == said


class ByHint(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[dt.datetime]) -> list[str]:
        return [f"{type(one).__name__} {one}" for one in model_input]


def test_a_list_of_plain_values_where_the_signature_is_a_type_hint(tmp_path: Path) -> None:
    """Times are times."""
    where = saved(tmp_path / "model", ByHint())
    answer = ask(where, [{"input": "2024-05-01T12:00:00"}])
    assert {"prediction": ["datetime 2024-05-01 12:00:00"]} == answer


class LikeTheExample(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: mlflow.types.type_hints.TypeFromExample) -> list[str]:
        return [f"{type(model_input).__name__} {one}" for one in model_input]


def test_the_form_of_the_example_where_the_type_hint_says_so(tmp_path: Path) -> None:
    """MLflow's TypeFromExample."""
    where = saved(tmp_path / "model", LikeTheExample(), input_example=["a", "b"])
    expected = mlflow.pyfunc.load_model(str(where)).predict(["x", "y"])
    assert ["list x", "list y"] == expected
    assert {"prediction": expected} == ask(where, [{"input": "x"}, {"input": "y"}])


class Label(pydantic.BaseModel):
    name: str
    at: dt.datetime


@dataclasses.dataclass
class Point:
    x: float


ANSWERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "table": (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), {"a": [1, 2], "b": ["x", "y"]}),
    "table without names": (pd.DataFrame([[1.5], [2]]), {"prediction": [1.5, 2]}),
    "wide table without names": (
        pd.DataFrame([[1, 2], [3, 4]]), {"prediction": [[1, 2], [3, 4]]}
    ),
    "series": (pd.Series([0.5, 1], name="score"), {"prediction": [0.5, 1]}),
    "series of texts": (pd.Series(["a", None]), {"prediction": ["a", None]}),
    "series of times": (
        pd.Series([NOON, pd.NaT]), {"prediction": ["2024-05-01T12:00:00", None]}
    ),
    "nullable integers": (pd.Series([1, None], dtype="Int64"), {"prediction": [1, None]}),
    "categories": (pd.Series(["a", "b"], dtype="category"), {"prediction": ["a", "b"]}),
    "array": (np.array([1, 2]), {"prediction": [1, 2]}),
    "matrix": (np.eye(2), {"prediction": [[1, 0], [0, 1]]}),
    "sparse matrix": (scipy.sparse.eye(2).tocsr(), {"prediction": [[1, 0], [0, 1]]}),
    "times": (
        np.array([NOON, NOON], dtype="datetime64[ns]"), {"prediction": ["2024-05-01T12:00:00"] * 2}
    ),
    "columns": ({"a": np.array([1, 2]), "b": ["x", b"y"]}, {"a": [1, 2], "b": ["x", "eQ=="]}),
    "texts": (["a", "b"], {"prediction": ["a", "b"]}),
    "mappings": ([{"k": np.float32(0.5)}, {"k": [1]}], {"prediction": [{"k": 0.5}, {"k": [1]}]}),
    "objects": (
        [Label(name="a", at=NOON), Point(1.5)],
        {"prediction": [{"name": "a", "at": "2024-05-01T12:00:00"}, {"x": 1.5}]},
    ),
}  # fmt: skip


class Answering(mlflow.pyfunc.PythonModel):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, context, model_input):  # type: ignore[no-untyped-def]
        return self.answer


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_a_function_returns_becomes_columns(tmp_path: Path, name: str) -> None:
    """Of plain values."""
    given, expected = ANSWERS[name]
    where = saved(tmp_path / "model", Answering(given), Schema([ColSpec("long", "n")]))
    answer = ask(where, [{"n": 1}, {"n": 2}])
    plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in answer.items()}
    assert expected == plain


class OldChat(mlflow.pyfunc.ChatModel):
    def predict(self, context: Any, messages: Any, params: Any) -> Any:
        text = f"{messages[-1].content} {params.temperature}"
        return ChatCompletionResponse(choices=[ChatChoice(message=ChatMessage("assistant", text))])


class Chat(mlflow.pyfunc.ChatAgent):
    def predict(self, messages: Any, context: Any = None, custom_inputs: Any = None) -> Any:
        who = context and context.user_id
        said = ChatAgentMessage(role="assistant", content=f"{messages[-1].content} {who}", id="1")
        return ChatAgentResponse(messages=[said])


class Responses(mlflow.pyfunc.ResponsesAgent):
    def predict(self, request: Any) -> Any:
        item = self.create_text_output_item(text=request.input[-1].content, id="1")
        return {"output": [item]}


@pytest.mark.parametrize("agent", [OldChat, Chat, Responses])
def test_agents_are_asked_one_request_at_a_time(tmp_path: Path, agent: Any) -> None:
    """For MLflow's agents take one and give one."""
    where = saved(tmp_path / "model", agent())
    name = "input" if agent is Responses else "messages"
    rows = [{name: [{"role": "user", "content": text}]} for text in ("ah", "oh")]
    if agent is Chat:
        rows[1]["context"] = {"user_id": "ann"}  # type: ignore[assignment]
    model = mlflow.pyfunc.load_model(str(where))
    expected = [model.predict(json.loads(json.dumps(row))) for row in rows]
    for one in (*expected, *(found := ask(where, rows)["prediction"])):
        one.pop("created", None)  # the time of the answer
    assert expected == found
    assert "oh" in json.dumps(found[1])


def test_a_loader_of_ones_own_with_a_folder_of_code(tmp_path: Path) -> None:
    """The oldest form: a module that MLflow imports, which reads a file."""
    package = tmp_path / "own_loader"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class Adding:\n"
        "    def __init__(self, by):\n        self.by = by\n"
        "    def predict(self, frame):\n        return frame['n'] + self.by\n"
        "def _load_pyfunc(path):\n    return Adding(int(open(path).read()))\n"
    )
    (tmp_path / "by.txt").write_text("40")
    where = tmp_path / "model"
    mlflow.pyfunc.save_model(
        where, loader_module="own_loader", data_path=str(tmp_path / "by.txt"),
        code_paths=[str(package)], signature=ModelSignature(Schema([ColSpec("long", "n")])),
        pip_requirements=[],
    )  # fmt: skip
    found = described(where, "m")["model"]
    assert "own_loader" not in sys.modules
    assert "pyfunc" == found["framework"]
    assert [
        "code/own_loader/__init__.py can be imported",
        "the module own_loader would be imported, to read data/by.txt",
    ] == found["code"]
    assert [41, 42] == ask(where, [{"n": 1}, {"n": 2}])["prediction"].tolist()


def test_an_adapter_of_the_framework_comes_first(tmp_path: Path) -> None:
    """Though MLflow could load it by the module that python_function names."""
    model = LinearRegression().fit(TABLE[["weight"]], TABLE["a b"])
    mlflow.sklearn.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(TABLE[["weight"]])
    )
    flavors = yaml.safe_load((tmp_path / "m" / "MLmodel").read_text())["flavors"]
    assert "python_function" in flavors
    assert "sklearn" == described(tmp_path / "m", "m")["model"]["framework"]


@pytest.mark.parametrize(
    "change",
    [
        {"python_model": "../other.pkl"},
        {"python_model": "missing.pkl"},
        {"code": "/tmp"},
        {"data": "../.."},
        {"artifacts": {"weights": {"path": "../weights"}}},
        {"artifacts": ["weights"]},
        {"model_code_path": "/home/ann/missing.py"},
        {"loader_module": None},
    ],
)
def test_what_lies_outside_of_the_model_is_refused(tmp_path: Path, change: Any) -> None:
    """The digest covers all that is read, before anything is."""
    where = saved(tmp_path / "model", Telling(), Schema([ColSpec("long", "n")]))
    content = yaml.safe_load((where / "MLmodel").read_text())
    content["flavors"]["python_function"] |= change
    (where / "MLmodel").write_text(yaml.safe_dump(content))
    with pytest.raises(SalverError):
        described(where, "m")


def test_code_that_fails_says_what_it_was_logged_with(tmp_path: Path) -> None:
    """At start."""
    script = tmp_path / "model.py"
    script.write_text(
        "import os\nimport mlflow\n"
        "class Model(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input):\n        return model_input\n"
        "mlflow.models.set_model(Model())\n"
    )
    where = saved(tmp_path / "model", str(script), Schema([ColSpec("long", "n")]))
    (where / "model.py").write_text("import none_such\n")
    with pytest.raises(CheckpointError, match=r"none_such.*requirements\.txt"):
        served(where)


def test_without_a_signature_it_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Only its code could say what it takes."""
    where = saved(tmp_path / "model", Telling())
    with pytest.raises(CheckpointError, match="infer_signature"):
        described(where, "m")
