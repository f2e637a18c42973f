"""Targets: a service by module or file, a model by its path, and what pins one."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from salver import Service
from salver.engine.resolution import resolve_all
from salver.engine.targets import is_loading, is_model, load_service, pin
from salver.errors import CheckpointCorrupt, CheckpointError, TargetNotFound
from salver.settings import cache_dir

SERVICE = """
from pydantic import BaseModel
from salver import Service, deployment
from salver.engine.targets import is_loading

LOADING = is_loading()

class Text(BaseModel):
    text: str

@deployment(input=Text)
class Tagger:
    def __call__(self, batch):
        return list(batch["text"])

tagger = Tagger.bind()
service = Service(tagger)
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with a service, in the current folder."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"service_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SERVICE)
    return name


def test_a_service_is_found_by_module_and_name(module: str) -> None:
    """The target gives the very object that the module holds."""
    service = load_service(f"{module}:service")

    assert service is sys.modules[module].service
    assert ["Tagger"] == list(service.deployments)


def test_a_service_is_found_by_file_and_name(module: str, tmp_path: Path) -> None:
    """A file is imported once, and under a name that every process gives it."""
    target = f"{tmp_path / module}.py:service"

    assert load_service(target) is load_service(target)


def test_a_deployment_alone_is_a_service(module: str) -> None:
    """A bound deployment needs no Service around it."""
    assert isinstance(load_service(f"{module}:tagger"), Service)


def test_a_module_can_tell_that_it_is_being_loaded(module: str) -> None:
    """That is how a service that runs itself while it is imported is refused."""
    load_service(f"{module}:service")

    assert sys.modules[module].LOADING
    assert not is_loading()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("{m}", "MODULE:NAME"),
        ("{m}:", "MODULE:NAME"),
        (":service", "MODULE:NAME"),
        ("{m}:servise", "Did you mean 'service'"),
        ("{m}:number", "is a int; wanted a salver.Service"),
        ("no_such_module_at_all:service", "no module 'no_such_module_at_all'.*Run from the folder"),
        ("{m}.inner:service", "no module '{m}"),
        ("/no/such/file.py:service", "no file /no/such/file.py"),
    ],
)
def test_a_wrong_target_is_explained(module: str, target: str, says: str) -> None:
    """The error says what was given and what would be right."""
    with pytest.raises(TargetNotFound, match=says.format(m=module)):
        load_service(target.format(m=module))


def test_an_import_that_fails_inside_the_module_is_shown_as_it_is(tmp_path: Path) -> None:
    """A missing library is not mistaken for a missing module, also at the second attempt."""
    path = tmp_path / "broken.py"
    path.write_text("import no_such_library\nservice = 1")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_library"):
            load_service(f"{path}:service")


@pytest.fixture
def booster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of LightGBM, and a cache of its own."""
    lightgbm = pytest.importorskip("lightgbm")
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path / "cache"))
    inputs = np.array([[i, i % 3] for i in range(40)], float)
    data = lightgbm.Dataset(inputs, inputs[:, 0])
    path = tmp_path / "price.txt"
    lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, data, 2).save_model(path)
    return path


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("models:/tagger@champion", True),
        ("runs:/abc/model", True),
        ("file:///models/tagger", True),
        ("service:service", False),
        ("models.py:service", False),
        ("nothing/of/this/name", False),
    ],
)
def test_a_model_is_told_from_a_service(target: str, expected: bool) -> None:
    """By its scheme; a path by what lies there."""
    assert expected == is_model(target)


def test_a_path_is_a_model_if_something_is_there(booster: Path) -> None:
    """A module of Python never is."""
    assert is_model(str(booster))
    (booster.parent / "service.py").touch()
    assert not is_model(str(booster.parent / "service.py"))


def test_a_service_needs_no_pin() -> None:
    """Its target stays as it is."""
    assert "service:service" == pin("service:service")


def test_a_model_is_pinned_to_what_it_is_now(booster: Path) -> None:
    """Processes that load the pinned target see neither a change of the file nor its end."""
    pinned = pin(str(booster))
    assert pinned.startswith(f"{booster}@sha256:")
    booster.unlink()
    service = load_service(pinned)
    assert ["price"] == list(service.deployments)
    assert ("input",) == service.deployments["price"].schema.names
    resolved = asyncio.run(resolve_all(service.deployments.values()))
    assert pinned.endswith(resolved["price"]["0"]["digest"])
    assert str(booster) == resolved["price"]["0"]["source"]


def test_a_pinned_model_that_is_another_by_now_is_refused(booster: Path) -> None:
    """Where the cache does not have it any more, the digest must be that of the file."""
    pinned = pin(str(booster))
    shutil.rmtree(cache_dir())
    text = booster.read_text()
    booster.write_text(text.replace("Column_0", "Another0"))
    with pytest.raises(CheckpointCorrupt, match="is asked for"):
        load_service(pinned)
    booster.write_text(text)
    assert load_service(pinned)


def test_what_is_no_model_is_explained(tmp_path: Path) -> None:
    """What is there, and what would be taken."""
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"no model that Salver knows.*notes.md.*takes"):
        pin(str(tmp_path / "notes.md"))
