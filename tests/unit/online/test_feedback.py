from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from serving import Served, Tagger

from salver import Service
from salver.account.about import NOTHING
from salver.account.account import Account
from salver.account.records import Labelled
from salver.account.store import Store

TEXT = {"title": "text mining"}
Make = Callable[..., Served]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Make]:
    """Makes services that keep an account in one file."""
    accounts: list[Account] = []

    def make(service: Service | None = None, **settings: Any) -> Served:
        def account(registry: Any) -> Account:
            made = Account(
                tmp_path / "answers.db",
                version=lambda _name: "v1",
                tells=lambda _name: NOTHING,
                registry=registry,
                with_inputs=False,
                max_records=1000,
            )
            accounts.append(made)
            return made

        return Served(service, recording=account, **settings)

    yield make
    for account in accounts:
        account.close()


def kept(tmp_path: Path, deployment: str = "Tagger") -> list[Labelled]:
    with Store.existing(tmp_path / "answers.db") as store:
        return store.latest(deployment, "v1", 100)


def told(served: Served, body: Any) -> Any:
    reply = served.ask("POST", "/feedback/", body)
    assert reply.status == 200, reply.body
    return reply.json()


def test_a_label_is_joined_to_its_answer(recorded: Make, tmp_path: Path) -> None:
    """The id of the request is what joins them."""
    served = recorded()
    served.predict(TEXT, **{"x-request-id": "order-7"})
    assert told(served, {"request_id": "order-7", "label": "cv"}) == {"stored": 1, "matched": 1}
    (one,) = kept(tmp_path)
    assert (one.record.request_id, one.record.prediction, one.label) == ("order-7", "nlp", "cv")


def test_rows_of_one_request_have_labels_of_their_own(recorded: Make, tmp_path: Path) -> None:
    """`row` counts from 0, and is 0 where it is left out."""
    served = recorded()
    served.predict([TEXT, TEXT, TEXT], **{"x-request-id": "a"})
    labels = [{"request_id": "a", "row": 2, "label": 3}, {"request_id": "a", "label": True}]
    assert told(served, labels) == {"stored": 2, "matched": 2}
    assert [one.label for one in kept(tmp_path)] == ["True", None, "3"]


def test_a_label_may_come_before_its_answer(recorded: Make, tmp_path: Path) -> None:
    """It is kept until then."""
    served = recorded()
    assert told(served, {"request_id": "a", "label": "cv"}) == {"stored": 1, "matched": 0}
    served.predict(TEXT, **{"x-request-id": "a"})
    told(served, {"request_id": "b", "label": "cv"})
    assert [one.label for one in kept(tmp_path)] == ["cv"]


def test_rows_that_failed_are_kept_as_such(recorded: Make, tmp_path: Path) -> None:
    """A row without a result is on record with the code of its failure."""
    served = recorded()
    served.predict([TEXT, {"title": "raise"}], **{"x-request-id": "a"})
    told(served, [])
    assert [one.record.failed for one in kept(tmp_path)] == [None, "model_error"]


def test_refused_requests_are_not_kept(recorded: Make, tmp_path: Path) -> None:
    """What nothing was computed for is no answer."""
    served = recorded()
    assert served.predict({"title": 3}).status == 422
    told(served, [])
    assert not kept(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        {"label": "cv"},
        {"request_id": "a"},
        {"request_id": "", "label": "cv"},
        {"request_id": "a b", "label": "cv"},
        {"request_id": "x" * 65, "label": "cv"},
        {"request_id": 7, "label": "cv"},
        {"request_id": "a", "label": None},
        {"request_id": "a", "label": ""},
        {"request_id": "a", "label": 0.5},
        {"request_id": "a", "label": "x" * 257},
        {"request_id": "a", "label": ["cv"]},
        {"request_id": "a", "label": "cv", "row": -1},
        {"request_id": "a", "label": "cv", "row": "0"},
        {"request_id": "a", "label": "cv", "rwo": 1},
        b'{"request_id": "a", "label": "cv", "label": "nlp"}',
        b'{"request_id": "a", "label": NaN}',
        b"nonsense",
    ],
)
def test_a_malformed_label_is_refused(recorded: Make, tmp_path: Path, body: Any) -> None:
    """It gets 422 with the trouble by name, and so does a list that holds one: nothing is kept."""
    served = recorded()
    served.predict(TEXT, **{"x-request-id": "a"})
    reply = served.ask("POST", "/feedback/", body)
    assert (reply.status, reply.code) == (422, "invalid_input")
    assert reply.json()["error"]["problems"]
    if isinstance(body, dict):
        good = {"request_id": "a", "label": "cv"}
        assert served.ask("POST", "/feedback/", [good, body]).status == 422
    told(served, [])
    assert [one.label for one in kept(tmp_path)] == [None]


def test_the_route_is_held_to_the_rules_of_the_others(recorded: Make) -> None:
    """Media type, method, size, number of rows and API key are looked at as for predictions."""
    served = recorded(api_key="secret", max_rows=2, max_body_bytes=200)
    key = {"authorization": "Bearer secret"}
    one = {"request_id": "a", "label": "cv"}
    ask = served.ask
    assert ask("POST", "/feedback/", one).status == 401
    assert ask("POST", "/feedback", one, key).status == 200
    assert ask("GET", "/feedback/", b"", key).status == 405
    assert ask("POST", "/feedback/", one, {**key, "content-type": "text/plain"}).status == 415
    assert ask("POST", "/feedback/", [one] * 3, key).status == 413
    assert ask("POST", "/feedback/", {**one, "label": "x" * 200}, key).status == 413


def test_without_an_account_there_is_no_such_route() -> None:
    """A service that keeps nothing answers 404, and its page does not show the route."""
    served = Served()
    assert served.ask("POST", "/feedback/", {"request_id": "a", "label": "cv"}).status == 404
    assert "/feedback/" not in served.ask("GET", "/openapi.json").json()["paths"]


def test_the_page_describes_the_route(recorded: Make) -> None:
    """OpenAPI names the fields of a label and both counts of the answer."""
    document = recorded().ask("GET", "/openapi.json").json()
    operation = document["paths"]["/feedback/"]["post"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answer["required"]) == {"stored", "matched"}
    fields = document["components"]["schemas"]["Feedback"]["properties"]
    assert set(fields) == {"request_id", "label", "row", "deployment"}


def test_a_route_of_the_users_own_wins(recorded: Make) -> None:
    """An app that has /feedback/ keeps it."""
    app = FastAPI()

    @app.post("/feedback/")
    def feedback() -> str:
        return "mine"

    served = recorded(Service(Tagger.bind(), app=app))
    assert served.ask("POST", "/feedback/", {}).json() == "mine"
    assert "POST /feedback/" in served.front.shadowed_routes()


def test_a_label_may_name_its_deployment(recorded: Make, tmp_path: Path) -> None:
    """Where a gateway gives one id to several requests, each answer can have its own label."""
    service = Service(Tagger.options(name="first").bind(), Tagger.options(name="second").bind())
    served = recorded(service)
    for name in ("first", "second"):
        served.ask("POST", f"/{name}/predict/", TEXT, {"x-request-id": "a"})
    told(served, {"request_id": "a", "label": "cv"})
    told(served, {"request_id": "a", "label": "nlp", "deployment": "second"})
    assert [one.label for one in kept(tmp_path, "first")] == ["cv"]
    assert [one.label for one in kept(tmp_path, "second")] == ["nlp"]


def test_a_file_that_cannot_be_written_is_a_503(recorded: Make, tmp_path: Path) -> None:
    """Labels that cannot be kept are asked for again, and the answers go on."""
    served = recorded()
    served.predict(TEXT, **{"x-request-id": "a"})
    told(served, [])
    for path in tmp_path.glob("answers.db*"):
        path.unlink()
    (tmp_path / "answers.db").mkdir()
    reply = served.ask("POST", "/feedback/", {"request_id": "a", "label": "cv"})
    assert (reply.status, reply.code) == (503, "not_ready")
    assert reply.headers["retry-after"] == "5"
    assert served.predict(TEXT).status == 200
