"""What Salver promises about its speed, and whether a run bears it out.

Pure: it reads the results file's objects. Comparisons between two systems use the rounds that both
have, one ratio for each round, so that a drift of the machine cancels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.plan import LIMITS

Json = dict[str, Any]
Offline = dict[tuple[str, str, int], Json]  # by system, model and rows

REAL = ("salver", "minilm")
SMALL_BATCH = 8  # of the bare loops of every model


@dataclass(frozen=True)
class Goal:
    """One promise and what was measured.

    Attributes:
        met: None where a number is stated without a bound.
    """

    what: str
    wanted: str
    measured: str
    met: bool | None


class Online:
    """The online measurements, to be asked by name."""

    def __init__(self, online: Json):
        self._rows = {
            (one["system"], one["model"], one["connections"]): one
            for one in online["measurements"]
            if not one.get("refused")
        }
        self._loops = [one for one in online["bare"] if not one.get("refused")]

    def of(self, system: str, model: str, connections: int) -> Json | None:
        """One measurement, if there is one."""
        return self._rows.get((system, model, connections))

    def rivals(self, model: str, connections: int) -> list[str]:
        """The others that were measured there."""
        no_rivals = ("salver", "salver (A/A)", *LIMITS)
        places = [name for name, m, n in self._rows if (m, n) == (model, connections)]
        return [name for name in places if name not in no_rivals]

    def loop(self, model: str, threads: int) -> Json | None:
        """The bare loop at a replica's number of threads."""
        return next(
            (x for x in self._loops if (x["model"], x["threads"]) == (model, threads)), None
        )

    def of_loops(self, ours: Json, batch: int) -> float | None:
        """Requests/s over the rows/s of the faster loop of a batch size, as a median of rounds."""
        limits: dict[int, float] = {}
        for loop in self._loops:
            if (loop["model"], loop["batch"]) == (ours["model"], batch):
                for one in loop["rounds"]:
                    limits[one["round"]] = max(limits.get(one["round"], 0.0), one["rows_per_s"])
        pairs = [(one["requests_per_s"], limits.get(one["round"])) for one in ours["rounds"]]
        ratios = [mine / limit for mine, limit in pairs if limit]
        return median(ratios) if ratios else None

    def times(self, rival: str, model: str, connections: int) -> float | None:
        """Requests/s of Salver over those of a rival: the median of the rounds' ratios."""
        ours, theirs = self.of("salver", model, connections), self.of(rival, model, connections)
        if not ours or not theirs:
            return None
        return _times(ours, theirs)


def goals(online: Json) -> list[Goal]:
    """Every promise that this run has the numbers for."""
    table = Online(online)
    return [*_overhead(table), *_models(table), *_single(table), *_bounded(table), *_costs(table)]


def offline_goals(offline: Json) -> list[Goal]:
    """The same for the offline part."""
    rows = {
        (one["system"], one["model"], one["rows"]): one
        for one in offline["measurements"]
        if not one.get("refused")
    }
    return [*_file(rows), *_growth(rows)]


def _overhead(table: Online) -> Iterator[Goal]:
    for connections, least in ((64, 0.8), (16, 0.65)):
        ours = table.of("salver", "constant", connections)
        if ours and ours["ratio_to_bare"]:
            yield _at_least(
                f"constant, {connections} connections: requests/s / the faster bare server's",
                ours["ratio_to_bare"],
                least,
            )
    ours = table.of("salver", "constant", 1)
    bare = [one for name in LIMITS if (one := table.of(name, "constant", 1))]
    if ours and bare:
        yield _at_most(
            "constant, 1 connection: p50 / the bare server's",
            ours["p50_ms"] / min(one["p50_ms"] for one in bare),
            3,
        )
    words = "constant, 64 connections: requests/s / those of"
    for rival, times in (("litserve", 15), ("ray-batch", 4), ("fastapi", 5)):
        if found := table.times(rival, "constant", 64):
            yield _at_least(f"{words} {rival}", found, times)
    if found := table.times("mosec", "constant", 64):
        yield Goal(f"{words} mosec", "stated; 1 is the goal", f"{found:.2f}", None)


def _models(table: Online) -> Iterator[Goal]:
    for model in ("minilm", "bert-base", "sklearn"):
        ours = table.of("salver", model, 64)
        words = f"{model}, 64 connections: requests/s / rows/s of the bare loop"
        if ours and model == "sklearn" and (small := table.of_loops(ours, SMALL_BATCH)):
            yield _at_least(f"{words} in batches of {SMALL_BATCH}", small, 0.9)
            words += " in the batches that are best for it"
        if ours and ours["ratio_to_bare"]:
            yield _at_least(words, ours["ratio_to_bare"], 0.9)
    for connections, least in ((64, 1.2), (16, 1.1)):
        found = {
            rival: times
            for rival in table.rivals("minilm", connections)
            if (times := table.times(rival, "minilm", connections))
        }
        if found:
            best = min(found, key=found.__getitem__)
            yield _at_least(
                f"minilm, {connections} connections: requests/s / those of the best rival ({best})",
                found[best],
                least,
            )


def _single(table: Online) -> Iterator[Goal]:
    ours = table.of("salver", "minilm", 1)
    if ours and (loop := table.loop("minilm", ours["threads"])):
        limit = loop["p50_ms"] + 1
        yield Goal(
            "minilm, 1 connection: p50",
            f"at most {limit:.1f} ms: the bare model at {ours['threads']} thread(s) + 1 ms",
            f"{ours['p50_ms']:.1f} ms",
            ours["p50_ms"] <= limit,
        )


def _bounded(table: Online) -> Iterator[Goal]:
    if ours := table.of("salver", "minilm", 64):
        yield _at_most("minilm, 64 connections: p99 / p50", ours["p99_ms"] / ours["p50_ms"], 2.5)
    for model in ("constant", "minilm"):
        if ours := table.of("salver", model, 256):
            limit = 256 / ours["requests_per_s"] * 1500
            yield Goal(
                f"{model}, 256 connections: no errors, p99 bounded",
                f"at most {limit:,.0f} ms: 256 / throughput x 1.5",
                f"{ours['errors']} errors, {ours['p99_ms']:,.0f} ms",
                ours["errors"] == 0 and ours["p99_ms"] <= limit,
            )


def _costs(table: Online) -> Iterator[Goal]:
    ours = table.of("salver", "minilm", 64)
    if not ours or not (loop := table.loop("minilm", ours["threads"])):
        return
    bare_mb = loop["idle_mb"] / loop["processes"] * ours["workers"]
    yield _at_most(
        f"minilm: MB that front and {ours['workers']} idle replica(s) add to the bare model",
        ours["idle_mb"] - bare_mb,
        120,
        "{:.0f}",
    )
    limit = 1.2 * loop["load_s"] + 1
    yield Goal(
        "minilm: start-up to the first answer",
        f"at most {limit:.1f} s: 1.2 x the bare model's + 1 s",
        f"{ours['startup_s']:.1f} s",
        ours["startup_s"] <= limit,
    )


def _file(rows: Offline) -> Iterator[Goal]:
    """One file and a real model."""
    ours = next((one for (name, model, _), one in rows.items() if (name, model) == REAL), None)
    if not ours:
        return
    count = ours["rows"]
    if ours["ratio_to_bare"]:
        yield _at_least(
            f"offline, minilm, {count:,} rows: rows/s / those of the bare sorted loop",
            ours["ratio_to_bare"],
            0.95,
        )
    for rival, least in (("ray-data-lesson", 3), ("ray-data-tuned", 1.3)):
        if (theirs := rows.get((rival, "minilm", count))) and (times := _times(ours, theirs)):
            what = f"offline, minilm, {count:,} rows: rows/s / those of {rival}"
            yield _at_least(what, times, least)


def _growth(rows: Offline) -> Iterator[Goal]:
    """A file that grows tenfold, without a model."""
    counts = sorted(n for name, model, n in rows if (name, model) == ("salver", "constant"))
    if len(counts) < 2:
        return
    small, large = (rows["salver", "constant", count] for count in counts[-2:])
    words = f"offline, constant, {counts[-1]:,} rows / {counts[-2]:,} rows"
    yield _at_most(f"{words}: peak memory", large["rss_mb"] / small["rss_mb"], 1.1)
    yield _at_least(f"{words}: rows/s", large["rows_per_s"] / small["rows_per_s"], 1)


def _times(ours: Json, theirs: Json) -> float | None:
    """Ours over theirs: the median of the ratios of the turns that both have."""
    rate = "requests_per_s" if "requests_per_s" in ours else "rows_per_s"
    by_turn = {(one["round"], one.get("turn")): one[rate] for one in theirs["rounds"]}
    pairs = [(one[rate], by_turn.get((one["round"], one.get("turn")))) for one in ours["rounds"]]
    ratios = [mine / its for mine, its in pairs if its]
    return median(ratios) if ratios else None


def _at_least(what: str, measured: float, least: float, form: str = "{:.2f}") -> Goal:
    return _bound(what, "at least", measured, least, form, measured >= least)


def _at_most(what: str, measured: float, most: float, form: str = "{:.2f}") -> Goal:
    return _bound(what, "at most", measured, most, form, measured <= most)


def _bound(what: str, words: str, measured: float, bound: float, form: str, met: bool) -> Goal:
    return Goal(what, f"{words} {bound:g}", form.format(measured), met)
