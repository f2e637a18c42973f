"""docs/benchmarks.md and its pictures, written from the results file alone.

It measures nothing and knows no machine: the same file gives the same report anywhere.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import offline_report, pictures
from bench.goals import Goal, goals, offline_goals
from bench.plan import CONTROL
from bench.results import read
from bench.tables import decimals, percent, refused, table, whole

Json = dict[str, Any]

PAGE = "benchmarks.md"
FOLDER = "benchmarks"  # of the pictures, beside the page

MODELS = {
    "constant": "No model: the server's own cost",
    "minilm": "MiniLM: a small transformer",
    "bert-base": "BERT-base: a transformer seven times as heavy",
    "sklearn": "scikit-learn: Python that holds the GIL",
}
ABOUT = {
    "constant": "Every request gets the same fixed probabilities, so that all the time is the "
    "server's. The bare limit is the faster of uvicorn and granian echoing the answer's bytes.",
    "minilm": "The example's classifier (MiniLM-L6, fine-tuned) on ONNX Runtime in fp32; the same "
    "file for all. The bare limit is the model in a loop without any server, in small batches "
    "sorted by length: the faster of one process with all cores and one process on each.",
    "bert-base": "The shape of bert-base-uncased with random weights, served like MiniLM.",
    "sklearn": "TF-IDF over words and pairs of words, and logistic regression: the larger a batch, the "
    "less a row costs, until what a server does for each request is as much.",
}


class NothingToReport(Exception):
    """There are no measurements; the message says how to get some."""


def write(results: Path, docs: Path) -> Path:
    """Writes the page and its pictures; returns where the page is.

    Raises:
        NothingToReport: If the results file is missing or empty.
    """
    document = read(results)
    if not document:
        raise NothingToReport(
            f"{results} holds no measurements; run `python -m bench` first, or name the file with "
            "--results"
        )
    folder = docs / FOLDER
    if online := document.get("online"):
        draw(online, folder)
    if offline := document.get("offline"):
        offline_report.draw(offline, folder)
    page = docs / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(document), "utf-8")
    return page


def text(document: Json) -> str:
    """The page."""
    parts = [
        "# Benchmarks",
        "Written by `python -m bench` (`make bench`) from its measurements; changes made here by "
        "hand are lost. To measure again: `make bench`, or `make bench ONLY=salver,litserve`.",
    ]
    online, offline = document.get("online"), document.get("offline")
    promised = [*(goals(online) if online else ()), *(offline_goals(offline) if offline else ())]
    parts += ["## What was promised", _promises(promised)] if promised else []
    if online:
        parts += [*_online(online)]
    if offline:
        parts += [*offline_report.text(offline, FOLDER)]
    return "\n\n".join(parts) + "\n"


def draw(online: Json, folder: Path) -> None:
    """The pictures of the online part."""
    titles = _titles(online)
    for model in _models(online):
        if not (shown := _shown(online, model)):
            continue
        lost = [one for one in _of(online, model) if one.get("refused")]
        limit = "the faster bare server" if model == "constant" else "the bare model in a loop"
        pictures.ratios(shown + lost, titles, model, limit, folder / f"{model}-ratio.png")
        pictures.costs(shown + lost, titles, model, folder / f"{model}-costs.png")
        if len({one["connections"] for one in shown}) > 2:
            pictures.latencies(shown, titles, model, folder / f"{model}-latency.png")


def _online(online: Json) -> Iterator[str]:
    yield "## How the servers were measured"
    yield _method(online)
    yield table(["", "machine"], [[name, said] for name, said in online["machine"].items()])
    for model in _models(online):
        yield f"## {MODELS[model]}"
        yield ABOUT[model]
        yield from _model(online, model)
    yield "## Noise: Salver against itself"
    yield (
        "Salver is measured twice in every round, as if it were two systems. Half of the spread of "
        "their ratio (or the median's distance from 1, if that is more) is what this run cannot "
        "see: a difference below it is no difference."
    )
    yield table(
        ["model", "connections", "median ratio", "lowest", "highest", "no difference below"],
        [
            [
                one["model"],
                str(one["connections"]),
                f"{one['ratio']:.3f}",
                f"{one['lowest']:.3f}",
                f"{one['highest']:.3f}",
                percent(one["no_difference_below"]),
            ]
            for one in online["control"]
        ],
    )
    yield "## Versions and settings"
    yield (
        "How each system is started, with the reason for every setting, is in "
        "[bench/systems](../bench/systems)."
    )
    yield table(["system", "version", "rounds", "workers x threads", "note"], [*_settings(online)])


def _promises(promised: Sequence[Goal]) -> str:
    words = {True: "met", False: "**missed**", None: ""}
    return table(
        ["what", "goal", "measured", ""],
        [[goal.what, goal.wanted, goal.measured, words[goal.met]] for goal in promised],
    )


def _method(online: Json) -> str:
    settings, done = online["settings"], online["rounds"]
    whole_run = "" if done == settings["rounds"] else f" of the {settings['rounds']} planned"
    others = [one["foreign_cpu"] for one in online["measurements"] if "foreign_cpu" in one]
    busy = sorted(others)[len(others) // 2] if others else 0.0
    return (
        f"{online['date']}, {done} rounds{whole_run}. In each round every system is started alone, "
        "its answers are compared with the reference (probabilities to 1e-4), and its start-up and "
        "memory are measured. Then all run side by side and are loaded in turns with wrk over 1 to "
        "256 connections; each turn has an order of its own, so that a drift of the machine falls "
        "on all alike (what is slow to start, or busy while nobody asks, is measured alone). The "
        "bodies are some 1,500 different real texts; the load generator runs on the same cores. "
        "Numbers are medians over all turns, ratios medians of each turn's ratio; the thin lines "
        "in the pictures are the lowest and highest turn. A system that gave an error or a wrong "
        "answer has no numbers but the reason. Salver has its limits, deadlines, metrics, request "
        f"ids and Host check on. Other programs used {percent(busy)} of the machine meanwhile "
        "(median)."
    )


def _model(online: Json, model: str) -> Iterator[str]:
    shown = _shown(online, model)
    counts = sorted({one["connections"] for one in shown})
    if shown:
        for kind, words in (
            ("ratio", "Requests/s as a share of the bare limit"),
            ("latency", "Latency against load"),
            ("costs", "Memory, start-up, CPU time"),
        ):
            if kind != "latency" or len(counts) > 2:
                yield f"![{words}, {model}]({FOLDER}/{model}-{kind}.png)"
        yield table(
            [
                "system",
                f"requests/s at {'/'.join(map(str, counts))}",
                "of bare",
                *[f"p50/p99 ms at {n}" for n in counts],
                "MB",
                "CPU s/1,000",
                "start s",
            ],
            [*_rows(online, model, shown, counts)],
        )
    if bare := [one for one in online["bare"] if one["model"] == model]:
        yield "The bare model in a loop:"
        yield table(
            [
                "processes x threads",
                "rows of a batch",
                "rows/s",
                "p50 ms, one row",
                "MB",
                "start s",
            ],
            [*_loop_rows(bare)],
        )
    yield from refused(
        [one for one in online["measurements"] if one["model"] == model], _titles(online)
    )


def _rows(
    online: Json, model: str, shown: Sequence[Json], counts: Sequence[int]
) -> Iterator[list[str]]:
    titles = _titles(online)
    by_place = {(one["system"], one["connections"]): one for one in shown}
    at = 64 if 64 in counts else counts[-1]
    systems = dict.fromkeys(one["system"] for one in shown)

    def order(system: str) -> float:
        return -(by_place.get((system, at), {}).get("ratio_to_bare") or 0.0)

    for system in sorted(systems, key=order):
        found = [by_place.get((system, count), {}) for count in counts]
        some = by_place.get((system, at)) or next(one for one in found if one)
        title = titles[system]
        yield [
            f"**{title}**" if system == "salver" else title,
            "/".join(whole(one.get("requests_per_s")) for one in found),
            "/".join(decimals(one.get("ratio_to_bare")) for one in found),
            *[f"{decimals(one.get('p50_ms'))}/{decimals(one.get('p99_ms'))}" for one in found],
            whole(some["rss_mb"]),
            decimals(some["cpu_s_per_1000"]),
            f"{some['startup_s']:.1f}",
        ]


def _loop_rows(bare: Sequence[Json]) -> Iterator[list[str]]:
    for one in bare:
        shape = f"{one['processes']} x {one['threads']}"
        if one.get("refused"):
            yield [shape, str(one["batch"]), f"refused: {one['refused']}", "", "", ""]
            continue
        yield [
            shape,
            str(one["batch"]),
            decimals(one["rows_per_s"]),
            decimals(one["p50_ms"]),
            whole(one["idle_mb"]),
            f"{one['load_s']:.1f}",
        ]


def _settings(online: Json) -> Iterator[list[str]]:
    for name, one in online["settings"]["systems"].items():
        if name == CONTROL:
            continue
        its = [
            found
            for found in online["measurements"]
            if found["system"] == name and not found.get("refused")
        ]
        shapes = {found["model"]: f"{found['workers']} x {found['threads']}" for found in its}
        yield [
            one["title"],
            online["versions"].get(name) or "not installed",
            str(max((len(found["rounds"]) for found in its), default=0)),
            ", ".join(f"{model} {shape}" for model, shape in shapes.items()),
            one["note"],
        ]


def _models(online: Json) -> list[str]:
    measured = {one["model"] for one in online["measurements"]}
    return [model for model in MODELS if model in measured]


def _titles(online: Json) -> dict[str, str]:
    return {name: one["title"] for name, one in online["settings"]["systems"].items()}


def _of(online: Json, model: str) -> list[Json]:
    """The measurements with one model, the control aside."""
    measured = [one for one in online["measurements"] if one["model"] == model]
    return [one for one in measured if one["system"] != CONTROL]


def _shown(online: Json, model: str) -> list[Json]:
    """Those that have numbers."""
    return [one for one in _of(online, model) if not one.get("refused")]
