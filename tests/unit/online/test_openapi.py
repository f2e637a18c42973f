from __future__ import annotations

import copy
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate
from pydantic import BaseModel, Field, create_model
from serving import Project, Served, Tagger

from salver import Service, Threshold, deployment

TEXT = {"title": "text mining", "description": ""}
GOOD = {"prediction": "nlp", "probabilities": {"cv": 0.25, "nlp": 0.75}}


Namesake = create_model("Project", name=(str, ...))


def document(served: Served) -> Any:
    """The document, found valid."""
    reply = served.ask("GET", "/openapi.json")
    assert reply.headers["content-type"] == "application/json"
    validate(reply.json())
    return reply.json()


def check(document: Any, schema: Any, value: Any) -> None:
    """Raises when `value` is not what `schema` of the document says."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def body_schema(operation: Any) -> Any:
    return operation["requestBody"]["content"]["application/json"]["schema"]


def answer_schema(operation: Any, status: int) -> Any:
    return operation["responses"][str(status)]["content"]["application/json"]["schema"]


def test_the_document_of_a_bare_service_is_valid() -> None:
    """Without an app the document names the service and describes all of its routes."""
    described = document(Served())
    assert described["openapi"] == "3.1.0"
    assert described["info"]["title"] == "Salver"
    assert set(described["paths"]) == {"/predict/", "/-/healthz", "/-/readyz", "/metrics"}
    assert set(described["paths"]["/predict/"]["post"]["responses"]) == {
        "200", "413", "415", "422", "500", "503", "504",
    }  # fmt: skip


def test_real_traffic_is_what_the_document_says() -> None:
    """Bodies that are served, and their answers and errors, satisfy the schemas."""
    served = Served()
    served.examples["Tagger"] = [{"input": TEXT, "output": GOOD}]
    described = document(served)
    operation = described["paths"]["/predict/"]["post"]
    bodies: list[Any] = [
        TEXT,
        {},
        [TEXT, {"title": "raise"}],
        [],
        {"title": "raise"},
        {"title": 1},
        [{"description": None}],
    ]
    for body in bodies:
        reply = served.predict(body)
        check(described, answer_schema(operation, reply.status), reply.json())
        if reply.status == 422:
            with pytest.raises(ValidationError):
                check(described, body_schema(operation), body)
        else:
            check(described, body_schema(operation), body)


def test_types_of_results_come_from_executed_examples() -> None:
    """Class names and types that the examples show stand in the schema; wrong ones do not pass."""
    served = Served()
    served.examples["Tagger"] = [{"input": TEXT, "output": GOOD}]
    described = document(served)
    schema = described["components"]["schemas"]["TaggerResult"]
    assert schema["properties"]["prediction"] == {"type": "string"}
    assert schema["properties"]["probabilities"]["required"] == ["cv", "nlp"]
    check(described, schema, GOOD)
    for wrong in ({"prediction": "nlp"}, {**GOOD, "prediction": 3}):
        with pytest.raises(ValidationError):
            check(described, schema, wrong)


def test_what_a_policy_answers_instead_is_admitted() -> None:
    """A threshold without `otherwise` may answer null, though no example shows it."""
    served = Served(Service(Tagger.options(policy=Threshold(0.6)).bind()))
    served.examples["Tagger"] = [{"input": TEXT, "output": GOOD}]
    schema = document(served)["components"]["schemas"]["TaggerResult"]
    assert schema["properties"]["prediction"]["type"] == ["null", "string"]


def test_examples_are_shown_as_they_were_executed() -> None:
    """Input and output of each example stand at the request and the answer under one name."""
    served = Served()
    failed = {"error": {"code": "model_error", "message": "no"}}
    served.examples["Tagger"] = [
        {"input": TEXT, "output": GOOD},
        {"input": {"title": "raise"}, "output": failed},
    ]
    operation = document(served)["paths"]["/predict/"]["post"]
    request = operation["requestBody"]["content"]["application/json"]["examples"]
    answer = operation["responses"]["200"]["content"]["application/json"]["examples"]
    assert request["example_1"]["value"] == TEXT
    assert answer["example_1"]["value"] == {"results": [GOOD]}
    assert answer["example_2"]["value"] == {"results": [failed]}


def test_examples_appear_when_the_engine_has_them() -> None:
    """A document made before the examples ran is made again."""
    served = Served()
    assert "examples" not in str(document(served)["paths"]["/predict/"])
    served.examples["Tagger"] = [{"input": TEXT, "output": GOOD}]
    assert "example_1" in str(document(served)["paths"]["/predict/"])


def test_the_users_document_is_the_base_and_stays_as_it_is() -> None:
    """Title and routes of the user's app stand beside Salver's; the app's own copy is untouched."""
    app = FastAPI(title="Made With ML", version="0.1")

    @app.post("/mine")
    def mine(project: Project) -> Project:
        return project

    before = copy.deepcopy(app.openapi())
    served = Served(Service(Tagger.bind(), app=app))
    described = document(served)
    assert described["info"]["title"] == "Made With ML"
    assert {"/mine", "/predict/"} <= set(described["paths"])
    assert (
        described["components"]["schemas"]["Project"] == before["components"]["schemas"]["Project"]
    )
    assert app.openapi() == before


def test_a_users_route_is_described_instead_of_the_generated_one() -> None:
    """A shadowed route has the user's description alone; another method stands beside ours."""
    app = FastAPI()

    @app.post("/predict/", summary="mine")
    def own() -> str:
        return "mine"

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> str:
        return "mine"

    described = document(Served(Service(Tagger.bind(), app=app)))
    assert described["paths"]["/predict/"]["post"]["summary"] == "mine"
    assert "/metrics" not in described["paths"]


def test_models_of_one_name_and_two_shapes_live_side_by_side() -> None:
    """A user's model that bears the name of a row's keeps it; the row's gets another."""
    app = FastAPI()

    @app.post("/mine")
    def mine(project: Namesake) -> None:  # type: ignore[valid-type]
        return None

    described = document(Served(Service(Tagger.bind(), app=app)))
    schemas = described["components"]["schemas"]
    assert list(schemas["Project"]["properties"]) == ["name"]
    assert list(schemas["Tagger_Project"]["properties"]) == ["title", "description"]
    check(described, body_schema(described["paths"]["/predict/"]["post"]), TEXT)


class Author(BaseModel):
    name: str
    friends: list[Author] = []


class Paper(BaseModel):
    """A paper."""

    title: str = Field(min_length=1, examples=["Attention"])
    year: int | None = None
    author: Author


def test_nested_and_recursive_models_are_described() -> None:
    """What a row refers to is among the components, and admits what the schema admits."""

    @deployment(input=Paper)
    class Reader:
        """Reads papers."""

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"prediction": [len(title) for title in batch["title"]]}

    @deployment(input=Author)
    class Knower:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"prediction": [0] * len(batch["name"])}

    served = Served(Service(Reader.bind(), Knower.bind()))
    described = document(served)
    paper = {"title": "A", "author": {"name": "x", "friends": [{"name": "y"}]}}
    operation = described["paths"]["/Reader/predict/"]["post"]
    assert "Reads papers." in operation["description"]
    check(described, body_schema(operation), paper)
    assert served.ask("POST", "/Reader/predict/", paper).status == 200
    check(described, body_schema(described["paths"]["/Knower/predict/"]["post"]), paper["author"])


def test_a_key_is_part_of_the_document() -> None:
    """When a key is asked for, both ways to show it are described, and the open routes are."""
    served = Served(api_key="s3cret")
    reply = served.ask("GET", "/openapi.json", headers={"x-api-key": "s3cret"})
    validate(reply.json())
    described = reply.json()
    assert set(described["components"]["securitySchemes"]) == {"SalverBearer", "SalverKey"}
    assert described["security"] == [{"SalverBearer": []}, {"SalverKey": []}]
    assert described["paths"]["/-/healthz"]["get"]["security"] == []
    assert "s3cret" not in reply.body.decode()
