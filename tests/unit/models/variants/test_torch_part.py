"""Networks of PyTorch, listened to and exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.models.variants.parts import Call

torch = pytest.importorskip("torch")

from salver.models.variants.torch_part import TorchPart  # noqa: E402


class Output(NamedTuple):
    logits: Any
    hidden: Any = None


class Network(torch.nn.Module):
    """Doubles, in the forms that real networks have."""

    def __init__(self, output: Any = lambda x: x) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.output = output

    def forward(self, x: Any, mask: Any = None, scale: float = 1.0) -> Any:
        found = x * self.weight * scale
        return self.output(found if mask is None else found * mask)


def calls_of(network: Any, *args: Any, **kwargs: Any) -> list[Call]:
    part = TorchPart(network)
    with part.listening() as calls:
        network(*args, **kwargs)
    return list(calls)


def halving(seen: list[Any]) -> Any:
    def run(arrays: Sequence[Any]) -> list[Any]:
        seen.append([array.tolist() for array in arrays])
        return [arrays[0] / 2]

    return run


def test_a_call_is_noted_by_the_names_of_forward() -> None:
    """Tensors apart from all else, however they were given; the answer is as ever."""
    x = torch.ones(2, 3)
    (call,) = calls_of(Network(), x, scale=3.0)
    assert ["x"] == list(call.arrays)
    assert {"scale": 3.0} == {k: v for k, v in call.constants.items() if v is not None}
    (named,) = calls_of(Network(), x=x, mask=x)
    assert ["x", "mask"] == list(named.arrays)
    network = Network()
    part = TorchPart(network)
    with part.listening():
        assert torch.equal(network(x), 2 * x)
    assert torch.equal(network(x), 2 * x)


def test_calls_of_one_form_are_told_from_others() -> None:
    """By names, dtypes, dimensions and constants; not by sizes."""
    (a,) = calls_of(Network(), torch.ones(2, 3))
    (b,) = calls_of(Network(), torch.ones(5, 1))
    (c,) = calls_of(Network(), torch.ones(2, 3), scale=2.0)
    (d,) = calls_of(Network(), torch.ones(2, 3, dtype=torch.float64))
    assert a.form == b.form
    assert 3 == len({repr(one.form) for one in (a, c, d)})


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (lambda x: x, lambda y: y),
        (lambda x: (x, None), lambda y: y[0]),
        (lambda x: {"logits": x, "flag": True}, lambda y: y["logits"]),
        (Output, lambda y: y.logits),
    ],
)
def test_answers_come_from_elsewhere_in_the_form_of_the_network(output: Any, read: Any) -> None:
    """Tensors, tuples, mappings and named tuples, with what is no tensor in them."""
    network, seen = Network(output), []
    x = torch.full((2, 2), 4.0)
    (call,) = calls_of(network, x)
    form = type(network(x))
    inputs = [(name, str(array.dtype)) for name, array in call.arrays.items()]
    TorchPart(network).exchange(halving(seen), inputs, call.constants)
    for _ in range(2):
        found = network(x)
        assert type(found) is form
        assert torch.equal(read(found), x / 2)
    assert 2 == len(seen)


def test_a_call_of_another_form_is_answered_by_the_network() -> None:
    """A graph is for one form only."""
    network, seen = Network(), []
    (call,) = calls_of(network, torch.ones(1))
    TorchPart(network).exchange(halving(seen), [("x", "float32")], call.constants)
    assert 6.0 == network(torch.ones(1), scale=3.0).item()
    assert 2.0 == network(torch.ones(1), mask=torch.ones(1)).item()
    assert [] == seen


def test_what_the_graph_cannot_take_is_answered_by_the_network() -> None:
    """Another dtype is not cast, another size is no error."""

    def refuse(arrays: Sequence[Any]) -> list[Any]:
        raise ValueError("invalid dimensions")

    network, seen = Network(), []
    (call,) = calls_of(network, torch.ones(1))
    TorchPart(network).exchange(halving(seen), [("x", "float32")], call.constants)
    assert torch.float64 == network(torch.ones(1, dtype=torch.float64)).dtype
    assert [] == seen
    other = Network()
    TorchPart(other).exchange(refuse, [("x", "float32")], call.constants)
    assert 2.0 == other(torch.ones(1)).item()


def test_what_no_graph_can_take_or_give_is_named() -> None:
    """Before anything is exported."""
    with pytest.raises(CheckpointError, match=r"given a ndarray as 'x'"):
        calls_of(Network(), np.ones(2))
    with pytest.raises(CheckpointError, match=r"gives a object"):
        calls_of(Network(lambda x: (x, object())), torch.ones(1))


def test_what_a_network_counts_is_not_exchanged() -> None:
    """A graph would give the number of the first call for ever."""
    network = Network(lambda x: (x, len(x)))
    with TorchPart(network).listening(), pytest.raises(CheckpointError, match=r"\[2\].*\[3\]"):
        network(torch.ones(2, 3))
        network(torch.ones(3, 3))


def test_what_was_heard_stays_as_it_was() -> None:
    """Though a class writes its next rows into the same memory."""
    network, x = Network(), torch.ones(2, 3)
    with TorchPart(network).listening() as calls:
        network(x)
        x.zero_()
    assert 6 == calls[0].arrays["x"].sum()
