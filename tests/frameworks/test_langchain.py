"""LangChain: what a runnable says itself is what a model by URI answers, online and offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.langchain
import pytest
import yaml
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, Object, Property

from frameworks.asking import Asker
from salver.errors import CheckpointError, SalverError
from salver.models.adoption import described
from salver.models.checkpoint import Checkpoint
from salver.models.description import Description
from salver.models.served import ServedModel
from salver.pipeline import Pipeline
from salver.schema import Schema as Rows

cloudpickle.register_pickle_by_value(sys.modules[__name__])

CHAIN = """
import mlflow
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate

class Echo(BaseChatModel):
    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = " / ".join(f"{m.type}: {m.content}" for m in messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    @property
    def _llm_type(self):
        return "echo"

"""
PROMPT = """
prompt = ChatPromptTemplate.from_messages([("system", "Be {mood}."), ("human", "{question}")])
"""
ROWS = [{"mood": "brief", "question": f"Why {i}?"} for i in range(5)]
TEXT = Schema([ColSpec("string", "mood"), ColSpec("string", "question")])


def logged(tmp_path: Path, ending: str, schema: Schema) -> Path:
    """A model from a script that ends so."""
    script, where = tmp_path / "chain.py", tmp_path / "model"
    script.write_text(f"{CHAIN}{PROMPT}mlflow.models.set_model({ending})\n")
    mlflow.langchain.save_model(
        str(script), str(where), pip_requirements=[], signature=ModelSignature(schema)
    )
    return where


def ask(folder: Path, rows: Sequence[Any]) -> Any:
    """What it answers in this process."""
    model, batch = opened(folder, rows)
    return model(batch.columns())["prediction"]


def opened(folder: Path, rows: Sequence[Any]) -> tuple[ServedModel, Any]:
    checkpoint = Checkpoint.create(folder, described(folder, str(folder)))
    schema = Rows(Description.of(checkpoint).signature.row_model("Row"))
    return ServedModel(checkpoint), schema.parse_json(json.dumps(rows).encode())


def test_a_prompt_a_model_and_a_parser(asker: Asker, tmp_path: Path) -> None:
    """Variables of the prompt are columns; by URI of a registered version, with its code allowed."""
    script = tmp_path / "chain.py"
    script.write_text(
        f"{CHAIN}{PROMPT}mlflow.models.set_model(prompt | Echo() | StrOutputParser())\n"
    )
    found = mlflow.langchain.log_model(
        str(script), name="model", pip_requirements=[], input_example=ROWS[0],
        registered_model_name="chain",
    )  # fmt: skip
    expected = mlflow.langchain.load_model(found.model_uri).batch(ROWS)
    assert "system: Be brief. / human: Why 4?" == expected[4]
    refused = asker.run("serve", "models:/chain/1", "--port", "0")
    assert 1 == refused.returncode
    assert "chain.py is Python code, which is run" in refused.stderr
    assert "--allow-code" in refused.stderr
    asker.agree("models:/chain/1", ROWS, {"prediction": expected}, "--allow-code")


def test_messages_are_plain(tmp_path: Path) -> None:
    """Their content and type."""
    where = logged(tmp_path, "prompt | Echo()", TEXT)
    (said, _) = ask(where, ROWS[:2])
    assert {"content": "system: Be brief. / human: Why 0?", "type": "ai"} == said


def test_a_chat_model_by_itself_takes_a_text_or_messages(tmp_path: Path) -> None:
    """The one column is its input, whatever it is called."""
    text = logged(tmp_path, "Echo()", Schema([ColSpec("string")]))
    assert "human: hi" == ask(text, [{"input": "hi"}])[0]["content"]
    (tmp_path / "b").mkdir()
    message = Object([Property("role", DataType.string), Property("content", DataType.string)])
    chat = logged(tmp_path / "b", "Echo()", Schema([ColSpec(Array(message), "messages")]))
    rows = [{"messages": [{"role": r, "content": r[0]} for r in ("system", "user")]}]
    assert "system: s / human: u" == ask(chat, rows)[0]["content"]


def test_a_chat_model_does_not_take_two_columns(tmp_path: Path) -> None:
    """Which is said at start."""
    where = logged(tmp_path, "Echo()", TEXT)
    with pytest.raises(CheckpointError, match="takes one"):
        opened(where, ROWS)


def test_what_is_no_runnable_is_refused_at_start(tmp_path: Path) -> None:
    """A script may set anything as its model after it was logged."""
    where = logged(tmp_path, "prompt | Echo()", TEXT)
    script = where / "chain.py"
    script.write_text("import mlflow\nmlflow.models.model.__mlflow_model__ = 'none'\n")
    with pytest.raises(CheckpointError, match="no runnable"):
        opened(where, ROWS)


def pickled(where: Path, runnable: Any, schema: Schema) -> Path:
    """A model as MLflow wrote them before LangChain 1, in which it refuses to."""
    where.mkdir()
    (where / "model.pkl").write_bytes(cloudpickle.dumps(runnable))
    flavors = {
        "langchain": {
            "code": None, "langchain_version": "0.3.27", "model_data": "model.pkl",
            "model_load": "runnable_load", "model_type": "RunnableLambda",
        },
        "python_function": {"loader_module": "mlflow.langchain", "model_data": "model.pkl"},
    }  # fmt: skip
    inputs = json.dumps(schema.to_dict())
    content = {"flavors": flavors, "signature": {"inputs": inputs}}
    (where / "MLmodel").write_text(yaml.safe_dump(content))
    return where


ONE = Schema([ColSpec("string", "input")])
UNNAMED = Schema([ColSpec("string")])


def test_a_pickled_runnable(tmp_path: Path) -> None:
    """It gives mappings; documents in them are plain."""
    chain = ChatPromptTemplate.from_template("{input}!") | RunnableLambda(
        lambda prompt: {"said": prompt.to_string(), "of": [Document("d", metadata={"n": 1})]}
    )
    where = pickled(tmp_path / "model", chain, ONE)
    found = described(where, "m")["model"]
    assert "langchain" == found["framework"]
    assert ["model.pkl is a pickle, which can run anything when it is read"] == found["code"]
    (said,) = ask(where, [{"input": "a"}])
    assert "Human: a!" == said["said"]
    assert {"n": 1} == said["of"][0]["metadata"]
    assert "d" == said["of"][0]["page_content"]


def test_a_column_without_a_name_is_the_input_itself(tmp_path: Path) -> None:
    """One that is called "input" is a variable of that name."""
    telling = RunnableLambda(repr)
    assert ["'a'"] == ask(pickled(tmp_path / "a", telling, UNNAMED), [{"input": "a"}])
    assert ["{'input': 'a'}"] == ask(pickled(tmp_path / "b", telling, ONE), [{"input": "a"}])


def test_a_row_that_fails_leaves_its_neighbours_their_answers(tmp_path: Path) -> None:
    """And has its own failure."""

    def strict(text: str) -> str:
        return text.split("ok ")[1]

    where = pickled(tmp_path / "model", RunnableLambda(strict), UNNAMED)
    texts = [*(f"ok {i}" for i in range(7)), "bad", *(f"ok {i}" for i in range(7, 12))]
    model, batch = opened(where, [{"input": text} for text in texts])
    outcomes = Pipeline(model).run(batch)
    assert [7] == list(outcomes.failures)
    assert "IndexError" in outcomes.failures[7].message
    said = [one["prediction"] for i, one in enumerate(outcomes) if i != 7]
    assert [str(i) for i in range(12)] == said


def test_a_runnable_without_a_synchronous_form(tmp_path: Path) -> None:
    """Its rows are under way at the same time, on one loop from the first to the last."""

    async def meet(text: str) -> str:
        import asyncio

        loop: Any = asyncio.get_running_loop()
        loop.barrier = getattr(loop, "barrier", None) or asyncio.Barrier(3)
        await loop.barrier.wait()
        return f"{text} {id(loop)}"

    chain = RunnableLambda(lambda text: text.upper()) | RunnableLambda(meet)
    where = pickled(tmp_path / "model", chain, UNNAMED)
    model, batch = opened(where, [{"input": text} for text in "abc"])
    first, second = (model(batch.columns())["prediction"] for _ in range(2))
    assert ["A", "B", "C"] == [said.split()[0] for said in first]
    assert first == second


def test_a_fake_chat_model_of_langchain_over_a_file(asker: Asker, tmp_path: Path) -> None:
    """Online and offline, from a pickle."""
    model = FakeListChatModel(responses=["Ja."])
    asker.agree(
        str(pickled(tmp_path / "model", model, UNNAMED)),
        [{"input": "Ist es wahr?"}] * 4,
        {"prediction": [{"content": "Ja.", "type": "ai"}] * 4},
        "--allow-code",
    )


@pytest.mark.parametrize(
    ("flavor", "change"),
    [
        ("langchain", {"model_data": "../model.pkl"}),
        ("langchain", {"model_data": "missing.pkl"}),
        ("langchain", {"code": "/tmp"}),
        ("python_function", {"model_code_path": "/home/ann/missing.py"}),
    ],
)
def test_what_lies_outside_of_the_model_is_refused(
    tmp_path: Path, flavor: str, change: Any
) -> None:
    """The digest covers all that is read, before anything is."""
    where = pickled(tmp_path / "model", RunnableLambda(str), UNNAMED)
    content = yaml.safe_load((where / "MLmodel").read_text())
    content["flavors"][flavor] |= change
    (where / "MLmodel").write_text(yaml.safe_dump(content))
    with pytest.raises(SalverError):
        described(where, "m")


def test_steps_in_files_of_their_own_are_all_named(tmp_path: Path) -> None:
    """The form in which MLflow wrote sequences."""
    where = pickled(tmp_path / "model", RunnableLambda(str), UNNAMED)
    content = yaml.safe_load((where / "MLmodel").read_text())
    content["flavors"]["langchain"] |= {"model_data": "model", "model_type": "RunnableSequence"}
    (where / "MLmodel").write_text(yaml.safe_dump(content))
    steps = where / "model" / "steps"
    for i in range(2):
        (steps / str(i)).mkdir(parents=True)
        (steps / str(i) / "model.pkl").write_bytes(
            cloudpickle.dumps(RunnableLambda(lambda text: text + "!"))
        )
    step = {
        "model_data": "model.pkl",
        "model_load": "runnable_load",
        "model_type": "RunnableLambda",
    }
    (where / "model" / "steps.yaml").write_text(yaml.safe_dump({"0": step, "1": step}))
    assert [
        "model/steps/0/model.pkl is a pickle, which can run anything when it is read",
        "model/steps/1/model.pkl is a pickle, which can run anything when it is read",
        "model/steps.yaml names classes that would be imported and made",
    ] == described(where, "m")["model"]["code"]
    assert ["a!!"] == ask(where, [{"input": "a"}])
