from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from serving import InProcess, Served, Tagger

from salver import Service
from salver.errors import DeadlineExceeded, NotReady, QueueFull
from salver.types import Batch, Outcome

TEXT = {"title": "text mining", "description": "words"}
IMAGE = {"title": "image search", "description": ""}


def test_one_object_gets_a_list_of_one_result() -> None:
    """A single row is answered like a list of one."""
    reply = Served().predict(TEXT)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    (result,) = reply.json()["results"]
    assert result["prediction"] == "nlp"
    assert result["probabilities"] == pytest.approx({"cv": 0.1, "nlp": 0.9})


def test_results_stand_in_the_order_of_the_rows() -> None:
    """Each row of a list has its result at its own place, asked for in one batch."""
    served = Served()
    reply = served.predict([TEXT, IMAGE, {}, TEXT])
    assert [r["prediction"] for r in reply.json()["results"]] == ["nlp", "cv", "other", "nlp"]
    assert [len(batch) for batch in served.handle.asked] == [4]


def test_the_path_may_lack_its_slash() -> None:
    """A client that leaves the last slash out is served, not redirected."""
    assert Served().ask("POST", "/predict", TEXT).status == 200


def test_each_of_several_deployments_has_a_route() -> None:
    """With two deployments the name of each is part of its path."""
    service = Service(Tagger.options(name="first").bind(), Tagger.options(name="second").bind())
    served = Served(service)
    assert served.ask("POST", "/first/predict/", TEXT).status == 200
    assert served.ask("POST", "/second/predict", [TEXT, TEXT]).status == 200
    assert [len(h.asked) for h in served.handles.values()] == [1, 1]
    assert served.ask("POST", "/predict/", TEXT).status == 404


def test_a_prefix_stands_before_the_route() -> None:
    """`route_prefix` moves the generated route."""
    served = Served(Service(Tagger.bind(), route_prefix="/v1/tags"))
    assert served.ask("POST", "/v1/tags/predict/", TEXT).status == 200
    assert served.ask("POST", "/predict/", TEXT).status == 404


def test_a_failed_row_stands_beside_answered_ones() -> None:
    """A row that the model cannot take has an error in its place; the others are answered."""
    reply = Served().predict([TEXT, {"title": "raise"}, IMAGE, {"title": "nan"}])
    results = reply.json()["results"]
    assert reply.status == 200
    assert [r.get("prediction") for r in results] == ["nlp", None, "cv", None]
    assert results[1]["error"]["code"] == "model_error"
    assert results[3]["error"]["code"] == "non_finite_output"
    assert b"passwd" not in reply.body


@pytest.mark.parametrize("body", [{"title": "raise"}, [{"title": "raise"}, {"title": "nan"}]])
def test_when_all_rows_failed_the_request_did(body: Any) -> None:
    """Nothing but failures is a 500 with the first one on top and all of them below."""
    reply = Served().predict(body)
    assert reply.status == 500
    assert reply.code == "model_error"
    assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]
    assert len(reply.json()["results"]) == (len(body) if isinstance(body, list) else 1)


def test_an_empty_list_has_no_results() -> None:
    """An empty list is answered at once and asks nobody."""
    served = Served()
    reply = served.predict([])
    assert (reply.status, reply.json()) == (200, {"results": []})


@pytest.mark.parametrize(
    "row",
    [
        {"title": "", "description": ""},
        {"title": "text", "description": "word " * 20_000},
        {"title": "🤖🧑‍🔬 text", "description": "🎨"},
        {"title": "نص عربي text", "description": "עברית"},
        {"title": "te\x00xt", "description": "\x00"},
        {"title": "text", "colour": "red", "nested": {"deep": [1, 2, None]}},
        {"title": "a: b: c: d"},
    ],
)
def test_odd_rows_are_served(row: Any) -> None:
    """Empty, long, astral, right-to-left, NUL and unknown content is a row like any other."""
    served = Served()
    assert served.predict(row).status == 200
    (batch,) = served.handle.asked
    assert batch.rows[0] == (row["title"], row.get("description", ""))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"3",
        b'"text"',
        b'{"title": 3}',
        b'{"title": null}',
        b'{"title": ["text"]}',
        b'[{"title": "text"}, 3]',
        b'[{"title": "text"}, null]',
        b'[[{"title": "text"}]]',
        b'{"title": "\\ud800"}',
        b'{"title": "text", "other": "\\udc00"}',
        b'{"title": "\xff"}',
        b'{"title": "\xed\xa0\x80"}',
        b'{"title": NaN}',
        b'{"title": "text", "other": NaN}',
        b'{"title": "text", "other": Infinity}',
        b'{"title": "text", "other": 1e400}',
        b'{"title": "text", "title": "image"}',
        b'{"title": "text", "other": {"a": 1, "a": 2}}',
        b'{"title": "text", "other": ' + b"[" * 1000 + b"]" * 1000 + b', "other": 1}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"title": "text", "other": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "﻿{}".encode(),
        json.dumps(TEXT).encode("utf-16"),
        json.dumps(TEXT).encode("utf-32-le"),
        b'{"title": "text"} {"title": "text"}',
        b"{'title': 'text'}",
        b"title=text",
    ],
)
def test_bad_bodies_are_refused(body: bytes) -> None:
    """What is no row of strict JSON gets 422 that names the trouble, and asks nobody."""
    served = Served()
    reply = served.predict(body)
    assert (reply.status, reply.code) == (422, "invalid_input")
    assert reply.json()["error"]["problems"]


def test_every_bad_row_is_named() -> None:
    """The refusal of a list holds the index and the field of each bad row; nothing is computed."""
    served = Served()
    reply = served.predict([TEXT, {"title": 1}, TEXT, {"title": "", "description": []}])
    problems = reply.json()["error"]["problems"]
    assert reply.status == 422
    assert [p["path"] for p in problems] == [[1, "title"], [3, "description"]]
    assert all(p["message"] and p["type"] for p in problems)


def test_a_list_may_not_be_too_long() -> None:
    """A list over the limit gets 413 that names the way for files."""
    served = Served()
    reply = served.predict([TEXT] * 10_000)
    assert (reply.status, reply.code) == (413, "too_many_rows")
    assert "salver predict" in reply.json()["error"]["message"]
    assert served.predict([TEXT] * 1000).status == 200


def test_a_body_declared_too_large_is_not_read() -> None:
    """The content length alone is enough to refuse, before a byte of the body was taken."""
    served = Served(max_body_bytes=100)
    reply = asyncio.run(
        served.request("POST", "/predict/", b"{}", {"content-length": "101"}, parts=[b"x"])
    )
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert reply.headers["connection"] == "close"


def test_a_body_that_grows_too_large_is_not_read_on() -> None:
    """A body without a length is refused as soon as it passes the limit."""
    served = Served(max_body_bytes=100)
    scope_parts = [b"[" + b" " * 59, b" " * 60, b" " * 60]

    async def run() -> int:
        read = 0

        async def receive() -> Any:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": scope_parts[read - 1], "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict/", "headers": []}
        await served.front(scope, receive, send)
        assert sent[0]["status"] == 413
        return read

    assert asyncio.run(run()) == 2


def test_a_body_may_come_in_parts() -> None:
    """Parts are joined, empty ones too."""
    parts = [b'[{"title":', b"", b'"text"']
    reply = asyncio.run(Served().request("POST", "/predict/", b"}]", parts=parts))
    assert reply.json()["results"][0]["prediction"] == "nlp"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"content-type": ""},
        {"content-type": "application/json"},
        {"content-type": "Application/JSON ; charset=UTF-8"},
        {"content-type": 'application/json; charset="utf-8"'},
        {"content-type": "application/vnd.api+json"},
        {"content-type": "application/json", "content-encoding": "identity"},
    ],
)
def test_json_is_served_whether_or_not_it_says_so(given: dict[str, str]) -> None:
    """No content type, and every spelling of JSON in UTF-8, is served."""
    assert Served().predict(TEXT, **given).status == 200


@pytest.mark.parametrize(
    "given",
    [
        {"content-type": "text/plain"},
        {"content-type": "text/json"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/octet-stream"},
        {"content-encoding": "gzip"},
        {"content-encoding": "br", "content-type": "application/json"},
    ],
)
def test_other_types_are_refused(given: dict[str, str]) -> None:
    """Forms, texts, other charsets and compressed bodies get 415 that says what to send."""
    served = Served()
    reply = served.predict(TEXT, **given)
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_only_post_predicts(method: str) -> None:
    """Any other method on a generated route gets 405 with the one it takes."""
    reply = Served().ask(method, "/predict/")
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert method == "HEAD" or reply.code == "method_not_allowed"


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (QueueFull("The queue is full.", 7), 503, "queue_full", "7"),
        (NotReady("Not yet."), 503, "not_ready", "1"),
        (DeadlineExceeded("Too late."), 504, "deadline_exceeded", None),
    ],
)
def test_what_passes_is_told_with_its_status(
    error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    """A full queue, a missing replica and a missed deadline say when to try again, if ever."""
    served = Served()
    served.handle.error = error
    reply = served.predict(TEXT)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers.get("retry-after") == retry_after


def test_the_unexpected_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody planned is a 500 without its text, which the log has by request id."""
    served = Served()
    served.handle.error = RuntimeError("secret of /home/me")
    reply = served.predict(TEXT)
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"secret" not in reply.body
    assert reply.json()["error"]["request_id"] in caplog.text
    assert "secret of /home/me" in caplog.text


def test_a_client_that_leaves_ends_its_question() -> None:
    """When the client disconnects while its rows wait, the handle is cancelled, nothing is sent."""
    served = Served()

    async def run() -> None:
        served.handle.gate, left = asyncio.Event(), asyncio.Event()
        asking = asyncio.create_task(served.request("POST", "/predict/", TEXT, left=left))
        left.set()
        reply = await asyncio.wait_for(asking, 5)
        assert reply.status == 0

    asyncio.run(run())
    assert served.handle.cancelled == 1
    labels = {"route": "/predict/", "method": "POST", "status": "499"}
    assert served.metric("salver_http_requests_total", **labels) == 1


def test_a_client_that_leaves_within_its_body_is_not_answered() -> None:
    """Half a body followed by a disconnect asks nobody."""
    served = Served()

    async def run() -> list[Any]:
        messages = iter([{"type": "http.request", "body": b"{", "more_body": True}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict/", "headers": []}
        await served.front(scope, receive, send)
        return sent

    assert asyncio.run(run()) == []


class Unwritable(InProcess):
    """Answers what JSON cannot hold on the rows titled so."""

    async def ask(self, batch: Batch, timeout_s: float | None = None) -> list[Outcome]:
        odd: dict[str, Any] = {"surrogate": "\ud800", "object": object(), "nan": float("nan")}
        return [Outcome({"prediction": odd.get(row[0], "fine")}) for row in batch.rows]


def test_an_answer_is_always_json() -> None:
    """A result that cannot be written fails alone; what is not finite becomes null."""
    served = Served(kind=Unwritable)
    titles = ["fine", "surrogate", "object", "nan"]
    reply = served.predict([{"title": title} for title in titles])
    results = reply.json()["results"]
    assert reply.status == 200
    assert [r.get("error", {}).get("code") for r in results] == [
        None,
        "bad_model_output",
        "bad_model_output",
        None,
    ]
    assert results[3] == {"prediction": None}
    assert served.predict({"title": "object"}).status == 500
