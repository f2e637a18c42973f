"""The pictures of the report, drawn from the results file alone.

Colours are those of Okabe and Ito, which people with any colour vision can tell apart; Salver has
one to itself, bare limits are grey. It does not know what the numbers mean.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from bench.tables import decimals, whole

Json = dict[str, Any]

SALVER = "#D55E00"
BARE = "#888888"
RIVAL = "#9DB9CF"
# For lines, which cross: a colour and a marker for each.
LINES = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7A6A00", "#5B3A8E")
MARKERS = "osD^vPX*<"  # one more than colours, so that no pair comes twice
DPI = 130
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "legend.frameon": False,
}


def colour(system: str) -> str:
    """Salver's own, grey for a limit, the rivals' for the rest."""
    if system == "salver":
        return SALVER
    return BARE if system.startswith("bare") else RIVAL


def ratios(
    measurements: Sequence[Json], titles: dict[str, str], model: str, limit: str, path: Path
) -> None:
    """Bars of the ratio to the bare limit: a panel for each number of connections."""
    counts = _counts(measurements)
    systems = _by_best(measurements, "ratio_to_bare", at=64 if 64 in counts else counts[-1])
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(counts),
            sharey=True,
            squeeze=False,
            figsize=(2.1 + 2.4 * len(counts), 1.5 + 0.33 * len(systems)),
            layout="constrained",
        )
        for panel, count in zip(panels[0], counts, strict=True):
            found = {one["system"]: one for one in measurements if one["connections"] == count}
            _bars(panel, systems, found, "ratio_to_bare", decimals)
            panel.axvline(1, color="#444444", linewidth=1, linestyle=(0, (4, 3)), zorder=3)
            panel.set_xlim(0, max(1.25, panel.get_xlim()[1]))
            panel.set_title(f"{count} connection{'s' if count > 1 else ''}")
        _name(panels[0][0], systems, titles)
        figure.suptitle(f"{model}: requests/s as a share of {limit} (= 1)", x=0.01, ha="left")
        _save(figure, path)


def latencies(measurements: Sequence[Json], titles: dict[str, str], model: str, path: Path) -> None:
    """Median and 99th percentile of latency against the number of connections."""
    counts = _counts(measurements)
    systems = _by_best(measurements, "p50_ms", at=64 if 64 in counts else counts[-1])
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, 2, sharey=True, figsize=(11, 5.2), layout="constrained", squeeze=False
        )
        for panel, name, words in zip(
            panels[0], ("p50_ms", "p99_ms"), ("median", "99th percentile"), strict=True
        ):
            _lines(panel, systems, titles, measurements, name)
            panel.set_title(words)
            panel.set_xscale("log", base=2)
            panel.set_xticks(counts, [str(count) for count in counts])
            panel.set_yscale("log")
            _plain(panel)
            panel.set_xlabel("connections, each with one request at a time")
        panels[0][0].set_ylabel("latency, ms (logarithmic)")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", title="best at the bottom")
        figure.suptitle(f"{model}: latency against load", x=0.01, ha="left")
        _save(figure, path)


def costs(measurements: Sequence[Json], titles: dict[str, str], model: str, path: Path) -> None:
    """Memory, start-up and CPU time of each system: three panels of bars."""
    columns = (
        ("rss_mb", "memory under load, MB", whole),
        ("startup_s", "start to first answer, s", decimals),
        ("cpu_s_per_1000", "CPU s per 1,000 requests, at 64", decimals),
    )
    counts = _counts(measurements)
    at = 64 if 64 in counts else counts[-1]
    found = {one["system"]: one for one in measurements if one["connections"] == at}
    systems = _by_best(measurements, "rss_mb", at)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(columns),
            sharey=True,
            figsize=(11.5, 1.5 + 0.33 * len(systems)),
            layout="constrained",
        )
        for panel, (name, words, form) in zip(panels, columns, strict=True):
            _bars(panel, systems, found, name, form)
            panel.set_title(words.replace("at 64", f"at {at}"))
        _name(panels[0], systems, titles)
        figure.suptitle(f"{model}: what a system costs (shorter is better)", x=0.01, ha="left")
        _save(figure, path)


def bars(rows: Sequence[tuple[str, str, Sequence[float]]], title: str, path: Path) -> None:
    """Rows per second of a whole job: (system, label, one value per round) each, best first."""
    with mpl.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(8.5, 1.3 + 0.36 * len(rows)), layout="constrained")
        found: dict[str, Json] = {
            system: {"rate": median(values), "rounds": [{"rate": value} for value in values]}
            for system, _, values in rows
        }
        systems = [system for system, _, _ in rows]
        _bars(panel, systems, found, "rate", whole)
        panel.margins(x=0.12)
        panel.set_xlabel("rows/s")
        _name(panel, systems, {system: label for system, label, _ in rows})
        figure.suptitle(title, x=0.01, ha="left")
        _save(figure, path)


def growth(measurements: Sequence[Json], titles: dict[str, str], model: str, path: Path) -> None:
    """Rows per second and peak memory against the number of rows."""
    counts = sorted({one["rows"] for one in measurements})
    systems = sorted({one["system"] for one in measurements})
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for panel, name, words in zip(
            panels, ("rows_per_s", "rss_mb"), ("rows/s, whole job", "peak memory, MB"), strict=True
        ):
            _lines(panel, systems, titles, measurements, name, along="rows")
            panel.set_title(words)
            panel.set_xscale("log")
            panel.set_xticks(counts, [f"{count:,}" for count in counts])
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.set_ylim(bottom=0)
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            panel.grid(axis="y", color="#E4E4E4")
            panel.set_xlabel("rows of the file (logarithmic)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        figure.suptitle(f"{model}: growing files", x=0.01, ha="left")
        _save(figure, path)


def _counts(measurements: Sequence[Json]) -> list[int]:
    """The numbers of connections; a system that never started has none."""
    return sorted({one["connections"] for one in measurements if one["connections"]})


def _by_best(measurements: Sequence[Json], name: str, at: int) -> list[str]:
    """The systems, the best one first; those without a number at this load last."""
    found = {one["system"]: one.get(name) for one in measurements if one["connections"] == at}
    sign = -1 if name == "ratio_to_bare" else 1
    everyone = list(dict.fromkeys(one["system"] for one in measurements))
    return sorted(
        everyone, key=lambda system: (found.get(system) is None, sign * (found.get(system) or 0))
    )


def _bars(
    panel: Axes,
    systems: Sequence[str],
    found: dict[str, Json],
    name: str,
    form: Callable[[float], str],
) -> None:
    for place, system in enumerate(systems):
        value = found.get(system, {}).get(name)
        if value is None:
            panel.text(0, place, " refused", va="center", color="#777777", style="italic")
            continue
        panel.barh(place, value, color=colour(system), height=0.72)
        ends = [one[name] for one in found[system]["rounds"] if one.get(name) is not None]
        if len(ends) > 1:
            panel.plot([min(ends), max(ends)], [place, place], color="#333333", linewidth=1)
        end = max([value, *ends])
        weight = "bold" if system == "salver" else "normal"
        panel.annotate(
            form(value),
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontweight=weight,
            fontsize=9,
            # The line of the limit must not cross the number.
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            zorder=4,
        )
    panel.set_ylim(len(systems) - 0.4, -0.6)
    panel.margins(x=0.28)
    panel.tick_params(axis="y", length=0)
    panel.locator_params(axis="x", nbins=4)
    panel.grid(axis="x", color="#E4E4E4")
    panel.set_axisbelow(True)


def _plain(panel: Axes) -> None:
    """A logarithmic axis with numbers that people read, more than one in a decade."""
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.grid(axis="y", color="#E4E4E4")


def _name(panel: Axes, systems: Sequence[str], titles: dict[str, str]) -> None:
    """Names beside the bars of the first panel, which the others share."""
    panel.set_yticks(range(len(systems)), [titles.get(system, system) for system in systems])
    for label, system in zip(panel.get_yticklabels(), systems, strict=True):
        label.set_fontweight("bold" if system == "salver" else "normal")


def _lines(
    panel: Axes,
    systems: Sequence[str],
    titles: dict[str, str],
    measurements: Iterable[Json],
    name: str,
    along: str = "connections",
) -> None:
    points: dict[str, list[tuple[int, float]]] = {system: [] for system in systems}
    for one in measurements:
        if one.get(name) is not None:
            points[one["system"]].append((one[along], one[name]))
    rivals = sorted(s for s in systems if colour(s) == RIVAL)  # the same look in every picture
    looks = {s: (LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]) for i, s in enumerate(rivals)}
    for system in reversed(systems):  # the legend stands as the lines end: the slowest on top
        x, y = zip(*sorted(points[system]), strict=True) if points[system] else ((), ())
        line, marker = looks.get(system, (colour(system), "."))
        ours = system == "salver"
        panel.plot(
            x,
            y,
            label=titles.get(system, system),
            color=line,
            marker=marker,
            markersize=7 if ours else 5,
            linewidth=3.2 if ours else 1.3,
            linestyle="--" if line == BARE else "-",
            zorder=5 if ours else 3,
        )


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date, no version: the same numbers give the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
