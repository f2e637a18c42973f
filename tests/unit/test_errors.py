from __future__ import annotations

import re

import pytest

from salver import errors
from salver.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidOption,
    MissingExtra,
    NotReady,
    QueueFull,
    SalverError,
    UnknownOption,
    error_of,
    last_line,
    nearest,
)


def _subclasses(kind: type[SalverError]) -> list[type[SalverError]]:
    own = [k for k in kind.__subclasses__() if k.__module__ == errors.__name__]
    return [kind, *(below for k in own for below in _subclasses(k))]


CLASSES = _subclasses(SalverError)


def _drawn() -> dict[str, str | None]:
    """Class and base of each line of the tree in the module's docstring."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(    [│├└─ ]*)([A-Z]\w+)", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else None
        above.append((depth, name))
    return parents


def test_the_tree_at_the_top_is_the_truth():
    """The docstring draws every error, below the class that it derives from."""
    real = {k.__name__: k.__base__.__name__ for k in CLASSES if k is not SalverError}
    assert _drawn() == {"SalverError": None, **real}


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_carries_a_code_and_a_status(kind):
    """A code is a word for machines, a status an HTTP error status."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert 400 <= kind.status <= 599


def test_codes_are_unique():
    """Each class has a code of its own, so that a client can tell errors apart."""
    codes = [kind.code for kind in CLASSES]
    assert sorted(codes) == sorted(set(codes))


def test_statuses_in_the_drawing_are_those_of_the_classes():
    """Where the tree names an HTTP status, the class has it."""
    drawn = re.findall(r"([A-Z]\w+) +(\d{3})", errors.__doc__ or "")
    assert len(drawn) == 8
    assert {name: getattr(errors, name).status for name, _ in drawn} == {
        name: int(status) for name, status in drawn
    }


@pytest.mark.parametrize(
    ("given", "known", "sentence"),
    [
        ("max_batch_sise", ["max_batch_size", "host"], "Did you mean 'max_batch_size'?"),
        ("TAGER", ["Tagger", "Urgency"], "Did you mean 'Tagger'?"),
        ("colour", ["port", "host"], "Known: host, port."),
        ("anything", [], "There are none."),
    ],
)
def test_the_nearest_names_are_offered(given, known, sentence):
    """A misspelt name is answered with its neighbours, or with all names if none is near."""
    assert nearest(given, known) == sentence


def test_messages_say_what_was_given_and_what_to_do():
    """Option errors hold the name, the value and what is wanted; a missing library the command."""
    unknown = UnknownOption("prot", 8000, ["port"], "--set")
    assert unknown.message == ("Unknown option 'prot' (value 8000) in --set. Did you mean 'port'?")
    invalid = InvalidOption("port", "x", "a whole number >= 0")
    assert str(invalid) == "Option 'port' was given 'x'; it takes a whole number >= 0."
    assert "pip install 'salver[torch]'" in MissingExtra("torch", "Training", "torch").message


def test_errors_hold_what_their_handlers_need():
    """Problems and seconds to wait are attributes, so that nobody parses messages."""
    assert InvalidInput("m", ({"path": []},)).problems == [{"path": []}]
    assert QueueFull("m", 7).retry_after_s == 7
    assert NotReady("m").retry_after_s == 1
    assert DeadlineExceeded("m").retry_after_s is None


def test_the_last_line_of_an_error_is_never_empty():
    """Below a traceback, or else the name of its class."""
    assert "ValueError: no" == last_line(RuntimeError("Traceback\n  at\nValueError: no\n"))
    assert "ZeroDivisionError" == last_line(ZeroDivisionError())


def test_an_error_is_made_again_from_what_was_said_of_it():
    """Also one that is made of other things than its message."""
    from salver.online.refusals import BodyTooLarge

    again = error_of("body_too_large", "too large", retry_after_s=3)
    assert (BodyTooLarge, "too large", 413) == (type(again), again.message, again.status)
    full = error_of("queue_full", "full", retry_after_s=3)
    assert (QueueFull, 3) == (type(full), full.retry_after_s)
    wrong = error_of("invalid_input", "wrong", problems=[{"path": ["a"]}])
    assert (InvalidInput, [{"path": ["a"]}]) == (type(wrong), wrong.problems)
    assert SalverError is type(error_of("of_another_version", "what"))
