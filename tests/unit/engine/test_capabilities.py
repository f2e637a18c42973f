"""What the embedded engine refuses, and what it only reports."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from salver import deployment
from salver.definition import Deployment
from salver.engine.capabilities import refuse_unsupported
from salver.errors import ConfigError, UnsupportedOption
from salver.options import RAY_HINTS


class Row(BaseModel):
    text: str


class Model:
    def __call__(self, batch: Any) -> Any:
        return batch["text"]


def bound(**options: Any) -> Deployment:
    return deployment(input=Row, name="Model", **options)(type("Model", (Model,), {})).bind()


def test_usual_options_are_taken_without_a_word() -> None:
    """A definition that says nothing special has nothing to be told."""
    assert [] == refuse_unsupported(bound(num_replicas=2, max_batch_size=4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"autoscaling_config": {"max_replicas": 3}}, "--engine ray"),
        ({"num_replicas": "auto"}, "--engine ray"),
        ({"ray_actor_options": {"memory": 1}}, "ray_actor_options memory belong to Ray"),
    ],
)
def test_capacity_that_only_ray_can_give_is_refused(options: dict[str, Any], words: str) -> None:
    """The error names the option, and the engine that has it."""
    with pytest.raises(UnsupportedOption, match=words):
        refuse_unsupported(bound(**options))


@pytest.mark.parametrize("name", RAY_HINTS)
def test_hints_for_ray_are_reported(name: str) -> None:
    """A file that was written for a cluster runs here too, and says what has no effect."""
    (note,) = refuse_unsupported(bound(**{name: 1}))
    assert note == f"Model: {name} belong to Ray and have no effect here"


def test_a_golden_example_that_fits_no_row_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match="golden example"):
        refuse_unsupported(bound(examples=[{"title": "none"}]))
