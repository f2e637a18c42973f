"""What offline jobs wrote and how long they took: checked, and put together over rounds.

Pure but for reading the Parquet files of a job. It does not know how a job was run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset

from bench.answers import TOLERANCE, WrongAnswer
from bench.plan import CONTROL, CONTROL_OF
from bench.predictors import CLASSES
from bench.results import Json, control


@dataclass(frozen=True)
class Outcome:
    """One job over one file, in one round.

    Attributes:
        seconds: from the start of its command to the end.
        rss_mb: most memory of all its processes together.
        refused: why these numbers do not count.
    """

    round: int
    system: str
    model: str
    rows: int
    seconds: float = 0.0
    rss_mb: float = 0.0
    refused: str = ""

    @property
    def rows_per_s(self) -> float:
        """Over the whole job."""
        return self.rows / self.seconds


def check(output: Path, rows: int, reference: np.ndarray) -> None:
    """Compares what a job wrote with the reference: every row once, in any order, right.

    Args:
        output: its folder.
        rows: of the input, whose ids count from 0.
        reference: probabilities of shape (k, 4); row i of the input is row i % k of them.

    Raises:
        WrongAnswer: If a row is missing, there twice, or not what the model says.
    """
    table = _read(output)
    ids = table["id"].cast(pa.int64()).to_numpy()
    if len(ids) != rows or not np.array_equal(np.sort(ids), np.arange(rows)):
        raise WrongAnswer(f"{len(ids)} rows with {len(np.unique(ids))} ids, wanted {rows}")
    wanted = reference[ids % len(reference)]
    given = np.stack([table[name].to_numpy() for name in CLASSES], axis=1)
    off = float(np.abs(given - wanted).max())
    if not off <= TOLERANCE:  # NaN is wrong too
        raise WrongAnswer(f"a probability is off by {off:.2g}")
    index = {name: k for k, name in enumerate(CLASSES)}
    said = np.array([index.get(name, -1) for name in table["prediction"].to_pylist()])
    if (said < 0).any():
        raise WrongAnswer("a prediction is none of the classes")
    # Of two classes that are equally likely, either will do.
    if (wanted[np.arange(rows), said] < wanted.max(axis=1) - 2 * TOLERANCE).any():
        raise WrongAnswer("a prediction is not the likeliest class")


def _read(output: Path) -> pa.Table:
    """id, prediction, and a column per class, whatever the form of the probabilities."""
    files = sorted(str(file) for file in output.glob("*.parquet"))
    if not files:
        raise WrongAnswer("it wrote no Parquet file")
    found = pyarrow.dataset.dataset(files)
    nested = "probabilities" in found.schema.names
    table = found.to_table(
        columns=["id", "prediction", *(["probabilities"] if nested else CLASSES)]
    )
    if not nested:
        return table
    probabilities = table["probabilities"].combine_chunks()
    for name in CLASSES:
        table = table.append_column(name, probabilities.field(name))
    return table.drop_columns(["probabilities"])


def summary(
    outcomes: Sequence[Outcome],
    start_rows: int,
    bare: Sequence[str],
    versions: Mapping[str, str],
) -> Json:
    """The measurements of a run as JSON objects, one per system, model and number of rows.

    Args:
        outcomes: of all rounds.
        start_rows: rows of the jobs that were run to learn what starting costs.
        bare: names of the limits; the fastest of them in a round is what others are held against.
        versions: by system.
    """
    groups: dict[tuple[str, str, int], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.system, one.model, one.rows].append(one)
    rates = _Rates(outcomes, start_rows, bare)
    measurements = []
    for (system, model, rows), group in groups.items():
        if rows == start_rows:
            continue
        head = {"system": system, "version": versions.get(system, ""), "model": model, "rows": rows}
        related = [*group, *groups.get((system, model, start_rows), [])]
        reason = next((f"{o.refused} (round {o.round})" for o in related if o.refused), "")
        measurements.append(head | ({"refused": reason} if reason else rates.medians(group)))
    return {
        "rounds": len({one.round for one in outcomes}),
        "measurements": measurements,
        "control": [*_controls([one for one in outcomes if one.rows != start_rows])],
    }


class _Rates:
    """Rows per second of jobs, as a whole and once started, and what share of the limit that is."""

    def __init__(self, outcomes: Sequence[Outcome], start_rows: int, bare: Sequence[str]) -> None:
        self._start_rows = start_rows
        starts: dict[tuple[str, str], list[float]] = defaultdict(list)
        for one in outcomes:
            if one.rows == start_rows and not one.refused:
                starts[one.system, one.model].append(one.seconds)
        # The median of all rounds: the difference of two single times would show the noise of both.
        self._starts = {where: median(seconds) for where, seconds in starts.items()}
        limits: dict[tuple[str, int, int], list[Outcome]] = defaultdict(list)
        for one in outcomes:
            if one.system in bare and not one.refused:
                limits[one.model, one.rows, one.round].append(one)
        self._limits = limits

    def medians(self, group: Sequence[Outcome]) -> dict[str, Any]:
        """What is written down of one system, over all rounds."""
        return {
            "rows_per_s": median(one.rows_per_s for one in group),
            "rows_per_s_started": _median(self._started(one) for one in group),
            "seconds": median(one.seconds for one in group),
            "startup_s": self._starts.get((group[0].system, group[0].model)),
            "rss_mb": median(one.rss_mb for one in group),
            "ratio_to_bare": _median(self._ratio(one, lambda o: o.rows_per_s) for one in group),
            "ratio_to_bare_started": _median(self._ratio(one, self._started) for one in group),
            "rounds": [
                {
                    "round": one.round,
                    "seconds": one.seconds,
                    "rows_per_s": one.rows_per_s,
                    "rss_mb": one.rss_mb,
                }
                for one in group
            ],
        }

    def _started(self, one: Outcome) -> float | None:
        """Rows per second without the start; None if the file is too short to tell."""
        seconds = one.seconds - self._starts.get((one.system, one.model), one.seconds)
        return (one.rows - self._start_rows) / seconds if seconds > 0 else None

    def _ratio(self, one: Outcome, rate: Callable[[Outcome], float | None]) -> float | None:
        """Against the fastest limit of the same round; None if there is none."""
        limits = [rate(limit) for limit in self._limits[one.model, one.rows, one.round]]
        fastest = max((limit for limit in limits if limit), default=None)
        own = rate(one)
        return own / fastest if own and fastest else None


def _median(values: Iterable[float | None]) -> float | None:
    """None as soon as one is missing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return median(known) if len(known) == len(found) else None


def _controls(outcomes: Sequence[Outcome]) -> Iterable[Json]:
    """Salver against itself: what differs is noise."""
    rates: dict[tuple[str, int], dict[int, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for one in outcomes:
        if one.system in (CONTROL, CONTROL_OF) and not one.refused:
            rates[one.model, one.rows][one.round][one.system] = one.rows_per_s
    for (model, rows), by_round in rates.items():
        pairs = [both for both in by_round.values() if len(both) == 2]
        if ratios := [both[CONTROL] / both[CONTROL_OF] for both in pairs]:
            yield {"model": model, "rows": rows} | control(ratios)
