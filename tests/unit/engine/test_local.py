"""The embedded engine: what it accepts, refuses and says; its replicas are threads here."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import Checkpoint, Service, Threshold, checkpoint, deployment
from salver.definition import Deployment
from salver.engine.local import LocalEngine
from salver.engine.offline import ComposedReplica, PoolReplica
from salver.errors import ConfigError, NotReady, ReplicaStartFailed, UnsupportedOption
from salver.settings import Overrides
from salver.testing import StubModel
from salver.types import Outcome


class Text(BaseModel):
    text: str


def bound(*args: Any, name: str = "Tagger", **options: Any) -> Deployment:
    return deployment(input=Text, name=name, **options)(type(name, (StubModel,), {})).bind(*args)


def engine_of(*deployments: Any, target: str | None = None, **overrides: Any) -> LocalEngine:
    async def make() -> LocalEngine:
        service = Service(*deployments)
        given = {name: dict(overrides) for name in service.deployments}
        return LocalEngine(service, target, Overrides(deployments=given))

    return asyncio.run(make())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"autoscaling_config": {"max_replicas": 3}}, r"autoscaling belongs to Ray.*num_replicas"),
        ({"num_replicas": "auto"}, "autoscaling belongs to Ray"),
        ({"ray_actor_options": {"resources": {"tpu": 1}}}, "ray_actor_options resources belong"),
        ({"replica": "thread", "num_cpus": 2}, "cannot honour"),
        ({"replica": "process"}, "not importable.*replica='thread'"),
        ({"num_gpus": 1}, r"num_gpus=1.*needs 1 GPU\(s\).*shows 0"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(
    options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the option and what to do instead; nothing is dropped in silence."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UnsupportedOption, match=says) as caught:
        engine_of(bound(**options))
    assert "Tagger" in caught.value.message or "num_gpus" in options


def test_threads_of_a_service_that_cannot_be_imported_take_no_cores() -> None:
    """num_cpus is refused too when the replicas are threads for lack of a module."""
    with pytest.raises(UnsupportedOption, match="num_cpus"):
        engine_of(bound(num_cpus=1))


@pytest.mark.parametrize("option", [{"policy": Threshold(0.5)}, {"examples": [{"text": "x"}]}])
def test_a_composed_function_takes_no_policy_and_no_examples(option: dict[str, Any]) -> None:
    """Its rule is in the function."""

    async def triage(rows: Any) -> Any: ...

    with pytest.raises(UnsupportedOption, match="triage is a composed function"):
        engine_of(deployment(input=Text, **option)(triage).bind())


def test_options_that_mean_nothing_to_a_function_are_reported() -> None:
    """What was said for all deployments reaches the models; a note says where it has no effect."""

    async def triage(rows: Any, tagger: Any) -> Any: ...

    engine = engine_of(
        deployment(input=Text)(triage).bind(bound()), num_replicas=2, request_timeout_s=3.0
    )

    assert any("triage" in note and "num_replicas" in note for note in engine.notes)
    assert not any("triage" in note and "request_timeout_s" in note for note in engine.notes)


def test_overrides_are_in_force() -> None:
    """Options given outside the code reach the deployment, and the notes tell."""
    engine = engine_of(bound(), num_replicas=3, max_batch_size=5)
    plan = engine.plans["Tagger"].described("Tagger")

    assert (3, 5) == (
        engine.deployment("Tagger").options.num_replicas,
        engine.deployment("Tagger").options.max_batch_size,
    )
    assert (
        "Tagger: 3 replicas in threads of this process, batches of up to 5 rows (as configured)"
        == plan
    )
    assert any("not importable" in note for note in engine.notes)


def run_with(service: Service, scenario: Any, **overrides: Any) -> Any:
    async def play() -> Any:
        given = {name: dict(overrides) for name in service.deployments}
        engine = LocalEngine(service, None, Overrides(deployments=given))
        await engine.start()
        try:
            return await scenario(engine)
        finally:
            await engine.stop(5)

    return asyncio.run(play())


def test_a_deployment_answers_while_its_engine_runs() -> None:
    """Before and after, it says that it does not run."""
    tagger = bound()
    service = Service(tagger)

    async def scenario(engine: LocalEngine) -> tuple[Outcome, list[Outcome]]:
        return await tagger({"text": "aa"}), await tagger([{"text": "bb"}, {"title": "no"}])

    with pytest.raises(NotReady):
        tagger.predict([{"text": "aa"}])
    one, several = run_with(service, scenario)
    with pytest.raises(NotReady):
        tagger.predict([{"text": "aa"}])

    assert "yes" == one["prediction"]
    assert ["no", None] == [o.value and o.value["prediction"] for o in several]
    assert several[1].failure is not None
    assert "invalid_input" == several[1].failure.code


def test_parts_of_a_function_are_asked_in_parallel() -> None:
    """Two deployments that wait for each other both answer, so they ran at once."""
    meeting = threading.Barrier(2, timeout=20)

    class Meets(StubModel):
        def __call__(self, batch: Any) -> Any:
            meeting.wait()
            return super().__call__(batch)

    parts = [
        deployment(input=Text, name=name, max_batch_size=8)(type(name, (Meets,), {})).bind()
        for name in ("A", "B")
    ]

    async def both(rows: Any, a: Any, b: Any) -> Any:
        answers = await asyncio.gather(a(rows), b(rows))
        return [{"a": x["prediction"], "b": y["prediction"]} for x, y in zip(*answers, strict=True)]

    function = deployment(input=Text)(both).bind(*parts)

    async def scenario(engine: LocalEngine) -> Any:
        assert {"A", "B", "both"} == set(engine.handles)
        assert isinstance(engine.offline_replica("both"), ComposedReplica)
        assert isinstance(engine.offline_replica("A"), PoolReplica)
        assert ["A", "B"] == engine.readiness()["deployments"]["both"]["parts"]
        return await function({"text": "aa"})

    outcome = run_with(Service(function), scenario)
    assert {"a": "yes", "b": "yes"} == outcome.value


def test_readiness_tells_the_state_of_all() -> None:
    """Ready once every deployment can answer, and never again once it stops."""

    async def play() -> None:
        engine = LocalEngine(Service(bound(num_replicas=2, examples=[{"text": "aa"}])))
        assert not engine.readiness()["ready"]
        await engine.start()
        state = engine.readiness()
        assert state["ready"]
        tagger = state["deployments"]["Tagger"]
        assert tagger["ready"]
        assert 2 == len(tagger["replicas"])
        assert 0 == tagger["queued"]
        assert 64 == len(tagger["version"])
        assert [{"text": "aa"}] == [e["input"] for e in engine.examples("Tagger")]
        await engine.stop(1)
        assert not engine.readiness()["ready"]

    asyncio.run(play())


def test_a_start_that_fails_leaves_nothing_running() -> None:
    """One model that cannot load ends the others and plugs nothing in."""

    class Bad(StubModel):
        def __init__(self) -> None:
            raise ValueError("no weights")

    good, bad = bound(name="Good"), deployment(input=Text)(Bad).bind()

    async def play() -> None:
        engine = LocalEngine(Service(good, bad))
        with pytest.raises(ReplicaStartFailed, match=r"Bad[\s\S]*no weights"):
            await engine.start()
        assert not engine.readiness()["ready"]

    before = threading.active_count()
    asyncio.run(play())
    assert before == threading.active_count()
    with pytest.raises(NotReady):
        good.predict([{"text": "a"}])


def test_a_row_in_flight_is_answered_by_a_stop() -> None:
    """Stop drains: what was asked before is answered, what comes after is refused."""
    started, release = threading.Event(), threading.Event()

    class Slow(StubModel):
        def __call__(self, batch: Any) -> Any:
            started.set()
            assert release.wait(20)
            return super().__call__(batch)

    slow = deployment(input=Text, max_batch_size=8)(Slow).bind()  # so that it is not tried at start

    async def play() -> None:
        engine = LocalEngine(Service(slow))
        await engine.start()
        asked = asyncio.ensure_future(slow({"text": "aa"}))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, 20)
        stopping = asyncio.ensure_future(engine.stop(20))
        await asyncio.sleep(0)
        assert not engine.readiness()["ready"]
        release.set()
        await stopping
        assert "yes" == (await asked)["prediction"]

    asyncio.run(play())


def test_a_second_engine_that_ends_does_not_unplug_the_first() -> None:
    """A deployment keeps answering through the engine that runs it."""
    tagger = bound()
    service = Service(tagger)

    async def scenario(engine: LocalEngine) -> Outcome:
        other = LocalEngine(service)
        await other.stop(0)
        return await tagger({"text": "aa"})

    assert "yes" == run_with(service, scenario)["prediction"]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), OSError("x")]
)
def test_a_constructor_may_raise_anything(error: BaseException) -> None:
    """It stops the start with its traceback, not the loop, also in a thread."""

    class Raises(StubModel):
        def __init__(self) -> None:
            raise error

    async def play() -> None:
        engine = LocalEngine(Service(deployment(input=Text)(Raises).bind()))
        with pytest.raises(ReplicaStartFailed, match=rf"Raises[\s\S]*{type(error).__name__}"):
            await engine.start()

    asyncio.run(play())


def test_a_policy_that_needs_probabilities_is_refused_at_start() -> None:
    """A model without class names cannot be thresholded."""

    class Labels:
        def __call__(self, batch: Any) -> Any:
            return ["x"] * len(batch["text"])

    async def play() -> None:
        one = deployment(input=Text, policy=Threshold(0.5))(Labels).bind()
        with pytest.raises((ReplicaStartFailed, ConfigError), match="names no classes"):
            await LocalEngine(Service(one)).start()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"policy": {"Treshold": {"p": 0.9}}}, "Tagger.*Treshold"),
        ({"policy": {"Threshold": 0.9}}, "Tagger.*Threshold was given 0.9"),
        ({"examples": [{"title": "x"}]}, "Tagger.*does not fit"),
        ({"examples": [{"input": "x"}]}, "golden example was given as"),
    ],
)
def test_a_wrong_rule_or_example_from_outside_is_refused_at_once(
    option: dict[str, Any], says: str
) -> None:
    """It is an error of configuration, told before a replica is started."""
    with pytest.raises(ConfigError, match=says):
        engine_of(bound(), **option)


def test_what_is_meant_for_the_models_does_not_refuse_a_function() -> None:
    """A policy and examples given for all deployments reach the models; a note says so."""

    async def triage(rows: Any, tagger: Any) -> Any: ...

    engine = engine_of(
        deployment(input=Text)(triage).bind(bound()),
        policy={"Threshold": {"p": 0.9}},
        examples=[{"text": "a"}],
    )

    assert (Threshold(0.9),) == engine.deployment("Tagger").policies
    assert any("triage" in note and "policy, examples" in note for note in engine.notes)


def test_services_that_share_a_deployment_ask_their_own_replicas() -> None:
    """A function's parts are those of its own engine, whichever engine was started last."""
    tagger = bound()

    async def triage(rows: Any, tagger: Any) -> Any:
        return [outcome["prediction"] for outcome in await tagger(rows)]

    one, two = (
        Service(deployment(input=Text, name=name)(triage).bind(tagger)) for name in ("one", "two")
    )

    async def play() -> None:
        first, second = LocalEngine(one), LocalEngine(two)
        await first.start()
        await second.start()
        await second.stop(1)
        batch = tagger.schema.check_rows([{"text": "aa"}]).batch
        assert ["yes"] == [o["prediction"] for o in await first.handles["one"].ask(batch)]
        await first.stop(1)

    asyncio.run(play())


def test_an_engine_unplugs_only_itself() -> None:
    """The engine that was started last keeps answering when an older one stops."""
    tagger = bound()

    async def play() -> None:
        first, second = LocalEngine(Service(tagger)), LocalEngine(Service(tagger))
        await first.start()
        await second.start()
        await first.stop(1)
        assert "yes" == (await tagger({"text": "aa"}))["prediction"]
        await second.stop(1)

    asyncio.run(play())


def test_readiness_shows_no_path_of_this_machine(tmp_path: Path) -> None:
    """Anybody may read it, so a local folder is called just that."""
    (tmp_path / "model.pt").write_bytes(b"weights")
    Checkpoint.create(tmp_path)

    class Tagger(StubModel):
        def __init__(self, checkpoint: Checkpoint) -> None:
            super().__init__()

    tagger = deployment(input=Text)(Tagger).bind(checkpoint(str(tmp_path)))

    async def scenario(engine: LocalEngine) -> Any:
        return engine.readiness()

    state = run_with(Service(tagger), scenario)
    assert str(tmp_path) not in str(state)
    assert "folder" == state["deployments"]["Tagger"]["checkpoints"][0]["source"]


class Counts(StubModel):
    """Notes how many rows it was given at a time."""

    seen: list[int]

    def __call__(self, batch: Any) -> Any:
        type(self).seen.append(len(batch["text"]))
        if max(type(self).seen) > 1 and hasattr(self, "fails"):
            raise ValueError("no")
        return super().__call__(batch)


def counting(name: str = "Tagger", fails: bool = False, **options: Any) -> tuple[Any, list[int]]:
    seen: list[int] = []
    made = {"seen": seen, **({"fails": True} if fails else {})}
    return deployment(input=Text, name=name, **options)(type(name, (Counts,), made)).bind(), seen


def test_what_is_left_open_is_measured_at_start() -> None:
    """The size that was found is in the options, the plan and `/-/readyz`."""
    tagger, seen = counting()

    async def scenario(engine: LocalEngine) -> tuple[Any, Any]:
        assert engine.job_batch_size("Tagger") in (8, 64)
        return engine.deployment("Tagger").options, engine.readiness()["deployments"]["Tagger"]

    options, state = run_with(Service(tagger), scenario)
    assert 1 == seen[0]
    assert 256 == max(seen)
    assert options.max_batch_size in (8, 16, 32, 64, 128, 256)
    plan = state["plan"]
    assert (1, None, options.max_batch_size) == (
        plan["num_replicas"],
        plan["threads"],
        plan["max_batch_size"],
    )
    assert "took" in plan["reason"]
    assert 1 == options.num_replicas


def test_nothing_is_measured_when_nothing_is_open() -> None:
    """With both numbers given, a model sees no row before the first request."""
    tagger, seen = counting(num_replicas=1, max_batch_size=8)

    async def scenario(engine: LocalEngine) -> str:
        assert not engine.has_chosen_batch_size("Tagger")
        return engine.plans["Tagger"].reason

    assert "as configured" == run_with(Service(tagger), scenario)
    assert [] == seen


def test_a_model_that_fails_on_made_up_rows_is_served_all_the_same() -> None:
    """The defaults are used, and the plan says why."""
    tagger, _ = counting(fails=True)

    async def scenario(engine: LocalEngine) -> tuple[int, str]:
        return engine.plans["Tagger"].max_batch_size, engine.plans["Tagger"].reason

    size, reason = run_with(Service(tagger), scenario)
    assert 8 == size
    assert "not measured, the model failed" in reason


def test_golden_examples_are_what_is_measured_with() -> None:
    """Rows that the model is known to answer are better than made-up ones."""
    seen: set[str] = set()

    class Known(StubModel):
        def __call__(self, batch: Any) -> Any:
            seen.update(batch["text"])
            return super().__call__(batch)

    tagger = deployment(input=Text, examples=[{"text": "aa"}, {"text": "bb"}])(Known).bind()

    async def scenario(engine: LocalEngine) -> bool:
        return engine.has_chosen_batch_size("Known")

    assert run_with(Service(tagger), scenario)
    assert {"aa", "bb"} == seen


def test_a_function_takes_the_rows_of_its_largest_part() -> None:
    """Its own number is left open too, and nothing is measured for it."""
    one, _ = counting("One", max_batch_size=50)
    two, _ = counting("Two", max_batch_size=2)

    async def both(rows: Any, one: Any, two: Any) -> Any: ...

    async def scenario(engine: LocalEngine) -> Any:
        assert (50, 50) == (engine.job_batch_size("both"), engine.job_batch_size("One"))
        return engine.deployment("both").options.max_batch_size, set(engine.plans)

    found = run_with(Service(deployment(input=Text)(both).bind(one, two)), scenario)
    assert (50, {"One", "Two"}) == found


def test_requests_wait_for_the_end_of_a_trial() -> None:
    """They would be measured too; until then the service says that it is loading."""
    held, going = threading.Event(), threading.Event()

    class Held(StubModel):
        def __call__(self, batch: Any) -> Any:
            held.set()
            assert going.wait(20)
            return super().__call__(batch)

    tagger = deployment(input=Text, name="Tagger")(Held).bind()

    async def play() -> None:
        engine = LocalEngine(Service(tagger))
        starting = asyncio.ensure_future(engine.start())
        await asyncio.get_running_loop().run_in_executor(None, held.wait, 20)
        if not starting.done():
            assert not engine.readiness()["ready"]
            batch = tagger.schema.check_rows([{"text": "aa"}]).batch
            with pytest.raises(NotReady, match="still loading"):
                await engine.handles["Tagger"].ask(batch)
        await starting  # the trial does not wait for a model that hangs
        assert engine.readiness()["ready"]
        going.set()
        assert "yes" == (await tagger({"text": "aa"}))["prediction"]
        await engine.stop(5)

    asyncio.run(play())
