from __future__ import annotations

from typing import Any

import pytest

from salver import errors
from salver.online.exchange import public_error


def all_errors(kind: type[errors.SalverError]) -> list[type[errors.SalverError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in all_errors(sub))]


@pytest.mark.parametrize(
    "kind",
    all_errors(errors.ConfigError) + all_errors(errors.CheckpointError),
    ids=lambda k: k.code,
)
def test_errors_of_the_owner_are_not_told(kind: type[errors.SalverError]) -> None:
    """What concerns the service's owner (options, checkpoints, paths) is an internal error."""
    error = kind.__new__(kind)
    errors.SalverError.__init__(error, "/srv/models/secret")
    status, public, _ = public_error(error)
    assert (status, public["code"]) == (500, "internal_error")
    assert "secret" not in public["message"]


def test_seconds_to_wait_are_whole_and_at_least_one() -> None:
    """Retry-After is an integer, rounded up."""
    asked: list[tuple[Any, bytes]] = [(0, b"1"), (0.2, b"1"), (1.2, b"2"), (30, b"30")]
    for seconds, header in asked:
        error = errors.QueueFull("full", seconds)
        assert public_error(error)[2] == [(b"retry-after", header)]
