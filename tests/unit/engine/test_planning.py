"""What is chosen from cores, devices, memory and times; no clock and no model takes part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salver.engine.planning import (
    DEFAULT_BATCH_SIZE,
    REPEATS,
    SIZES,
    Plan,
    Shared,
    Trial,
    best_batch_size,
    common_size,
    first_plan,
    in_memory,
    is_open,
    next_size,
    row_seconds,
    settled,
    sizes_to_time,
    steady_batch_size,
    worth_having,
)
from salver.options import DeploymentOptions

GB = 2**30
SLOW = {1: 9.3e-3, 2: 18e-3, 4: 35.5e-3, 8: 70.5e-3}  # a transformer on one thread
CHEAP = {n: 2.5e-4 + n * 2e-6 for n in SIZES}  # a constant


def options(**given: Any) -> DeploymentOptions:
    return DeploymentOptions(**given)


def shared(
    *models: DeploymentOptions, cores: int = 2, devices: int = 0, is_own: bool = True
) -> Shared:
    return Shared(cores, devices, [(one, is_own) for one in models])


def first(
    given: DeploymentOptions,
    *others: DeploymentOptions,
    cores: int = 2,
    devices: int = 0,
    is_own: bool = True,
) -> tuple[int, int | None]:
    together = shared(given, *others, cores=cores, devices=devices, is_own=is_own)
    plan = first_plan(given, is_own, together)
    return plan.replicas, plan.threads


# --- before anything is loaded


@pytest.mark.parametrize(
    ("given", "cores", "runs"),
    [
        ({}, 2, (2, 1)),
        ({}, 1, (1, 1)),
        ({}, 16, (16, 1)),
        ({"optimize_for": "latency"}, 2, (1, 2)),
        ({"optimize_for": "latency"}, 16, (1, 16)),
        ({"num_replicas": 1}, 4, (1, 4)),
        ({"num_replicas": 3}, 4, (3, 1)),
        ({"num_replicas": 3, "optimize_for": "latency"}, 8, (3, 2)),
        ({"num_replicas": 99}, 2, (99, 1)),
        ({"num_replicas": 2, "num_cpus": 3}, 2, (2, 3)),
        ({"num_cpus": 4}, 16, (4, 4)),
        ({"num_cpus": 4}, 2, (1, 4)),
        ({"num_cpus": 0.5}, 2, (4, 1)),
        ({"num_cpus": 4, "optimize_for": "latency"}, 16, (1, 4)),
    ],
)
def test_cores_are_shared_by_replicas(
    given: dict[str, Any], cores: int, runs: tuple[int, int]
) -> None:
    """Throughput takes a replica per core, latency all cores for one; an order stays as it is."""
    assert runs == first(options(**given), cores=cores)


def test_cores_are_shared_by_deployments() -> None:
    """Each gets its part, and at least one replica with one thread."""
    auto, quick = options(), options(optimize_for="latency")
    assert (2, 1) == first(auto, auto, cores=4)
    assert (1, 1) == first(auto, auto, auto, cores=2)
    assert (1, 2) == first(quick, auto, cores=4)
    assert (1, 1) == first(options(num_replicas=1), auto, auto, cores=2)
    assert (2, 2) == first(options(num_replicas=2), quick, cores=6)


@pytest.mark.parametrize(
    ("given", "devices", "replicas"),
    [
        ({"num_gpus": 1}, 4, 4),
        ({"num_gpus": 2}, 4, 2),
        ({"num_gpus": 0.5}, 2, 4),
        ({"num_gpus": 1}, 0, 1),
        ({"num_gpus": 1, "num_replicas": 2}, 4, 2),
        ({"num_gpus": 1, "optimize_for": "latency"}, 4, 1),
    ],
)
def test_devices_decide_where_they_are_asked_for(
    given: dict[str, Any], devices: int, replicas: int
) -> None:
    """As many replicas as the GPUs hold; cores do not count."""
    assert replicas == first(options(**given), devices=devices)[0]
    halved = (
        max(1, replicas // 2) if not {"num_replicas", "optimize_for"} & set(given) else replicas
    )
    assert halved == first(options(**given), options(num_gpus=1), devices=devices)[0]


def test_replicas_that_are_threads_are_not_multiplied() -> None:
    """They share the lock and the math threads of one process."""
    assert (1, None) == first(options(), cores=8, is_own=False)
    assert (3, None) == first(options(num_replicas=3), cores=8, is_own=False)


def test_a_trial_is_made_only_for_what_is_open() -> None:
    """Nothing is tried when both numbers are given, or when latency leaves no replicas to choose."""
    assert is_open(options(), True)
    assert is_open(options(num_replicas=2), True)
    assert is_open(options(max_batch_size=4), True)
    assert is_open(options(), False)
    assert not is_open(options(num_replicas=2, max_batch_size=4), True)
    assert not is_open(options(max_batch_size=4), False)
    assert not is_open(options(max_batch_size=4, optimize_for="latency"), True)
    assert SIZES == sizes_to_time(options())
    assert (3,) == sizes_to_time(options(max_batch_size=3))


# --- which batches are timed


def test_sizes_grow_while_they_fit() -> None:
    """A size is tried if what it will take, by the one before, is left with a fifth to spare."""
    assert 1 == next_size({}, SIZES, 0.1)
    assert 2 == next_size({1: [0.01]}, SIZES, 0.025)
    assert 1 == next_size({1: [0.01]}, SIZES, 0.023)
    assert next_size({1: [0.01]}, SIZES, 0.011) is None
    assert next_size({}, SIZES, 0.0) is None


def test_sizes_are_timed_again_when_time_is_left() -> None:
    """Those timed least come first, and none more often than need be."""
    assert 2 == next_size({1: [0.01, 0.01], 2: [0.02]}, (1, 2), 1)
    assert 1 == next_size({1: [0.01], 2: [0.02]}, (1, 2), 1)
    enough = {n: [1e-4] * REPEATS for n in SIZES}
    assert next_size(enough, SIZES, 1) is None


@given(st.floats(1e-5, 1.0), st.floats(0.0, 1e-2))
def test_a_trial_fits_its_time(row_s: float, batch_s: float) -> None:
    """Whatever a model costs, what is tried after its first row takes no more than is left."""
    timed: dict[int, list[float]] = {}
    left = 0.25
    while n := next_size(timed, SIZES, left):
        took = batch_s + n * row_s
        assert took <= left or not timed
        timed.setdefault(n, []).append(took)
        left -= took
    assert sum(map(len, timed.values())) <= REPEATS * len(SIZES)


# --- what is decided from the times


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        (SLOW, 8),
        (CHEAP, 256),
        ({1: 0.03, 2: 0.035, 4: 0.045, 8: 0.06, 16: 0.118}, 8),  # vector units fill up
        ({1: 0.01, 2: 0.02, 4: 0.06, 8: 0.2}, 1),  # padding and caches make larger ones worse
        ({1: 0.01, 2: 0.022, 4: 0.045, 8: 0.09}, 8),  # or it is noise
        ({1: 0.02, 2: 0.04, 4: 0.08}, 8),  # no time to try more, which does no harm
        ({1: 0.02, 2: 0.06, 4: 0.3}, 1),  # unless it does
        ({}, DEFAULT_BATCH_SIZE),
        ({1: 0.08, 2: 0.16}, DEFAULT_BATCH_SIZE),  # too slow to know
    ],
)
def test_the_smallest_batch_that_is_nearly_the_best(seconds: dict[int, float], size: int) -> None:
    """A larger batch must give clearly more rows per second."""
    assert size == best_batch_size(seconds)


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        (CHEAP, 64),
        (SLOW, 8),  # no time for 64, so there is little to gain
        ({n: 1e-3 * n for n in SIZES}, 8),
        ({n: 1.3e-3 * n for n in SIZES}, 8),
        ({n: 5e-4 + n * 6e-5 for n in SIZES}, 64),  # vectorised text features
        ({}, 8),
        ({4: 1.0}, 8),
    ],
)
def test_jobs_cut_one_of_two_sizes(seconds: dict[int, float], size: int) -> None:
    """Noise of the trial does not change it, unless a model is just at the bound."""
    assert size == steady_batch_size(seconds)
    for noise in (0.8, 1.2):
        assert size == steady_batch_size({n: s * noise ** (n > 8) for n, s in seconds.items()})


def test_the_plan_of_jobs_says_their_batches() -> None:
    """With the time of such a batch; an order stays an order."""
    one = options()
    together = shared(one)
    plan = first_plan(one, True, together)
    line = settled(plan, one, Trial(SLOW), together, for_jobs=True).described("tagger")
    assert "batches of up to 8 rows (chosen for throughput: 8 rows took 70 ms" in line
    given = options(max_batch_size=16)
    assert 16 == settled(plan, given, Trial({16: 1.0}), together, for_jobs=True).max_batch_size


@given(st.dictionaries(st.sampled_from(SIZES), st.floats(1e-6, 10), min_size=3))
def test_a_batch_size_was_seen_to_be_good(seconds: dict[int, float]) -> None:
    """What is chosen was timed, and no other was clearly better; no larger one by over 5 %.

    Where there was no time for eight rows, they count as good as the most that were timed.
    """
    size = best_batch_size(seconds)
    rates = {n: n / (s + 1e-3) for n, s in seconds.items()}
    if max(seconds) < 8:
        rates[8] = rates[max(seconds)]
    assert rates[size] * 1.25 >= 0.95 * max(rates.values())
    assert rates[size] >= 0.95 * max(rate for n, rate in rates.items() if n >= size)


@pytest.mark.parametrize(
    ("row_s", "cores", "replicas"),
    [
        (None, 2, 2),
        (0.0, 16, 1),
        (30e-6, 2, 1),
        (80e-6, 2, 1),
        (125e-6, 2, 2),
        (10e-3, 2, 2),
        (30e-6, 16, 1),
        (110e-6, 2, 1),
        (125e-6, 16, 2),
        (200e-6, 16, 3),
        (10e-3, 16, 16),
        (10e-3, 1, 1),
    ],
)
def test_a_cheap_model_needs_no_second_replica(
    row_s: float | None, cores: int, replicas: int
) -> None:
    """Replicas beyond what the front can keep at work would take cores from it."""
    assert replicas == worth_having(cores, row_s, cores)


@pytest.mark.parametrize(
    ("seconds", "is_worth"),
    [
        ({1: 0.02, 8: 0.1}, True),
        ({1: 0.002, 8: 0.004}, False),  # cheap in a batch, as it is under load
        ({1: 1e-3}, True),
        ({}, True),  # too slow to be timed, or not known
    ],
)
def test_tokens_are_counted_where_a_row_takes_long(
    seconds: dict[int, float], is_worth: bool
) -> None:
    """For a cheap model, counting would be most of the work."""
    assert is_worth == Trial(seconds).is_worth_tokens


def test_the_engines_own_cost_is_not_the_models() -> None:
    """A round trip is taken off, so that an idle engine does not look like a slow model."""
    assert 0.0 == row_seconds({1: 2e-4}, 1)
    assert pytest.approx(1e-3) == row_seconds({4: 4.3e-3, 8: 1.0}, 4)
    assert pytest.approx(5e-3) == row_seconds({1: 5.3e-3}, 8)
    assert row_seconds({}, 8) is None


def test_memory_bounds_replicas() -> None:
    """The first is there already; the others share four fifths of what is left."""
    assert 1 == in_memory(4 * GB, 4 * GB, 1)
    assert 2 == in_memory(4 * GB, 5 * GB, 1)
    assert 3 == in_memory(4 * GB, 20 * GB, 2)
    assert 1 == in_memory(GB, 0, 1)
    assert in_memory(None, GB, 1) is None
    assert in_memory(GB, None, 1) is None


# --- the whole, and what is said about it


def said(trial: Trial, cores: int = 2, *, is_own: bool = True, **given: Any) -> str:
    one = options(**given)
    together = shared(one, cores=cores, is_own=is_own)
    return settled(first_plan(one, is_own, together), one, trial, together).described("tagger")


@pytest.mark.parametrize(
    ("trial", "given", "line"),
    [
        (
            Trial(SLOW),
            {},
            "tagger: 2 replicas x 1 thread, batches of up to 8 rows (chosen for throughput: 8 rows "
            "took 70 ms; --optimize-for latency would run 1 x 2)",
        ),
        (
            Trial(SLOW),
            {"optimize_for": "latency"},
            "tagger: 1 replica x 2 threads, batches of up to 8 rows (chosen for latency: 8 rows "
            "took 70 ms; --optimize-for throughput would run up to 2 x 1)",
        ),
        (
            Trial(CHEAP),
            {},
            "tagger: 1 replica x 1 thread, batches of up to 256 rows (chosen for throughput: 256 "
            "rows took 0.76 ms, so that more would only take cores from the front; --optimize-for "
            "latency would run 1 x 2)",
        ),
        (
            Trial(SLOW),
            {"num_replicas": 3},
            "tagger: 3 replicas x 1 thread, batches of up to 8 rows (batch size chosen: 8 rows took "
            "70 ms)",
        ),
        (
            Trial({16: 0.14}),
            {"max_batch_size": 16},
            "tagger: 2 replicas x 1 thread, batches of up to 16 rows (replicas chosen for "
            "throughput: 16 rows took 140 ms; --optimize-for latency would run 1 x 2)",
        ),
        (
            Trial({1: 0.08, 2: 0.1602}),
            {},
            "tagger: 2 replicas x 1 thread, batches of up to 8 rows (chosen for throughput: 2 rows "
            "took 160 ms, no time to try more; --optimize-for latency would run 1 x 2)",
        ),
        (
            Trial(trouble="the model failed"),
            {},
            "tagger: 2 replicas x 1 thread, batches of up to 8 rows (chosen for throughput: not "
            "measured, the model failed; --optimize-for latency would run 1 x 2)",
        ),
    ],
)
def test_one_line_says_what_runs_and_why(trial: Trial, given: dict[str, Any], line: str) -> None:
    """Every number of the line is what was decided or measured."""
    assert line == said(trial, **given)


def test_what_memory_left_out_is_said() -> None:
    """So that nobody wonders about idle cores."""
    trial = Trial(SLOW, resident=6 * GB, available=8 * GB)
    assert "2 replicas x 1 thread" in said(trial, cores=8)
    assert "memory for no more; num_cpus=4 would use the cores that are left" in said(
        trial, cores=8
    )
    assert "memory for no more" not in said(trial, cores=8, num_replicas=8)
    assert "num_cpus=" not in said(trial, cores=8, num_cpus=2)


def test_orders_are_said_to_be_orders() -> None:
    """Nothing claims to be chosen that was not."""
    both = options(num_replicas=2, max_batch_size=8)
    line = first_plan(both, True, shared(both)).described("tagger")
    assert "tagger: 2 replicas x 1 thread, batches of up to 8 rows (as configured)" == line
    one = options(max_batch_size=1, optimize_for="latency")
    line = first_plan(one, True, shared(one)).described("tagger")
    assert "1 replica x 2 threads, batches of up to 1 row (replicas chosen for latency" in line


def test_threads_claim_no_math_threads() -> None:
    """Replicas in threads have those of the process, and no other goal changes that."""
    line = said(Trial(SLOW), is_own=False)
    assert (
        "tagger: 1 replica in threads of this process, batches of up to 8 rows (batch size chosen: "
        "8 rows took 70 ms)" == line
    )


def test_a_single_core_has_one_way() -> None:
    """Where both goals run the same, no other is offered."""
    assert "optimize-for" not in said(Trial(SLOW), cores=1)


def test_a_job_is_not_offered_another_goal() -> None:
    """Offline, throughput is the only one."""
    plan = Plan(2, 1, 8, "chosen", "--optimize-for latency would run 1 x 2")
    assert "tagger: 2 replicas x 1 thread, batches of up to 8 rows (chosen)" == plan.described(
        "tagger", with_other=False
    )


@pytest.mark.parametrize("given", [{"num_replicas": 5}, {"num_gpus": 1.0}])
def test_neither_an_order_nor_a_device_is_taken_away(given: dict[str, Any]) -> None:
    """A cheap model keeps the replicas that were ordered, and one for each GPU."""
    one = options(**given)
    together = shared(one, cores=2, devices=5)
    assert 5 == settled(first_plan(one, True, together), one, Trial(CHEAP), together).replicas


def test_a_function_takes_as_many_rows_as_its_parts() -> None:
    """So that the batches of a job fill those of the models it asks."""
    assert 64 == common_size([Plan(1, 1, 4), Plan(1, 1, 64)])
    assert DEFAULT_BATCH_SIZE == common_size([Plan(1, 1, 4)])
