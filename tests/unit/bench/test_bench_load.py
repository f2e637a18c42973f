"""What the load generator printed, read."""

from __future__ import annotations

import json

import pytest

from bench.load import LoadFailed, bodies_file, parse

LINE = {
    "requests": 5000,
    "duration_us": 2_000_000,
    "bytes": 10,
    "p50_us": 1500,
    "p99_us": 9000,
    "connect": 0,
    "read": 0,
    "write": 0,
    "status": 0,
    "timeout": 0,
}


def printed(**changes):
    return "Running 2s test\n  thread stats ...\n" + json.dumps(LINE | changes) + "\n"


def test_rates_and_latencies_are_read_in_the_units_of_the_report():
    """Microseconds become seconds and milliseconds."""
    load = parse(printed())
    assert load.requests_per_s == 2500
    assert (load.p50_ms, load.p99_ms) == (1.5, 9.0)
    assert load.errors == 0
    assert load.reason() == ""


def test_any_kind_of_fault_is_a_reason():
    """Refused connections and bad statuses are both counted and named."""
    load = parse(printed(connect=3, status=2))
    assert load.errors == 5
    reason = load.reason()
    assert "3 connections refused" in reason
    assert "2 answers with a status above 399" in reason
    assert "5000 requests" in reason


def test_a_server_that_never_answered_has_a_reason():
    """No answers is no measurement, though nothing failed."""
    assert parse(printed(requests=0)).reason() == "not one answer in 2 s"


def test_output_without_a_result_is_an_error_with_the_generators_last_words():
    """The reason says what the load generator complained of."""
    with pytest.raises(LoadFailed, match="unable to connect"):
        parse("Running 2s test\n", "wrk: unable to connect to 127.0.0.1\n")


def test_bodies_are_written_with_their_length():
    """A body may hold anything, line breaks too."""
    with bodies_file([b'{"a":\n1}', b"b"]) as file:
        assert file.read_bytes() == b'8\n{"a":\n1}\n1\nb\n'
