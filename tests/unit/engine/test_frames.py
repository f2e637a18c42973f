"""Frames between the engine and its child processes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies

from salver.engine.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    BadFrame,
    FrameReader,
    batch_from_message,
    fields_as_message,
    outcomes_as_message,
    outcomes_from_message,
    pack,
    pack_outcomes,
    unpack,
)
from salver.types import ClassProbabilities, Failure, Field, Outcomes

TEXTS = ["", "plain", "😀 emoji", "nul \x00 inside\x00", "שלום", "\ud800 alone", "x" * 100_000]
NUMBERS = [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, 1.5, 5e-324, True]

values = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats(allow_nan=False)
    | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=20,
)


def through(message: object) -> object:
    (received,) = FrameReader().feed(pack(message))
    return received


@pytest.mark.parametrize("value", [*TEXTS, *NUMBERS, None, [], {}], ids=lambda v: ascii(v)[:20])
def test_any_plain_value_arrives_as_it_left(value: object) -> None:
    """Texts, whole numbers of any size, floats, booleans and null keep value and type."""
    received = through([value, {"deep": [value]}])

    assert [value, {"deep": [value]}] == received
    assert isinstance(received, list)
    assert type(value) is type(received[0])


@given(strategies.lists(values, max_size=4), strategies.data())
@settings(max_examples=40, deadline=None)
def test_messages_arrive_however_the_stream_is_cut(
    messages: list[object], data: strategies.DataObject
) -> None:
    """Messages come out once, in order, whether bytes arrive one by one or all together."""
    stream = b"".join(pack(message) for message in messages)
    reader, received, position = FrameReader(), [], 0
    while position < len(stream):
        step = data.draw(strategies.integers(1, len(stream) - position))
        received += reader.feed(stream[position : position + step])
        position += step

    assert messages == received


def test_a_length_out_of_bounds_is_refused_before_anything_is_read() -> None:
    """Garbage that announces gigabytes is an error, not memory."""
    with pytest.raises(BadFrame, match="announced"):
        list(FrameReader().feed(HEADER.pack(MAX_FRAME_BYTES + 1)))


def test_a_frame_too_large_to_send_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender finds out, rather than the receiver."""
    monkeypatch.setattr("salver.engine.frames.MAX_FRAME_BYTES", 10)

    with pytest.raises(BadFrame, match="most is 10"):
        pack("more than ten bytes")


def test_what_is_no_plain_value_is_refused() -> None:
    """An object cannot be sent, so that nothing has to be unpickled."""
    with pytest.raises(TypeError, match="object cannot be sent"):
        pack(object())


def test_an_unknown_extension_is_refused() -> None:
    """Only big integers travel as an extension."""
    with pytest.raises(BadFrame, match="extension type 7"):
        unpack(b"\xc7\x01\x07x")


def test_a_batch_crosses_with_its_fields() -> None:
    """Rows are tuples again on the other side, and fields keep dtype and nullability."""
    fields = (Field("title", "string"), Field("count", "int64", nullable=True))
    message = through([fields_as_message(fields), [("a", None), ("b", 2**62)]])
    assert isinstance(message, list)

    batch = batch_from_message(tuple(Field(*f) for f in message[0]), message[1])

    assert fields == batch.fields
    assert [("a", None), ("b", 2**62)] == batch.rows


def test_outcomes_cross_unchanged() -> None:
    """Columns, probabilities, failures with all their parts, and abstentions arrive equal."""
    outcomes = Outcomes(
        3,
        {
            "prediction": ["a", None, "c"],
            "probabilities": ClassProbabilities(("a", "ü"), [[0.25, 0.75], [0.0, 0.0], [1.0, 0.0]]),
            "extra": [{"n": 2**70}, None, [1, "x"]],
        },
        {1: Failure("model_error", "It raised.", "Traceback ...", ("title", 0))},
        frozenset({2}),
    )

    received = outcomes_from_message(unpack(pack(outcomes_as_message(outcomes))[HEADER.size :]))

    assert list(outcomes) == list(received)
    assert isinstance(received.columns["probabilities"], ClassProbabilities)
    assert outcomes.failures == received.failures
    assert outcomes.abstained == received.abstained


def test_a_result_that_is_too_large_for_a_frame_fails_alone() -> None:
    """Its neighbours arrive as they left, and nobody's batch is lost."""
    columns = {"prediction": ["a", "x" * 5000, "c"], "n": [1, 2, 3]}
    outcomes = Outcomes(3, columns, {2: Failure("model_error", "said")}, frozenset({0, 1}))

    (received,) = FrameReader().feed(pack_outcomes(7, outcomes, most=4000))

    number, message = received
    arrived = list(outcomes_from_message(message))
    assert 7 == number
    assert {"prediction": "a", "n": 1} == arrived[0].value
    assert arrived[0].abstained
    assert "bad_model_output" == arrived[1].failure.code
    assert "larger than" in arrived[1].failure.message
    assert "model_error" == arrived[2].failure.code


def test_class_probabilities_beside_a_large_result_arrive() -> None:
    """Where one row is too large, those of all others are still told by name."""
    probabilities = ClassProbabilities(("a", "b"), [[0.25, 0.75]] * 2)
    columns = {"text": ["x" * 5000, "b"], "probabilities": probabilities}

    (received,) = FrameReader().feed(pack_outcomes(1, Outcomes(2, columns), most=4000))

    large, other = outcomes_from_message(received[1])
    assert "bad_model_output" == large.failure.code
    assert {"text": "b", "probabilities": {"a": 0.25, "b": 0.75}} == other.value
