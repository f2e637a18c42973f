"""What ships for tests of services."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from salver import Service, Threshold, deployment
from salver.testing import Client, FakeClock, StubModel


class Note(BaseModel):
    text: str = ""


@deployment(input=Note, policy=Threshold(0.5, otherwise="neither"))
class Tagger(StubModel):
    """The stub, with a rule."""


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.greeting = "hello"
    yield
    app.state.greeting = "gone"


app = FastAPI(lifespan=lifespan)


@app.get("/greeting")
async def greeting() -> str:
    return app.state.greeting


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(0.2)  # longer than the front waits before it looks for the client
    return "done"


@pytest.fixture(scope="module")
def client():
    with Client(Service(Tagger.bind(classes=["a", "b", "c"]), app=app)) as running:
        yield running


def test_a_clock_stands_still_until_it_is_moved():
    """Time is what the test says it is."""
    clock = FakeClock()

    clock.advance(2.5)

    assert 2.5 == clock() == clock.now


def test_the_stub_answers_by_the_share_of_vowels():
    """The same text has the same answer, and probabilities sum to one."""
    model = StubModel(["a", "b", "c"])

    answer = model({"text": np.array(["aeou", "aexx", ""], dtype=object)})

    assert [[1, 0, 0], [0.5, 0.25, 0.25], [0, 0.5, 0.5]] == answer["probabilities"].tolist()


def test_a_client_asks_one_row_or_several(client):
    """Results come in order, with the rule applied."""
    assert ["a"] == [r["prediction"] for r in client.predict({"text": "aeiou"})]
    assert ["a", "neither"] == [
        r["prediction"] for r in client.predict([{"text": "aei"}, {"text": "xaxx" * 2}])
    ]


def test_a_client_sees_errors_as_http_gives_them(client):
    """Statuses, headers and bodies are those of a real request."""
    refused = client.post("/predict/", {"text": 5})

    assert 422 == refused.status
    assert "invalid_input" == refused.json()["error"]["code"]
    assert refused.headers["x-request-id"] == refused.json()["error"]["request_id"]
    with pytest.raises(AssertionError, match="invalid_input"):
        client.predict({"text": 5})


def test_a_client_waits_for_a_slow_answer(client):
    """An answer that takes its time is not cut off."""
    assert "done" == client.get("/slow").json()


def test_a_client_runs_the_startup_and_the_shutdown_of_the_app():
    """What the app prepares at startup is there for its routes, and is cleared at the end."""
    with Client(Service(Tagger.bind(), app=app)) as client:
        assert "hello" == client.get("/greeting").json()

    assert "gone" == app.state.greeting
