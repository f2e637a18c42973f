from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from pydantic import BaseModel, Field

from salver.definition import Definition, Deployment, definition_of, deployment
from salver.errors import ConfigError, InvalidOption, NotReady, UnknownOption
from salver.models.reference import checkpoint
from salver.policies import Threshold
from salver.types import Batch, Outcome


class Project(BaseModel):
    title: str = ""


class Plain:
    """A model as a user writes it."""

    def __init__(self, path, scale=1):
        self.path, self.scale = path, scale

    def __call__(self, batch):
        return {"prediction": [self.scale * len(t) for t in batch["title"]]}


def fresh() -> type[Plain]:
    """A class of its own for each test, since the decorator marks the class that it is given."""
    return type("Tagger", (Plain,), {})


def bound(**options) -> Deployment:
    return deployment(input=Project, **options)(fresh()).bind("path")


class Lengths:
    """A running engine as a deployment sees one: it answers each row with its length."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked: list[Batch] = []

    async def ask(self, batch: Batch, timeout_s: float | None = None) -> list[Outcome]:
        assert asyncio.get_running_loop() is self.loop
        self.asked.append(batch)
        return [Outcome({"prediction": len(row[0])}) for row in batch.rows]


@pytest.fixture
def engine() -> Iterator[Lengths]:
    """An engine on an event loop in another thread, as in a notebook."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Lengths(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


# --- the decorator


def test_the_class_is_the_very_class():
    """The decorator returns the same object, which works as the plain class that it is."""
    Tagger = fresh()
    decorated = deployment(input=Project, max_batch_size=4)(Tagger)
    assert decorated is Tagger
    model = decorated("path", scale=2)
    assert type(model) is Tagger
    assert model({"title": np.array(["ab"], dtype=object)}) == {"prediction": [4]}
    assert "__call__" not in vars(Tagger)
    assert "__init__" not in vars(Tagger)


def test_a_function_is_the_very_function():
    """A composed function stays a coroutine function; its model stands in its annotation."""

    @deployment
    async def triage(rows: list[Project], tagger, urgency=None):
        return rows

    assert asyncio.run(triage([1], None)) == [1]
    one = triage.bind(bound())
    assert one.is_composed
    assert one.schema.model is Project
    assert [part.name for part in one.parts] == ["Tagger"]


def test_a_subclass_is_decorated_itself():
    """A subclass does not serve its parent: undecorated it is refused, decorated it is its own."""
    Tagger = deployment(input=Project)(fresh())
    Better = type("Better", (Tagger,), {})
    assert Better("path").scale == 1
    for verb in ("bind", "options"):
        with pytest.raises(ConfigError, match=r"Better is not decorated; write @deployment\("):
            getattr(Better, verb)
    assert deployment(input=Project)(Better).bind("path").target is Better
    assert Tagger.bind("path").target is Tagger


def test_an_input_given_wins_over_the_annotation():
    """input= is what counts, whether a function is annotated or not."""

    class Other(BaseModel):
        n: int

    @deployment(input=Other)
    async def f(rows: list[Project]):
        return rows

    @deployment(input=Other, name="second")
    async def g(rows):
        return rows

    assert f.bind().schema.model is Other
    assert (g.bind().schema.model, g.bind().name) == (Other, "second")


def not_async(rows: list[Project]):
    return rows


class NoCall:
    pass


class OwnBind(Plain):
    def bind(self):
        return 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (NoCall, "no __call__"),
        (not_async, "async def"),
        (lambda rows: rows, "async def"),
        (Plain("path"), "takes a class"),
        ("Tagger", "takes a class"),
        (OwnBind, "'bind' of its own"),
    ],
)
def test_what_cannot_be_served_is_refused(target, words):
    """Neither a class without __call__ nor a plain function nor an instance is a deployment."""
    with pytest.raises(ConfigError, match=words):
        deployment(input=Project)(target)


def test_an_input_model_is_needed():
    """A class says its input model, a function may annotate it as a list of rows."""

    async def bare(rows):
        return rows

    async def single(rows: Project):
        return rows

    for target in (fresh(), bare, single):
        with pytest.raises(ConfigError, match="no input model"):
            deployment(target)


@pytest.mark.parametrize("name", ["", "a b", "a-b", "1a", "num_replicas", 5, "a/b"])
def test_a_name_is_an_identifier(name):
    """A name stands in URLs and options, so it is an identifier that is no option."""
    with pytest.raises(ConfigError, match="identifier"):
        deployment(input=Project)(fresh()).options(name=name)


def test_wrong_options_are_found_at_the_definition():
    """Misspelt options, wrong values and wrong policies are errors where they are written."""
    with pytest.raises(UnknownOption, match="'max_batch_size'"):
        deployment(input=Project, max_batch=1)(fresh())
    with pytest.raises(InvalidOption, match="num_replicas"):
        deployment(input=Project, num_replicas=0)(fresh())
    with pytest.raises(ConfigError, match="policy"):
        deployment(input=Project, policy=0.9)(fresh())


# --- options and bind


def test_options_make_a_copy():
    """options() changes neither the class's own definition nor what was bound before."""
    Tagger = deployment(input=Project, num_replicas=2)(fresh())
    before = Tagger.bind("path")
    changed = Tagger.options(num_replicas=3, name="big", policy=Threshold(0.9))
    assert isinstance(changed, Definition)
    after = Tagger.bind("path")
    assert before == after
    assert (before.name, before.options.num_replicas, before.policies) == ("Tagger", 2, ())
    again = changed.options(max_batch_size=1).bind("path")
    assert (again.name, again.options.num_replicas) == ("big", 3)
    assert again.options.max_batch_size == 1
    assert again.policies == (Threshold(0.9),)
    assert changed.bind("path").options.max_batch_size is None


def test_a_definition_can_be_made_without_touching_the_target():
    """What is served bare is not marked by it."""
    Tagger = fresh()
    assert definition_of(Tagger, Project, None, {}).bind("path").name == "Tagger"
    assert not hasattr(Tagger, "bind")


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("a", 1, 2), {}), (("a",), {"size": 1}), (("a",), {"path": 1})]
)
def test_bind_takes_the_arguments_of_the_constructor(args, kwargs):
    """Missing, extra and unknown arguments are refused with the signature, before anything loads."""
    with pytest.raises(ConfigError, match=r"Tagger\.bind\(path, scale=1\)"):
        deployment(input=Project)(fresh()).bind(*args, **kwargs)


def test_bind_loads_nothing():
    """The constructor is not called by bind."""

    class Loud:
        def __init__(self):
            raise AssertionError("loaded")

        def __call__(self, batch):
            return batch

    assert deployment(input=Project)(Loud).bind().target is Loud


def test_a_class_is_not_bound_to_a_deployment():
    """Models do not call models; the error says how to compose."""
    with pytest.raises(ConfigError, match="async def f"):
        deployment(input=Project)(fresh()).bind(bound())
    with pytest.raises(ConfigError, match="async def f"):
        deployment(input=Project)(fresh()).bind("path", scale=bound())


def test_a_function_is_bound_to_what_follows_its_rows():
    """The rows come with a request; bind gives the rest."""

    @deployment
    async def triage(rows: list[Project], tagger, urgency):
        return rows

    tagger, urgency = bound(), bound(name="Urgency")
    assert triage.bind(tagger, urgency=urgency).parts == (tagger, urgency)
    with pytest.raises(ConfigError, match="urgency"):
        triage.bind(tagger)


@pytest.mark.parametrize("wrapped", [lambda a: [a], lambda a: {"k": ("x", a)}, lambda a: [[a]]])
def test_what_stands_for_something_else_is_an_argument_of_its_own(wrapped):
    """Nobody would look for a deployment or a checkpoint within a list or a mapping."""

    @deployment
    async def triage(rows: list[Project], taggers):
        return rows

    with pytest.raises(ConfigError, match="argument of its own"):
        triage.bind(wrapped(bound()))
    with pytest.raises(ConfigError, match="argument of its own"):
        deployment(input=Project)(fresh()).bind("path", scale=wrapped(checkpoint("runs:/abc/m")))
    with pytest.raises(ConfigError, match="async def f"):
        deployment(input=Project)(fresh()).bind(wrapped(bound()))
    endless: list = []
    endless.append(endless)
    assert triage.bind(endless).args[0] is endless


def test_a_deployment_is_immutable():
    """What bind made does not change; with_options makes another on the same line."""
    one = bound()
    with pytest.raises(FrozenInstanceError):
        one.name = "other"  # type: ignore[misc]
    other = one.with_options(one.options.replace({"num_replicas": 2}, "x"))
    assert (one.options.num_replicas, other.options.num_replicas) == (None, 2)


# --- asking


def test_asking_needs_a_running_service():
    """Without an engine the error says how to start one."""
    with pytest.raises(NotReady, match=r"service\.run"):
        bound().predict([{"title": "a"}])
    with pytest.raises(NotReady):
        bound()({"title": "a"})


def test_rows_are_asked_in_one_batch(engine):
    """Several rows give a list in their order; refused rows keep their places and cost nothing."""
    one = bound()
    one.connect(engine)
    rows = [{"title": "a"}, {"title": 5}, Project(title="abc"), None, {}]
    outcomes = one.predict(rows)
    assert [o["prediction"] if o.ok else o.failure.code for o in outcomes] == [
        1,
        "invalid_input",
        3,
        "invalid_input",
        0,
    ]
    assert [len(batch) for batch in engine.asked] == [3]
    assert one.predict([]) == []
    assert not one.predict([{"title": 5}])[0].ok
    assert len(engine.asked) == 1


@pytest.mark.parametrize("row", [{"title": "x"}, Project(title="x"), "x", b"x"])
def test_predict_takes_a_list_of_rows(engine, row):
    """A single row, or a text, is not taken for the rows that it seems to hold."""
    one = bound()
    one.connect(engine)
    with pytest.raises(TypeError, match=r"list of rows; write predict\(\[row\]\)"):
        one.predict(row)
    assert engine.asked == []


def test_awaiting_works_on_any_loop(engine):
    """One row gives one outcome, rows give a list, from the loop of a notebook too."""
    one = bound()
    one.connect(engine)

    async def ask():
        return await one({"title": "ab"}), await one(Project(title="a")), await one([{}, {}])

    single, instance, several = asyncio.run(ask())
    assert (single["prediction"], instance["prediction"]) == (2, 1)
    assert [o["prediction"] for o in several] == [0, 0]
    on_its_own_loop = asyncio.run_coroutine_threadsafe(ask(), engine.loop).result()
    assert on_its_own_loop[0] == single


def test_blocking_the_services_own_loop_is_refused(engine):
    """predict() in a coroutine of the service would wait for itself; the error says so."""
    one = bound()
    one.connect(engine)

    async def wrong():
        one.predict([{}])

    with pytest.raises(RuntimeError, match="await Tagger"):
        asyncio.run_coroutine_threadsafe(wrong(), engine.loop).result()


def test_copies_share_the_line(engine):
    """An engine that runs with overridden options answers through what the user holds."""
    one = bound()
    one.with_options(one.options).connect(engine)
    assert one.predict([{"title": "a"}])[0]["prediction"] == 1
    one.connect(None)
    with pytest.raises(NotReady):
        one.predict([{}])


def test_an_instance_is_read_under_its_aliases(engine):
    """A row may be an instance of a model whose fields have aliases."""

    class Aliased(BaseModel):
        title: str = Field(alias="Title")

    one = deployment(input=Aliased)(fresh()).bind("path")
    one.connect(engine)
    assert one.predict([Aliased(Title="abc")])[0]["prediction"] == 3
