"""Finding the part of a model that computes."""

from __future__ import annotations

from typing import Any

import pytest

from salver.errors import CheckpointError
from salver.models.variants.parts import part_at, parts_of, put

torch = pytest.importorskip("torch")


class Holder:
    """A plain class around a network."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.name = "tagger"
        self.sizes = [1, 2, 3]


def test_a_network_is_found_where_it_is() -> None:
    """In an attribute, in an attribute of one, in a mapping or a list."""
    network = torch.nn.Linear(2, 1)
    inner = Holder(network)
    assert [("network",)] == list(parts_of(inner))
    assert [("network", "network")] == list(parts_of(Holder(inner)))
    assert [("network", "a", 1)] == list(parts_of(Holder({"a": [None, network]})))


def test_the_outermost_network_counts() -> None:
    """Its layers are its own business."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    (found,) = parts_of(Holder(network)).values()
    assert network is found.value


def test_a_model_that_is_a_network_is_the_part() -> None:
    """Users may derive from Module."""
    assert [()] == list(parts_of(torch.nn.Linear(2, 1)))


def test_a_model_without_a_part_has_none() -> None:
    """Nor does a circle of objects lead round and round."""
    holder = Holder(None)
    holder.network = holder
    assert {} == parts_of(holder)


def test_a_part_that_is_not_there_is_named() -> None:
    """For a variant is of one place in one class."""
    with pytest.raises(CheckpointError, match=r"Holder has no part of torch at 'net'"):
        part_at(Holder(torch.nn.Linear(2, 1)), "torch", ("net",))


def test_what_cannot_be_exchanged_is_an_error() -> None:
    """A tuple holds what it holds."""
    with pytest.raises(CheckpointError, match="cannot be exchanged"):
        put((1, 2), 0, 3)
