"""The OpenAPI document: the user's routes as their app describes them, and Salver's beside them.

The user's document is copied, never changed. Types of rows come from the schema, types of
results from executed examples. This module does not know how a page shows the document.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from salver import __version__
from salver.definition import Deployment
from salver.online.components import Components
from salver.online.feedback import PATH as FEEDBACK
from salver.online.feedback import FeedbackRoute
from salver.online.inference import infer
from salver.online.user_app import UserApp
from salver.options import DETAILS, ServerSettings
from salver.outputs import plain
from salver.service import Service

Json = dict[str, Any]

# What each status of a prediction route means; all of them are answered in the shape of `Error`.
_REFUSALS = {
    "413": "The body is larger, or the list longer, than one request may carry.",
    "415": "The body is not JSON in UTF-8.",
    "422": "The body or some of its rows are malformed; `problems` names each. Nothing was computed.",
    "500": "Every row failed, or the service did.",
    "503": "Not ready, or the queue is full. Try again after `Retry-After` seconds.",
    "504": "No answer within the time limit of the deployment.",
}
_DETAILS: Json = {
    "name": "details",
    "in": "query",
    "description": "What each result carries beyond the plain answer; `all` for all. Null where it "
    "is not known.",
    "style": "form",
    "explode": False,
    "schema": {"type": "array", "items": {"type": "string", "enum": ["all", *DETAILS]}},
}
_ERROR: Json = {
    "type": "object",
    "title": "Error",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "Stable name of the error."},
                "message": {"type": "string"},
                "request_id": {"type": "string", "description": "Also in `x-request-id`."},
                "problems": {
                    "type": "array",
                    "description": "Each bad field: where it is and what is wrong with it.",
                    "items": {
                        "type": "object",
                        "required": ["path", "message", "type"],
                        "properties": {
                            "path": {
                                "type": "array",
                                "items": {"type": ["string", "integer"]},
                            },
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                        },
                    },
                },
            },
        },
        "results": {"type": "array", "items": {"type": "object"}},
    },
}
_FAILED_ROW: Json = {
    "type": "object",
    "title": "FailedRow",
    "description": "Stands in the place of a row that failed while its neighbours did not.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "path": {"type": "array", "items": {"type": ["string", "integer"]}},
            },
        }
    },
}


class Document:
    """Describes a service.

    Args:
        service: Whose deployments are described.
        app: Whose document is the base, when it has one.
        settings: Limits, and whether a key is asked for.
        examples: Executed examples of a deployment, by name.
        shadowed: Tells whether the user's app answers a method and path of Salver's.
        takes_labels: Whether there is a route that takes true labels.
    """

    def __init__(
        self,
        service: Service,
        app: UserApp,
        settings: ServerSettings,
        examples: Callable[[str], list[Json]],
        shadowed: Callable[[str, str], bool],
        *,
        takes_labels: bool = False,
    ) -> None:
        self.app = app
        self._service = service
        self._settings = settings
        self._examples = examples
        self._shadowed = shadowed
        self._takes_labels = takes_labels
        self._made_from: Any = None
        self._bytes = b""

    @property
    def url(self) -> str | None:
        """Where the document is served; null when the user's app turned it off."""
        if not self.app.is_fastapi:
            return "/openapi.json"
        url: str | None = getattr(self.app.app, "openapi_url", None)
        return url or None

    @property
    def title(self) -> str:
        """Title of the service."""
        return str(getattr(self.app.app, "title", "Salver")) if self.app.is_fastapi else "Salver"

    def as_bytes(self) -> bytes:
        """The document as JSON, made anew when the examples or the user's routes changed."""
        examples = {one.name: self._examples(one.name) for one in self._service.exposed}
        made_from = orjson.dumps((examples, len(getattr(self.app.app, "routes", ()))))
        if made_from != self._made_from:
            self._bytes = orjson.dumps(self._build(examples))
            self._made_from = made_from
        return self._bytes

    def _build(self, examples: dict[str, list[Json]]) -> Json:
        document = self._base()
        paths = document.setdefault("paths", {})
        components = Components(document.setdefault("components", {}))
        error = components.add_schema("SalverError", _ERROR)
        components.add_schema("SalverFailedRow", _FAILED_ROW)
        for one in self._service.exposed:
            path = self._service.route_of(one)
            if not self._shadowed("POST", path):
                operation = self._predict(one, examples[one.name], components, error)
                paths.setdefault(path, {})["post"] = operation
        if self._takes_labels and not self._shadowed("POST", FEEDBACK):
            row = components.add_model(FeedbackRoute.schema, "Feedback")
            paths.setdefault(FEEDBACK, {})["post"] = _feedback(row, error)
        for path, operation in _operations(error):
            if not self._shadowed("GET", path):
                paths.setdefault(path, {}).setdefault("get", operation)
        if self._settings.api_key is not None:
            _ask_for_key(document)
        return document

    def _base(self) -> Json:
        if self.app.is_fastapi:
            app: Any = self.app.app
            document: Json = copy.deepcopy(app.openapi())
            if app.root_path and app.root_path_in_servers and "servers" not in document:
                document["servers"] = [{"url": app.root_path}]
            return document
        return {"openapi": "3.1.0", "info": {"title": self.title, "version": __version__}}

    def _predict(
        self, one: Deployment, examples: list[Json], components: Components, error: Json
    ) -> Json:
        row = components.add_model(one.schema, one.name)
        result = components.add_schema(f"{one.name}Result", _result_schema(one, examples))
        limits = (
            f"At most {self._settings.max_rows} rows and {self._settings.max_body_bytes} bytes."
        )
        rows = {"type": "array", "items": row, "maxItems": self._settings.max_rows}
        body: Json = {"schema": {"oneOf": [row, rows]}}
        answer: Json = {
            "schema": {
                "type": "object",
                "required": ["results"],
                "properties": {"results": {"type": "array", "items": _result_or_failure(result)}},
            }
        }
        if examples:
            body["examples"] = _named([e["input"] for e in examples])
            answer["examples"] = _named([{"results": [e["output"]]} for e in examples])
        return {
            "tags": ["predictions"],
            "summary": f"Predict with {one.name}",
            "description": f"{_about(one)}\n\nTakes one row or a list of rows, "
            f"and answers one result per row, in order. {limits}".strip(),
            "operationId": f"salver_predict_{one.name}",
            "parameters": [_DETAILS],
            "requestBody": {"required": True, "content": {"application/json": body}},
            "responses": {
                "200": {
                    "description": "One result per row; a row that failed has an error instead.",
                    "content": {"application/json": answer},
                },
                **{status: _refusal(status, text, error) for status, text in _REFUSALS.items()},
            },
        }


def _feedback(row: Json, error: Json) -> Json:
    body: Json = {"schema": {"oneOf": [row, {"type": "array", "items": row}]}}
    counts = {name: {"type": "integer"} for name in ("stored", "matched")}
    answer: Json = {"schema": {"type": "object", "required": [*counts], "properties": counts}}
    statuses = {one: _REFUSALS[one] for one in ("413", "415", "422", "503")}
    return {
        "tags": ["predictions"],
        "summary": "Tell what turned out to be true",
        "description": "Joins true classes to answered rows by the id of their request, for `salver "
        "report`. A later label of the same row replaces an earlier one.",
        "operationId": "salver_feedback",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "All are kept; `matched` of them are of rows that are on record.",
                "content": {"application/json": answer},
            },
            **{status: _refusal(status, text, error) for status, text in statuses.items()},
        },
    }


def _about(one: Deployment) -> str:
    """What the class or function says of itself; its arguments are none of an asker's."""
    return (inspect.getdoc(one.target) or "").partition("\n\nArgs:")[0]


def _result_schema(one: Deployment, examples: list[Json]) -> Json:
    outputs = [e["output"] for e in examples if set(e["output"]) != {"error"}]
    if not outputs:
        return {
            "type": "object",
            "title": f"{one.name}Result",
            "description": "The columns that the model gives for a row; it declares no examples.",
        }
    schema = infer(outputs)
    # What a policy may answer instead is known, also when no example shows it.
    given = [p.otherwise for p in one.policies if hasattr(p, "otherwise")]
    instead = [plain(value, "prediction", 0, {}) for value in given]
    if instead and "prediction" in schema["properties"]:
        seen = [output["prediction"] for output in outputs if "prediction" in output]
        schema["properties"]["prediction"] = infer([*seen, *instead])
    return {"title": f"{one.name}Result", **schema}


def _result_or_failure(result: Json) -> Json:
    return {"anyOf": [result, {"$ref": "#/components/schemas/SalverFailedRow"}]}


def _named(values: list[Any]) -> Json:
    return {
        f"example_{i}": {"summary": f"Example {i}", "value": v} for i, v in enumerate(values, 1)
    }


def _refusal(status: str, text: str, error: Json) -> Json:
    refusal: Json = {"description": text, "content": {"application/json": {"schema": error}}}
    if status == "503":
        refusal["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        }
    return refusal


def _operations(error: Json) -> Iterator[tuple[str, Json]]:
    def operation(name: str, summary: str, responses: Json) -> Json:
        return {
            "tags": ["operations"],
            "summary": summary,
            "operationId": f"salver_{name}",
            "responses": responses,
        }

    def json(description: str, required: str, kind: str) -> Json:
        schema = {
            "type": "object",
            "required": [required],
            "properties": {required: {"type": kind}},
        }
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    alive = {"200": json("The process lives.", "status", "string")}
    yield "/-/healthz", {**operation("healthz", "Is the process alive?", alive), "security": []}
    ready = {
        "200": json(
            "Predictions are answered; lists the state of all replicas.", "ready", "boolean"
        ),
        "503": json("Not yet, or shutting down.", "ready", "boolean"),
    }
    yield "/-/readyz", {**operation("readyz", "Is the service ready?", ready), "security": []}
    text = {"description": "Prometheus text format.", "content": {"text/plain": {}}}
    yield "/metrics", operation("metrics", "Metrics for Prometheus", {"200": text})


def _ask_for_key(document: Json) -> None:
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["SalverBearer"] = {"type": "http", "scheme": "bearer"}
    schemes["SalverKey"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    document["security"] = [{"SalverBearer": []}, {"SalverKey": []}]
