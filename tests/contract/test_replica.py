"""What every kind of replica promises, in one suite over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import replica_models
import uvloop
from ray_replica import RayReplica, disconnect
from replica_models import RAISES

from salver import Checkpoint
from salver.definition import Deployment
from salver.engine.loading import instantiate
from salver.engine.pool import Pool
from salver.engine.replica import Birth, ProcessReplica, ThreadReplica
from salver.errors import ReplicaStartFailed
from salver.pipeline import Pipeline
from salver.types import Batch, Outcomes

KINDS = ["process", "thread", "pool of processes", "pool of threads", "ray"]
TARGET = "replica_models:service"
LONG = "x" * 100_000
TEXTS = [
    "",
    "plain",
    "😀👩‍👩‍👧",
    "nul\x00inside\x00",
    "שלום עולם",
    "\u202eright to left",
    "e\u0301",
    LONG,
]


def make(kind: str, deployment: Deployment, resolved: Any = None) -> Any:
    """A replica that was not started."""
    if kind == "ray":
        return RayReplica(TARGET, deployment, resolved or {})
    if kind.endswith(("thread", "threads")):
        return ThreadReplica(deployment, resolved or {})
    return ProcessReplica(Birth(TARGET, deployment.name, {}, resolved or {}, threads=1), deployment)


class Running:
    """A started replica, or a pool of two, on a loop that lives as long."""

    def __init__(self, kind: str, name: str, resolved: Any = None) -> None:
        self.deployment = replica_models.service.deployments[name]
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.get_loop()
        self._replica: Any = make(kind, self.deployment, resolved)
        if kind.startswith("pool"):
            one = self._replica
            spare = [make(kind, self.deployment, resolved), one]
            self._replica = Pool(name, lambda _index: spare.pop(), 2, startup_timeout_s=60)
        try:
            self.ready = self._runner.run(self._replica.start())
        except BaseException:
            self.close()
            raise

    def run(self, batch: Batch) -> Outcomes:
        async def ask() -> Outcomes:
            async with asyncio.timeout(60):
                outcomes: Outcomes = await self._replica.run(batch)
                return outcomes

        return self._runner.run(ask())

    def check(self, *rows: dict[str, Any]) -> Batch:
        """Rows through the schema."""
        checked = self.deployment.schema.check_rows(rows)
        assert not checked.rejected
        return checked.batch

    def texts(self, *texts: str) -> Batch:
        return self.check(*[{"text": text} for text in texts])

    def bare(self, batch: Batch) -> Outcomes:
        """What the pipeline says of the same batch in this thread."""
        model = instantiate(self.deployment, {})
        return Pipeline(model, self.deployment.policies).run(batch)

    @property
    def pids(self) -> list[int]:
        if isinstance(self._replica, RayReplica):
            return self._runner.run(self._replica.pids())
        slots = getattr(self._replica, "slots", None)
        return [s.worker.pid for s in slots] if slots else [self._replica.pid]

    def close(self) -> None:
        self._runner.run(self._replica.stop())
        self._runner.close()


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ends with the last test of this module."""
    yield
    disconnect()


@pytest.fixture(scope="module", params=KINDS)
def rude(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The misbehaving model in each kind of replica."""
    running = Running(request.param, "Rude")
    yield running
    running.close()


@pytest.fixture(scope="module", params=KINDS)
def scorer(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The model with probabilities and a policy in each kind of replica."""
    running = Running(request.param, "Scorer")
    yield running
    running.close()


def same(ours: Outcomes, bare: Outcomes) -> None:
    """Asserts equal outcomes; tracebacks may name other files."""
    assert len(ours) == len(bare)
    for mine, theirs in zip(ours, bare, strict=True):
        assert mine.value == theirs.value
        assert mine.abstained == theirs.abstained
        if mine.failure is None or theirs.failure is None:
            assert mine.failure is theirs.failure
        else:
            assert mine.failure.as_json() == theirs.failure.as_json()
            assert bool(mine.failure.detail) == bool(theirs.failure.detail)


def test_values_of_every_type_come_through_unchanged(rude: Running) -> None:
    """Texts of all scripts, numbers at their bounds, null, booleans and nested values."""
    nested = {"a": [1, 2.5, None, {"b": "ü"}], "bounds": [2**63 - 1, -(2**63)]}
    rows: list[dict[str, Any]] = [{"text": text} for text in TEXTS]
    rows += [
        {"number": 2**63 - 1, "real": 5e-324, "flag": True, "extra": nested},
        {"number": -(2**63), "real": -1.7976931348623157e308, "extra": []},
    ]
    batch = rude.check(*rows)

    outcomes = rude.run(batch)

    same(outcomes, rude.bare(batch))
    assert TEXTS == [outcomes[i]["prediction"] for i in range(len(TEXTS))]
    assert nested == outcomes[8]["extra"]
    assert (2**63 - 1, 5e-324, True) == tuple(outcomes[8][n] for n in ("number", "real", "flag"))


def test_whole_numbers_beyond_64_bits_reach_the_model_and_stay_alone(rude: Running) -> None:
    """Inside an object a number keeps its value; a result that JSON cannot hold fails its row."""
    fields = rude.deployment.schema.fields
    big = {"big": [2**64 - 1, 2**64, -(2**63) - 1, 10**300]}
    batch = Batch(fields, [("repr", 1, None, False, big), ("huge", 1, None, False, None)])

    outcomes = rude.run(batch)

    same(outcomes, rude.bare(batch))
    assert repr(big) == outcomes[0]["repr"]
    assert {1: "bad_model_output"} == {i: f.code for i, f in outcomes.failures.items()}


@pytest.mark.parametrize("name", RAISES)
def test_a_row_that_raises_stays_alone(rude: Running, name: str) -> None:
    """Any exception fails that row only, and the replica is still the same one."""
    before = rude.pids
    batch = rude.texts("a", "b", f"raise {name}", "c", "d")

    outcomes = rude.run(batch)

    same(outcomes, rude.bare(batch))
    assert [2] == list(outcomes.failures)
    failure = outcomes.failures[2]
    assert "model_error" == failure.code
    assert name in failure.message
    assert "secret" not in failure.message
    assert "Traceback" in str(failure.detail)
    assert before == rude.pids


@pytest.mark.parametrize("position", [0, 7, 31])
def test_one_bad_row_of_32_stays_alone_wherever_it_is(rude: Running, position: int) -> None:
    """All neighbours get what they would have got without it."""
    texts = [f"row {i}" for i in range(32)]
    texts[position] = "raise ValueError"
    batch = rude.texts(*texts)

    outcomes = rude.run(batch)

    same(outcomes, rude.bare(batch))
    assert [position] == list(outcomes.failures)


@pytest.mark.parametrize(
    ("text", "code"),
    [("few", "bad_model_output"), ("object", "bad_model_output"), ("nan", "non_finite_output")],
)
def test_an_output_that_cannot_be_used_fails_its_row(rude: Running, text: str, code: str) -> None:
    """A wrong number of rows, a strange object and NaN are failures of the rows concerned."""
    batch = rude.texts("a", text, "b", "c")

    outcomes = rude.run(batch)

    same(outcomes, rude.bare(batch))
    assert {1: code} == {i: f.code for i, f in outcomes.failures.items()}


def test_probabilities_and_policies_are_the_same_everywhere(scorer: Running) -> None:
    """Floats are equal to the bit, unsure rows abstain, rows that are not finite fail."""
    batch = scorer.texts(*["x" * n for n in (1, 33, 50, 59, 61, 100)], "nan", "inf")

    outcomes = scorer.run(batch)

    same(outcomes, scorer.bare(batch))
    assert ["short", "short", "other", "other", "long", "long"] == [
        outcomes[i]["prediction"] for i in range(6)
    ]
    assert frozenset({2, 3}) == outcomes.abstained
    assert {6, 7} == set(outcomes.failures)


def test_a_batch_of_abstentions_and_failures_only_comes_through(scorer: Running) -> None:
    """A batch without one good row has its outcomes too."""
    batch = scorer.texts("nan")
    same(scorer.run(batch), scorer.bare(batch))


def test_a_model_may_print_a_lot(rude: Running, capfd: pytest.CaptureFixture[str]) -> None:
    """What it prints goes to the console and never between the frames."""
    batch = rude.texts("print", "a")

    same(rude.run(batch), rude.bare(batch))
    same(rude.run(rude.texts("b")), rude.bare(rude.texts("b")))


def test_many_batches_are_answered_in_turn(rude: Running) -> None:
    """No answer is mistaken for another's."""
    for i in range(50):
        text = f"batch {i}"
        assert text == rude.run(rude.texts(text))[0]["prediction"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ImportFails", "no_such_library"),
        ("ConstructorExits", "leaving"),
        ("ConstructorRaises", "the weights are missing"),
        ("WrongAnswer", "'x' to its golden example .* recorded was 'y'"),
    ],
)
def test_a_start_that_fails_says_why(kind: str, name: str, says: str) -> None:
    """The error carries the reason that the model gave where it was loaded."""
    with pytest.raises(ReplicaStartFailed, match=rf"(?s){name}.*{says}"):
        Running(kind, name)


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Any]:
    """A checkpoint as the engine resolves it."""
    (tmp_path / "weights.txt").write_text("seven")
    made = Checkpoint.create(tmp_path)
    return {"0": {"path": str(tmp_path), "digest": made.digest, "source": "here"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_given_to_the_model(kind: str, weights: dict[str, Any]) -> None:
    """The reference among its arguments is an open checkpoint when the model is made."""
    running = Running(kind, "Weights", weights)
    assert "seven" == running.run(running.texts("x"))[0]["prediction"]
    running.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupted_checkpoint_stops_the_start(kind: str, weights: dict[str, Any]) -> None:
    """One changed byte is found before the model sees it, and the file is named."""
    (Path(weights["0"]["path"]) / "weights.txt").write_text("sevem")
    with pytest.raises(ReplicaStartFailed, match=r"(?s)CheckpointCorrupt.*weights\.txt"):
        Running(kind, "Weights", weights)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_replica_says_where_its_tokenizer_is(kind: str) -> None:
    """As text, whatever kind of path the model has; a model without one says nothing."""
    rude = Running(kind, "Rude")
    try:
        assert "/nowhere/tokenizer.json" == rude.ready.tokenizer_file
    finally:
        rude.close()
