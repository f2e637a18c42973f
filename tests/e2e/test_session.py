"""A service in the background of a process: notebooks and scripts."""

import asyncio
import json
import socket
import threading
from pathlib import Path

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer, models, pre_tokenizers

from salver import Service, deployment
from salver.client import Client
from salver.errors import ConfigError, InvalidInput, Unauthorized
from salver.testing import StubModel


class Note(BaseModel):
    text: str | None = None
    score: float | None = None


@deployment(input=Note)
class Tagger(StubModel):
    """Knows what was missing."""

    def __call__(self, batch):
        return {
            "missing": [t is None for t in batch["text"]],
            "n": [len(batch["text"])] * len(batch["text"]),
        }


@pytest.fixture
def service():
    made = Service(Tagger.bind())
    yield made
    made.shutdown()


def test_settings_of_run_are_obeyed_after_a_prediction(service):
    """`run` after `predict` in the same notebook listens as it was told to."""
    service.predict([{"text": "a"}])

    service.run(blocking=False, port=0, api_key="secret")

    address = own_address()
    assert 401 == httpx.post(f"{address}/predict/", json={"text": "a"}).status_code
    headers = {"x-api-key": "secret"}
    assert 200 == httpx.post(f"{address}/predict/", json={"text": "a"}, headers=headers).status_code


def addresses():
    from salver import run

    return [session.face.address for session in run._sessions.values()]


def own_address():
    return next(one for one in addresses() if not one.endswith(":8000"))


def test_the_client_is_answered_as_predict_is(service):
    """One row, a list, and a row that the schema refuses."""
    rows = [{"text": "a"}, {"score": 0.5}]
    expected = service.predict(rows)
    service.run(blocking=False, port=0, api_key="secret")
    address = own_address()

    with Client(address, api_key="secret") as client:
        assert expected == client.predict(rows)
        assert {"missing": True, "n": 1} == client.predict({"score": 1.0})
        with pytest.raises(InvalidInput) as raised:
            client.predict({"score": "many"})
    assert "score" in str(raised.value.problems)
    with Client(address) as stranger, pytest.raises(Unauthorized):
        stranger.predict(rows)


def test_missing_values_of_a_frame_are_null_as_in_parquet(service, tmp_path: Path):
    """A DataFrame and the Parquet file of it are answered alike."""
    frame = pd.DataFrame({"text": ["a", None], "score": [float("nan"), 1.0]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "rows.parquet")

    answered = service.predict(frame)
    service.predict(str(tmp_path / "rows.parquet"), str(tmp_path / "out"))

    assert [False, True] == answered["missing"].tolist()
    assert [False, True] == pq.read_table(tmp_path / "out")["missing"].to_pylist()


def test_an_error_column_of_ones_own_is_not_overwritten(service):
    """A frame whose column would be overwritten is refused by name."""
    frame = pd.DataFrame({"text": [5], "error": ["mine"]})

    with pytest.raises(ConfigError, match="error"):
        service.predict(frame)


def test_threads_that_ask_first_share_one_engine(service):
    """Whoever asks first, one engine is started."""
    threads = [threading.Thread(target=service.predict, args=([{"text": "a"}],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len([t for t in threading.enumerate() if t.name == "salver-engine"])


def test_run_says_what_to_write_where_a_loop_runs(service):
    """In a notebook `run()` names the call that works there."""

    async def cell() -> None:
        service.run()

    with pytest.raises(ConfigError, match=r"blocking=False"):
        asyncio.run(cell())


def test_predict_in_a_route_is_an_error_and_no_deadlock():
    """A blocking call on the service's own loop is refused, and the service lives on."""
    app = FastAPI()
    service = Service(Tagger.bind(), app=app)

    @app.get("/wrong")
    async def wrong() -> str:
        try:
            service.predict([{"text": "a"}])
        except ConfigError as error:
            return str(error)
        return "answered"

    service.run(blocking=False, port=0)
    try:
        address = addresses()[-1]
        assert "await tagger(rows)" in httpx.get(f"{address}/wrong", timeout=30).json()
    finally:
        service.shutdown()


def test_a_job_resumed_in_a_session_keeps_its_batches(tmp_path, service):
    """The engine has measured a size of its own by then; the folder's is used."""
    path, out = tmp_path / "rows.parquet", tmp_path / "out"
    pq.write_table(pa.table({"text": list("abcdefg"), "score": [1.0] * 7}), path)
    service.predict(path, out)
    manifest = out / "_manifest.json"
    begun = json.loads(manifest.read_text())
    assert begun["plan"]["max_batch_size"] > 3
    begun["plan"]["max_batch_size"] = 3
    manifest.write_text(json.dumps(begun))

    again = service.predict(path, out, resume=True)

    assert "already complete" == again["status"]
    assert 3 == again["plan"]["max_batch_size"]


def test_a_job_puts_rows_together_by_the_models_tokens(tmp_path):
    """And so do rows in memory; the manifest says so."""
    cutter = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    cutter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    cutter.save(str(tmp_path / "tokenizer.json"))

    class Reader(StubModel):
        """Says which rows came with it."""

        tokenizer_file_ = tmp_path / "tokenizer.json"

        def __call__(self, batch):
            return {"mates": [" | ".join(batch["text"])] * len(batch["text"])}

    service = Service(deployment(input=Note, max_batch_size=2)(Reader).bind())
    path, out = tmp_path / "rows.parquet", tmp_path / "out"
    texts = ["one", "a b c d", "i n f o", "antidisestablishment"]
    pq.write_table(pa.table({"text": texts, "score": [1.0] * 4}), path)
    try:
        manifest = service.predict(path, out)
        rows = service.predict([{"text": text} for text in texts])
    finally:
        service.shutdown()

    assert "tokens" == manifest["plan"]["lengths"]
    mates = ["one | antidisestablishment", "a b c d | i n f o"]
    expected = [mates[0], mates[1], mates[1], mates[0]]
    assert expected == pq.read_table(out)["mates"].to_pylist()
    assert expected == [row["mates"] for row in rows]


def test_a_port_that_is_taken_leaves_no_account_open(service, tmp_path):
    """A service that cannot listen closes the file it would have kept answers in."""
    record = tmp_path / "answers.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="in use"):
            service.run(blocking=False, port=port, record=str(record))

    assert not [t for t in threading.enumerate() if t.name == "salver-recorder"]
    service.run(blocking=False, port=0, record=str(record))
    with Client(own_address()) as client:
        client.predict({"text": "a"}, request_id="first")
        assert 1 == client.feedback([{"request_id": "first", "label": "yes"}])
        assert 0 == client.feedback([{"request_id": "other", "label": "yes"}])
        with pytest.raises(InvalidInput):
            client.feedback([{"request_id": "first"}])
