"""Medians, ratios within a round, the A/A control, and rows that are refused."""

from __future__ import annotations

import pytest

from bench.results import Collected, Loop, Sample, Stay, control, online, read, write_part


def sample(round, system, rate, model="constant", connections=64, refused="", turn=0):
    return Sample(round, system, model, connections, rate, 1.0, 2.0, 0, 0.1, 0.0, refused, turn)


def stay(round, system, model="constant", refused=""):
    return Stay(round, system, model, 1.0, 50.0, 60.0, 2, 1, refused)


def loop(round, processes, rate, refused=""):
    return Loop(round, "minilm", processes, 1, 8, rate, 5.0, 1.0, 90.0, 100.0, refused)


def measured(samples, stays=(), loops=()):
    stays = stays or [stay(s.round, s.system, s.model) for s in samples]
    content = online(Collected(list(samples), list(stays), list(loops)), {"salver": "1.0"})
    return content, {(one["system"], one["connections"]): one for one in content["measurements"]}


def test_the_ratio_is_the_median_of_each_rounds_ratio():
    """A machine that slows down between rounds does not change a ratio; medians apart would."""
    samples = []
    for number, speed in enumerate((1.0, 0.1, 0.5), start=1):
        samples += [
            sample(number, "bare-uvicorn", 1000 * speed),
            sample(number, "salver", 800 * speed),
        ]
    content, rows = measured(samples)
    assert rows["salver", 64]["ratio_to_bare"] == pytest.approx(0.8)
    assert rows["salver", 64]["requests_per_s"] == 400
    assert rows["salver", 64]["version"] == "1.0"
    assert content["rounds"] == 3


def test_a_ratio_is_to_the_bare_server_of_the_same_turn():
    """A machine that slows down between two turns of a round does not change it either."""
    samples = []
    for turn, speed in enumerate((1.0, 0.25)):
        samples += [
            sample(1, "bare-uvicorn", 1000 * speed, turn=turn),
            sample(1, "salver", 500 * speed, turn=turn),
        ]
    _, rows = measured(samples)
    assert rows["salver", 64]["ratio_to_bare"] == 0.5


def test_the_bare_limit_is_the_faster_server_of_the_round():
    """Whichever of the two bare servers was faster at these connections is the limit."""
    samples = [
        sample(1, "bare-uvicorn", 1000),
        sample(1, "bare-granian", 2000),
        sample(1, "salver", 1000),
    ]
    _, rows = measured(samples)
    assert rows["salver", 64]["ratio_to_bare"] == 0.5
    assert rows["bare-granian", 64]["ratio_to_bare"] == 1


def test_a_real_model_is_held_against_the_faster_bare_loop():
    """The loops have no connections: theirs is the limit at any number of them."""
    samples = [sample(1, "salver", 90, "minilm", n) for n in (1, 64)]
    content, rows = measured(samples, loops=[loop(1, 1, 80), loop(1, 2, 100)])
    assert rows["salver", 1]["ratio_to_bare"] == rows["salver", 64]["ratio_to_bare"] == 0.9
    assert [one["rows_per_s"] for one in content["bare"]] == [80, 100]


def test_without_a_bare_limit_there_is_no_ratio():
    """A limit that was refused is no limit."""
    _, rows = measured([sample(1, "bare-uvicorn", 9, refused="errors"), sample(1, "salver", 90)])
    assert rows["salver", 64]["ratio_to_bare"] is None


def test_a_row_with_errors_in_one_round_is_refused_with_the_reason():
    """No number is kept for it, however good the other rounds were."""
    _, rows = measured([sample(1, "mosec", 10), sample(2, "mosec", 9, refused="3 broken answers")])
    row = rows["mosec", 64]
    assert row["refused"] == "3 broken answers (round 2)"
    assert "requests_per_s" not in row


def test_a_system_with_wrong_answers_has_no_numbers_at_any_load():
    """Wrong answers refuse what was measured before they were seen, too."""
    stays = [stay(1, "mosec"), stay(2, "mosec", refused="a probability is off by 0.5")]
    _, rows = measured([sample(1, "mosec", 10)], stays)
    assert "off by 0.5" in rows["mosec", 64]["refused"]


def test_a_system_that_never_started_is_a_row_with_the_reason():
    """It is never silently missing."""
    _, rows = measured([], [stay(1, "triton", refused="not installed: no wheel")])
    assert rows["triton", None]["refused"] == "not installed: no wheel (round 1)"


def test_the_control_is_the_ratio_of_each_round_and_its_spread():
    """Half of the spread between rounds is what cannot be told from nothing."""
    found = control([0.98, 1.0, 1.06])
    assert found["ratio"] == 1.0
    assert found["no_difference_below"] == pytest.approx(0.04)


def test_the_control_takes_a_round_as_its_median_turn():
    """What is told apart are medians, so that their noise counts, and not that of one turn."""
    twins = (100, 300, 101)
    samples = [sample(1, "salver", 100, turn=turn) for turn in range(3)]
    samples += [sample(1, "salver (A/A)", rate, turn=turn) for turn, rate in enumerate(twins)]
    content, _ = measured(samples)
    assert content["control"][0]["ratio"] == content["control"][0]["highest"] == 1.01


def test_a_control_that_is_off_counts_as_noise_however_steady():
    """A bias that does not vary is noise as well."""
    assert control([1.1, 1.1])["no_difference_below"] == pytest.approx(0.1)


def test_the_control_pairs_the_rounds_that_both_have():
    """A round in which one of the twins failed says nothing."""
    samples = [
        sample(1, "salver", 100),
        sample(1, "salver (A/A)", 110),
        sample(2, "salver", 100),
        sample(2, "salver (A/A)", 1, refused="errors"),
    ]
    content, _ = measured(samples)
    (found,) = content["control"]
    assert found["ratio"] == pytest.approx(1.1)


def test_parts_of_the_file_are_replaced_one_by_one(tmp_path):
    """An offline run keeps the online numbers that are there."""
    path = tmp_path / "results" / "latest.json"
    assert read(path) == {}
    write_part(path, "online", {"rounds": 1})
    write_part(path, "offline", {"rounds": 2})
    write_part(path, "online", {"rounds": 3})
    assert read(path) == {"online": {"rounds": 3}, "offline": {"rounds": 2}}
