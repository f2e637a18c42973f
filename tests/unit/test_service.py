from __future__ import annotations

import pytest
from pydantic import BaseModel

from salver.definition import deployment
from salver.errors import ConfigError
from salver.service import Service


class Project(BaseModel):
    title: str = ""


def tagger(name: str = "Tagger"):
    class Tagger:
        def __call__(self, batch):
            return batch["title"]

    return deployment(input=Project, name=name)(Tagger)


async def bare(rows: list[Project]):
    return rows


@deployment
async def triage(rows: list[Project], first, second):
    return rows


@pytest.mark.parametrize(
    ("prefix", "one", "second_of_two"),
    [
        ("/", "/predict/", "/B/predict/"),
        ("/api", "/api/predict/", "/api/B/predict/"),
        ("/api/v1/", "/api/v1/predict/", "/api/v1/B/predict/"),
    ],
)
def test_routes_follow_the_prefix(prefix, one, second_of_two):
    """One deployment answers at predict/, several at their names."""
    a, b = tagger("A").bind(), tagger("B").bind()
    assert Service(a, route_prefix=prefix).route_of(a) == one
    assert Service(a, b, route_prefix=prefix).route_of(b) == second_of_two


def test_parts_are_deployments_too_and_counted_once():
    """What composed functions ask is started with them; a shared part is one deployment."""
    shared, own = tagger("Shared").bind(), tagger("Own").bind()
    second = deployment(name="second")(_other).bind(shared)
    service = Service(triage.bind(shared, own), second, shared)
    assert list(service.deployments) == ["Shared", "Own", "triage", "second"]
    assert [d.name for d in service.exposed] == ["triage", "second", "Shared"]


async def _other(rows: list[Project], part):
    return rows


def test_two_deployments_of_one_name_are_refused():
    """Names must differ among exposed deployments and parts, since options and URLs use them."""
    Tagger = tagger()
    for given in ([Tagger.bind(), Tagger.bind()], [triage.bind(Tagger.bind(), Tagger.bind())]):
        with pytest.raises(ConfigError, match="Two deployments are named 'Tagger'"):
            Service(*given)
    assert len(Service(Tagger.bind(), Tagger.options(name="Second").bind()).deployments) == 2


def test_a_bare_function_is_served_as_often_as_one_likes():
    """A function without arguments needs neither decorator nor bind, and is not marked by it."""
    for _ in range(2):
        assert list(Service(bare).deployments) == ["bare"]
    assert not hasattr(bare, "bind")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "at least one"),
        ([tagger()], r"Tagger is not bound.*Service\(Tagger\.bind"),
        ([tagger().options(num_replicas=2)], "Tagger is not bound"),
        ([triage], "triage is not bound"),
        ([5], "takes deployments"),
        (["Tagger"], "takes deployments"),
        ([lambda rows: rows], "async def"),
    ],
)
def test_what_is_no_deployment_is_refused(given, words):
    """The error says what was given and what to write."""
    with pytest.raises(ConfigError, match=words):
        Service(*given)


@pytest.mark.parametrize("prefix", ["", "api", None, 5])
def test_a_prefix_starts_with_a_slash(prefix):
    """Anything else is refused."""
    with pytest.raises(ConfigError, match="route_prefix"):
        Service(tagger().bind(), route_prefix=prefix)


def test_a_service_shows_what_it_serves():
    """The representation names deployments and prefix."""
    assert repr(Service(tagger().bind(), route_prefix="/api/")) == (
        "Service(Tagger, route_prefix='/api')"
    )


def test_one_of_several_deployments_is_chosen_by_name():
    """A single one needs no name; of several, an error names those that there are."""
    a, b = tagger("A").bind(), tagger("B").bind()
    assert Service(a).chosen(None) is a
    assert Service(a, b).chosen("B") is b
    for name, said in ((None, "none was named"), ("C", "'C' was named")):
        with pytest.raises(ConfigError, match=f"exposes A, B and {said}"):
            Service(a, b).chosen(name)
