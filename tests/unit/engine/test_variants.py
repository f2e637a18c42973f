"""Variants among the checkpoints of a deployment, and what is served without one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import Checkpoint, Threshold, checkpoint, deployment
from salver.definition import Deployment
from salver.engine.loading import version_of
from salver.engine.variants import with_variants
from salver.models import choices
from salver.models.choices import Choice
from salver.models.variants import METADATA, PLACE, Variant
from salver.models.variants.provenance import versions
from salver.testing import StubModel


class Text(BaseModel):
    text: str


Resolved = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def resolved(tmp_path: Path) -> Resolved:
    """The checkpoint of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    return {"0": {"path": str(folder), "digest": Checkpoint.create(folder).digest, "source": "x"}}


def bound(**options: Any) -> Deployment:
    given = {"policy": Threshold(0.5), **options}
    return deployment(input=Text, name="tagger", **given)(StubModel).bind(checkpoint("x"))


def chosen(cache: Path, one: Deployment, resolved: Resolved, name: str | None = "fast") -> str:
    """Puts a choice in force for a deployment; returns the digest of the variant."""
    folder = cache / "checkpoints" / ("f" * 64)
    folder.mkdir(parents=True)
    code = cache / "net.py"
    code.write_text("temperature = 1")
    files = {str(code): hashlib.sha256(code.read_bytes()).hexdigest()}
    variant = Variant(
        "fast", "torch", ("net",), "openvino", "fp32", "m.xml", (), {}, (), files, versions()
    )
    Checkpoint.create(folder, {METADATA: variant.dump()})
    choice = Choice(one.name, name, "f" * 64, "fast answers instead", "now")
    digests = [r["digest"] for r in resolved.values()]
    choices.write(choices.OPTIMIZED, digests, version_of(one, resolved), choice, "")
    return "f" * 64


def test_the_variant_of_a_version_is_found(cache: Path, resolved: Resolved) -> None:
    """It changes the version, for it changes answers."""
    one = bound()
    digest = chosen(cache, one, resolved)
    found, used = with_variants([one], {"tagger": resolved})
    assert digest == found["tagger"][PLACE]["digest"]
    assert ("fast", "fast answers instead") == (used["tagger"].name, used["tagger"].note)
    assert version_of(one, resolved) != version_of(one, found["tagger"])


def test_the_original_is_taken_where_that_was_asked(cache: Path, resolved: Resolved) -> None:
    """Nothing is said then."""
    chosen(cache, bound(), resolved)
    assert ({"tagger": resolved}, {}) == with_variants([bound(original=True)], {"tagger": resolved})


def test_nothing_is_said_where_nothing_was_optimised(cache: Path, resolved: Resolved) -> None:
    """Nor where the original was found to be best."""
    assert ({"tagger": resolved}, {}) == with_variants([bound()], {"tagger": resolved})
    chosen(cache, bound(), resolved, None)
    assert ({"tagger": resolved}, {}) == with_variants([bound()], {"tagger": resolved})


def test_a_variant_of_another_version_is_not_used(cache: Path, resolved: Resolved) -> None:
    """It was judged with another policy."""
    chosen(cache, bound(), resolved)
    other = bound(policy=Threshold(0.9))
    found, used = with_variants([other], {"tagger": resolved})
    assert {"tagger": resolved} == found
    assert used["tagger"].name is None
    assert "run salver optimize again" in used["tagger"].note


def test_a_variant_that_is_gone_is_not_used(cache: Path, resolved: Resolved) -> None:
    """Somebody may have emptied the cache."""
    one = bound()
    chosen(cache, one, resolved)
    shutil.rmtree(cache / "checkpoints" / ("f" * 64))
    found, used = with_variants([one], {"tagger": resolved})
    assert {"tagger": resolved} == found
    assert "the cache has lost fast" in used["tagger"].described("tagger")


def test_a_damaged_choice_does_not_stop_a_service(cache: Path, resolved: Resolved) -> None:
    """The note is for anybody, the reason with its paths for whoever runs the service."""
    one = bound()
    chosen(cache, one, resolved)
    (path,) = choices.folder_of(choices.OPTIMIZED, [resolved["0"]["digest"]]).glob("*.json")
    path.write_text("{")
    _, used = with_variants([one], {"tagger": resolved})
    assert str(cache) not in str(used["tagger"].as_json())
    assert str(cache) in used["tagger"].described("tagger")


def test_a_variant_of_other_code_is_not_used(cache: Path, resolved: Resolved) -> None:
    """The graph would go on with what an imported module did before."""
    one = bound()
    chosen(cache, one, resolved)
    (cache / "net.py").write_text("temperature = 2")
    found, used = with_variants([one], {"tagger": resolved})
    assert {"tagger": resolved} == found
    assert "other code" in used["tagger"].note
    assert "net.py has changed" in used["tagger"].described("tagger")
    assert "net.py" not in str(used["tagger"].as_json())
