"""Traces of arrivals, and what becomes of them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from salver import deployment
from salver.cluster.trial import Measured, read_trace, simulate
from salver.errors import ConfigError


class Row(BaseModel):
    text: str


@deployment(input=Row)
class Model:
    def __call__(self, batch):
        return {"prediction": batch["text"]}


SCALING = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 1,
    "downscale_delay_s": 3,
    "look_back_period_s": 2,
}


def trace(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_seconds_that_are_not_named_go_on(tmp_path):
    """Those before the first are idle."""
    path = trace(tmp_path, "second,requests_per_s\n1,5\n4,2.5\n5,0\n")
    assert [0.0, 5.0, 5.0, 5.0, 2.5, 0.0] == read_trace(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be given"),
        ("second,rps\n0,1\n", "requests_per_s"),
        ("second,requests_per_s\n0,many\n", "not as expected"),
        ("second,requests_per_s\n0.5,1\n", "not as expected"),
        ("second,requests_per_s\n1,1\n0,1\n", "in order"),
        ("second,requests_per_s\n0,1\n0,1\n", "in order"),
        ("second,requests_per_s\n0,-1\n", "rates are numbers"),
        ("second,requests_per_s\n0,nan\n", "rates are numbers"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path, text, says):
    """The error says what a trace is."""
    with pytest.raises(ConfigError, match=says):
        read_trace(trace(tmp_path, text))


def test_a_trace_that_is_not_there_is_named(tmp_path):
    """With the reason of the system."""
    with pytest.raises(ConfigError, match="No such file"):
        read_trace(tmp_path / "none.csv")


def test_replicas_follow_a_load_up_and_down():
    """One replica at first, all of them under load, one in the end."""
    scaling = Model.options(autoscaling_config=SCALING).bind()
    measured = Measured({1: 0.1}, 1, load_s=0.0)
    rates = [1.0] * 5 + [35.0] * 20 + [0.0] * 30
    seconds = simulate(scaling, measured, rates, start_s=1.0)
    assert 1 == seconds[4].replicas
    assert 4 == max(s.replicas for s in seconds)
    assert 1 == seconds[-1].replicas
    assert 0 == seconds[-1].queued


def test_a_deployment_that_does_not_scale_is_refused():
    """There would be nothing to see."""
    with pytest.raises(ConfigError, match="does not scale by itself"):
        simulate(Model.bind(), Measured({1: 0.1}, 1, 0.0), [1.0], None)
