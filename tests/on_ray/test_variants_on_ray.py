"""Variants are files of this machine: a cluster that is started here uses them, others do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import Checkpoint, Service, checkpoint, deployment
from salver.cluster.assigning import assignment_of
from salver.cluster.connection import Cluster
from salver.cluster.replica import Assignment
from salver.engine.loading import version_of
from salver.engine.variants import Used
from salver.models import choices
from salver.models.choices import Choice
from salver.models.variants import METADATA, PLACE, Variant
from salver.models.variants.provenance import versions
from salver.settings import Overrides
from salver.testing import StubModel


class Text(BaseModel):
    text: str


def test_a_variant_is_for_a_cluster_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for no other; `original` leaves it alone."""
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    digest = Checkpoint.create(tmp_path / "model").digest
    tagger: Any = deployment(input=Text, name="tagger")(StubModel)
    bound = tagger.bind(checkpoint(str(tmp_path / "model")))
    resolved = {"0": {"path": str(tmp_path / "model"), "digest": digest}}
    folder = tmp_path / "cache" / "checkpoints" / ("f" * 64)
    folder.mkdir(parents=True)
    variant = Variant(
        "fast", "torch", ("net",), "openvino", "fp32", "m.xml", (), {}, (), {}, versions()
    )
    Checkpoint.create(folder, {METADATA: variant.dump()})
    choice = Choice("tagger", "fast", "f" * 64, "a note", "now")
    choices.write(choices.OPTIMIZED, [digest], version_of(bound, resolved), choice, "")

    def assigned(overrides: dict[str, Any], cluster: Cluster) -> Assignment:
        given = Overrides(deployments={"tagger": overrides})
        return assignment_of(Service(bound), "m:service", given, cluster)

    def places(overrides: dict[str, Any], cluster: Cluster) -> set[str]:
        return set(assigned(overrides, cluster).resolved["tagger"])

    assert {"0", PLACE} == places({}, Cluster())
    again = Assignment.from_json(json.loads(json.dumps(assigned({}, Cluster()).as_json())))
    assert {"tagger": Used("fast", "a note")} == again.used
    assert {"0"} == places({"original": True}, Cluster())
    assert {"0"} == places({}, Cluster("ray://elsewhere:10001"))
