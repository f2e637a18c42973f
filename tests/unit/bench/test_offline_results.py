"""The output of offline jobs: checked row by row, and put together over rounds."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bench.answers import WrongAnswer
from bench.offline_jobs.results import by_length, table
from bench.offline_results import Outcome, check, summary
from bench.plan import CONTROL
from bench.predictors import CLASSES

REFERENCE = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.1, 0.4], [0.4, 0.4, 0.1, 0.1]])
START_ROWS = 16


def written(folder, ids, probabilities):
    """A job's output in the form that Salver gives it: ids as text, probabilities as a struct."""
    rows = table({"id": list(map(str, ids))}, np.array(probabilities))
    pyarrow.parquet.write_table(rows, folder / "part-0.parquet")
    return rows


def test_a_right_output_passes_in_any_order_and_in_several_files(tmp_path):
    """Row i has the answer of reference row i % k."""
    written(tmp_path, [3, 0, 1], REFERENCE[[0, 0, 1]])
    flat = {"id": [4, 2], "prediction": ["other", "mlops"]}  # the tie of row 2 may go either way
    flat |= {name: REFERENCE[[1, 2], k] for k, name in enumerate(CLASSES)}
    nested = table({"id": ["4", "2"]}, REFERENCE[[1, 2]]).set_column(
        1, "prediction", pa.array(flat["prediction"])
    )
    pyarrow.parquet.write_table(nested, tmp_path / "part-1.parquet")
    check(tmp_path, 5, REFERENCE)


def test_a_column_for_each_class_is_read_too(tmp_path):
    """A data frame has no structs."""
    columns = {"id": [0, 1], "prediction": [CLASSES[0], CLASSES[3]]}
    columns |= {name: REFERENCE[:2, k] for k, name in enumerate(CLASSES)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "results.parquet")
    check(tmp_path, 2, REFERENCE)


@pytest.mark.parametrize(
    ("ids", "rows", "complaint"),
    [
        ([0, 1], REFERENCE[:2], "2 rows with 2 ids, wanted 3"),
        ([0, 1, 1], REFERENCE[[0, 1, 1]], "3 rows with 2 ids"),
        ([0, 2, 1], REFERENCE, "off by 0.3"),
        ([0, 1, 2], REFERENCE * [np.nan, 1, 1, 1], "off by nan"),
    ],
    ids=["a row is missing", "a row is there twice", "two rows are swapped", "not a number"],
)
def test_a_wrong_output_is_refused(tmp_path, ids, rows, complaint):
    """The reason says how it is wrong."""
    written(tmp_path, ids, rows)
    with pytest.raises(WrongAnswer, match=complaint):
        check(tmp_path, 3, REFERENCE)


def test_a_wrong_label_is_refused(tmp_path):
    """Right probabilities do not excuse another prediction."""
    rows = written(tmp_path, [0, 1, 2], REFERENCE)
    for label, complaint in ((CLASSES[1], "not the likeliest"), ("dogs", "none of the classes")):
        changed = rows.set_column(1, "prediction", pa.array([label] * 3))
        pyarrow.parquet.write_table(changed, tmp_path / "part-0.parquet")
        with pytest.raises(WrongAnswer, match=complaint):
            check(tmp_path, 3, REFERENCE)


def test_an_output_without_files_is_refused(tmp_path):
    """A job that ends well and writes nothing is wrong."""
    with pytest.raises(WrongAnswer, match="no Parquet"):
        check(tmp_path, 1, REFERENCE)


def outcomes(**seconds):
    """Rounds of 1,016 rows; each takes so many seconds, of which it takes 1 to start."""
    return [
        Outcome(number, name.replace("_", "-"), "minilm", rows, took, 100.0 + number)
        for name, times in seconds.items()
        for number, whole in enumerate(times, start=1)
        for rows, took in ((START_ROWS, 1.0), (1016, whole))
    ]


def test_ratios_are_taken_within_a_round():
    """A machine that slows down from round to round changes no ratio."""
    given = outcomes(slow_loop=[10, 20, 30], fast_loop=[5, 9, 17], job=[6, 11, 21])
    made = summary(given, START_ROWS, ["slow-loop", "fast-loop"], {"job": "1.2"})
    (job,) = (one for one in made["measurements"] if one["system"] == "job")
    assert job["version"] == "1.2"
    assert job["ratio_to_bare_started"] == pytest.approx(0.8)
    assert job["ratio_to_bare"] == pytest.approx(9 / 11)
    assert job["rows_per_s_started"] == pytest.approx(100.0)
    assert (job["seconds"], job["rss_mb"], job["startup_s"]) == (11, 102.0, 1.0)


def test_one_refused_round_refuses_the_row():
    """No number is printed for a job that failed once."""
    given = [*outcomes(job=[6, 11]), Outcome(3, "job", "minilm", 1016, refused="it ended")]
    (job,) = summary(given, START_ROWS, [], {})["measurements"]
    assert job["refused"] == "it ended (round 3)"
    assert "rows_per_s" not in job


def test_a_start_that_was_refused_refuses_the_row():
    """A job whose answers over a few rows are wrong is not measured over many."""
    given = [*outcomes(job=[6, 11]), Outcome(2, "job", "minilm", START_ROWS, refused="it is wrong")]
    (job,) = summary(given, START_ROWS, [], {})["measurements"]
    assert job["refused"] == "it is wrong (round 2)"


def test_a_job_as_short_as_its_start_has_no_rate_of_its_own():
    """Noise is never divided by."""
    (job,) = summary(outcomes(job=[0.9, 1.0]), START_ROWS, [], {})["measurements"]
    assert job["rows_per_s_started"] is None
    assert job["rows_per_s"] > 1000


def test_salver_is_held_against_itself():
    """The control says how small a difference this run can see."""
    given = outcomes(salver=[10, 10, 10])
    given += [replace(one, system=CONTROL, seconds=one.seconds * 1.25) for one in given]
    (control,) = summary(given, START_ROWS, [], {})["control"]
    assert (control["model"], control["rows"]) == ("minilm", 1016)
    assert control["ratio"] == pytest.approx(0.8)
    assert control["no_difference_below"] == pytest.approx(0.2)


def test_lengths_are_sorted_and_cut():
    """Neighbours in length go together."""
    assert by_length([5, 1, 4, 2, 3], 2) == [[1, 3], [4, 2], [0]]
