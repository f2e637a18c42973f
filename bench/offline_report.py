"""The offline part of the report: a file to a file, and files that grow.

Pure but for the pictures; it knows the results file alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import pictures
from bench.plan import CONTROL
from bench.tables import decimals, percent, refused, table, whole

Json = dict[str, Any]


def draw(offline: Json, folder: Path) -> None:
    """The pictures."""
    titles = _titles(offline)
    for model, counts in _files(offline).items():
        shown = _shown(offline, model)
        if len(counts) > 1:
            pictures.growth(shown, titles, model, folder / f"offline-{model}.png")
        elif shown:
            rows = [
                (one["system"], titles[one["system"]], [r["rows_per_s"] for r in one["rounds"]])
                for one in sorted(shown, key=lambda one: -one["rows_per_s"])
            ]
            title = f"{model}: {counts[0]:,} rows, CSV to Parquet, the whole job"
            pictures.bars(rows, title, folder / f"offline-{model}.png")


def text(offline: Json, pictures_at: str) -> Iterator[str]:
    """The section, in Markdown.

    Args:
        offline: That part of the results file.
        pictures_at: Folder of the pictures, as seen from the page.
    """
    settings, done = offline["settings"], offline["rounds"]
    planned = "" if done == settings["rounds"] else f" of the {settings['rounds']} planned"
    yield "## Offline: a CSV file to Parquet"
    yield (
        f"{offline['date']}, {done} rounds{planned} in alternating order. Each job is a process "
        "of its own and reads id, title and description; its output is compared with the "
        "reference row by row. The whole job counts: imports, start of a cluster, loading of the "
        f"model, reading and writing. *Once started* takes off the time that a file of "
        f"{settings['start_rows']} rows needs. The bare limit is the faster of two loops over "
        "batches of 8 sorted by length, one process with all cores and one process on each."
    )
    for model, counts in _files(offline).items():
        if _shown(offline, model):
            yield f"![rows/s, {model}]({pictures_at}/offline-{model}.png)"
        yield table(
            [
                "system",
                "rows",
                "rows/s",
                "once started",
                "of bare",
                "once started",
                "peak MB",
                "start s",
            ],
            [*_rows(offline, model, counts)],
        )
        yield from refused(_of(offline, model), _titles(offline))
    if offline["control"]:
        yield "Salver against itself:"
        yield table(
            ["model", "rows", "median ratio", "no difference below"],
            [
                [
                    one["model"],
                    f"{one['rows']:,}",
                    f"{one['ratio']:.3f}",
                    percent(one["no_difference_below"]),
                ]
                for one in offline["control"]
            ],
        )
    yield table(
        ["system", "version", "processes x threads", "settings"],
        [
            [
                one["title"],
                offline["versions"].get(name) or "not installed",
                one["workers x threads"],
                one["note"],
            ]
            for name, one in settings["systems"].items()
        ],
    )


def _rows(offline: Json, model: str, counts: Sequence[int]) -> Iterator[list[str]]:
    titles = _titles(offline)
    for count in counts:
        found = [one for one in _shown(offline, model) if one["rows"] == count]
        for one in sorted(found, key=lambda one: -one["rows_per_s"]):
            title = titles[one["system"]]
            yield [
                f"**{title}**" if one["system"] == "salver" else title,
                f"{count:,}",
                whole(one["rows_per_s"]),
                whole(one["rows_per_s_started"]),
                decimals(one["ratio_to_bare"]),
                decimals(one["ratio_to_bare_started"]),
                whole(one["rss_mb"]),
                decimals(one["startup_s"]),
            ]


def _files(offline: Json) -> dict[str, list[int]]:
    """The numbers of rows that were measured with each model."""
    found: dict[str, list[int]] = {}
    for one in offline["measurements"]:
        counts = found.setdefault(one["model"], [])
        if one["rows"] not in counts:
            counts.append(one["rows"])
    return {model: sorted(counts) for model, counts in found.items()}


def _of(offline: Json, model: str) -> list[Json]:
    return [one for one in offline["measurements"] if one["model"] == model]


def _shown(offline: Json, model: str) -> list[Json]:
    """The measurements that have numbers, the control aside."""
    return [
        one for one in _of(offline, model) if one["system"] != CONTROL and not one.get("refused")
    ]


def _titles(offline: Json) -> dict[str, str]:
    return {name: one["title"] for name, one in offline["settings"]["systems"].items()}
