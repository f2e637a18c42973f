"""Pictures of the live account: over time, against the reference, and of its worst parts.

This module does not know the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from salver.account.results import Drifted, Part, Report, Window
from salver.monitoring.table import NAMES, shown, worst
from salver.reports.reliability import Series, reliability_diagram
from salver.reports.svg import BLUE, GREEN, INK, ORANGE, cut, figure, gallery, percents
from salver.reports.terminal import percent, plain

CLASSES = 6  # lines that can be told apart
_PURPLE = "#CC79A7"  # Okabe and Ito's kind, as those of the house
_LINES: Sequence[tuple[str, str, Any]] = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "-"),
    (GREEN, "^", "-"),
    (_PURPLE, "D", (0, (5, 2))),
    (INK, "v", (0, (5, 2))),
    (BLUE, "x", (0, (1, 1.5))),
)  # colour, marker and dash
_RIGHT = "right, of labelled"
_DAY = 86_400  # seconds: axes of time count in days
_DASHED: Any = (0, (4, 3))
_ABOVE: Any = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.99), "handlelength": 1.6}


def pictures(report: Report) -> str:
    """All that there are numbers for, with captions, as HTML; nothing if there are none."""
    drawn = [
        *_over_time(report),
        *_against_reference(report.findings.drifted, report.findings.recent_rows),
    ]
    if report.findings.honest is not None and report.findings.honest.bins:
        labelled = Series("labelled rows", report.findings.honest.bins, BLUE, "o")
        drawn.append(reliability_diagram([labelled]))
    if report.parts:
        drawn.append(_parts(worst(report)[:NAMES]))
    return gallery(drawn) if drawn else ""


def _over_time(report: Report) -> Iterator[str]:
    if any(one.answered.share or one.right.share for one in report.windows):
        yield figure(
            "answers",
            lambda to: _draw_answers(to, report),
            3.8,
            "Right answers and rows answered",
            "Each mark is a window of as many rows. The band is the 95% interval (Clopper & Pearson "
            "1934) of the share that is right among labelled answers: where it lies wholly "
            "below the dashed line, fewer are right than was promised (by chance, up to 1 of "
            "40 windows). If the share answered falls, the policies withhold more to keep the "
            "answers right.",
        )
    if any(one.confidence is not None for one in report.windows):
        yield figure(
            "confidence",
            lambda to: _draw_confidence(to, report),
            4.4,
            "Confidence and novel rows",
            "Confidence that falls while answers stay right says that rows have become harder, and "
            "confidence that stays while right answers fall, that it can no longer be believed. It "
            "counts withheld rows, too, so it may lie lower than right answers. Below stands how "
            "many rows are withheld as novel.",
        )
    if any(one.shares for one in report.windows):
        yield figure(
            "classes",
            lambda to: _draw_classes(to, report),
            4.8,
            "What is answered",
            "Share of each class of rows with a result, the most frequent ones. A triangle at the "
            "left edge is the share in the reference: lines that leave it say that other rows come "
            "in, or that the model answers otherwise.",
        )


def _against_reference(drifted: Sequence[Drifted], rows: int) -> Iterator[str]:
    for number, one in enumerate(drifted):
        bars = shown(one)
        yield figure(
            f"drift{number}",
            lambda to, bars=bars: _draw_shares(to.subplots(), bars),  # type: ignore[misc]
            0.9 + 0.6 * len(bars),
            f"The latest rows against the reference: {plain(one.of)}",
            f"Share of each of the latest {rows:,} rows (filled) and in the reference (outlined). "
            f"Population stability index: {one.psi:.2f}; below 0.1 they are alike, above 0.25 much "
            "has changed.",
        )


def _parts(shown_parts: Sequence[Part]) -> str:
    return figure(
        "parts",
        lambda to: _draw_parts(to.subplots(), shown_parts),
        0.8 + 0.55 * len(shown_parts),
        "Where answers are wrong",
        "Share of right answers of the worst parts (mark) with its 95% interval (bar; Clopper & "
        "Pearson 1934), against that of all other rows (upright line). What is real is filled and "
        "says so; the others may be chance.",
    )


def _draw_answers(to: Figure, report: Report) -> None:
    axes = to.subplots()
    told = [(_middle(one), one.right.share) for one in report.windows if one.right.share]
    if told:
        times = [time for time, _ in told]
        low, high = [share.low for _, share in told], [share.high for _, share in told]
        axes.fill_between(times, low, high, color=GREEN, alpha=0.18, linewidth=0)
        if len(told) == 1:  # a band of one point is not seen
            axes.vlines(times, low, high, color=GREEN, linewidth=1.2)
        _line(axes, [(time, share.value) for time, share in told], _LINES[2], _RIGHT)
    given = [(_middle(one), one.answered.share) for one in report.windows]
    _line(axes, [(time, share.value) for time, share in given if share], _LINES[0], "answered")
    promised = {one.promised for one in report.findings.held if one.about == "precision"}
    for share in sorted(promised) if told else ():
        name = f"promised {share * 100:g}%"
        axes.axhline(share, color=INK, linewidth=1, linestyle=_DASHED, label=name)
    _shares_up(axes)
    _times(axes, report.windows)
    axes.legend(ncols=3, columnspacing=1.2, **_ABOVE)


def _draw_confidence(to: Figure, report: Report) -> None:
    above, below = to.subplots(2, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]})
    sure = [(_middle(w), w.confidence) for w in report.windows if w.confidence is not None]
    _line(above, sure, _LINES[1], "mean confidence")
    told = [(_middle(one), one.right.share.value) for one in report.windows if one.right.share]
    _line(above, told, _LINES[2], _RIGHT)
    _shares_up(above)
    above.legend(ncols=2, **_ABOVE)
    novel = [(_middle(one), one.novel.share.value) for one in report.windows if one.novel.share]
    _line(below, novel, _LINES[3], "novel")
    most = [one.promised for one in report.findings.held if one.about == "novelty"]
    for share in most:
        name = f"promised: at most {share * 100:g}%"
        below.axhline(share, color=INK, linewidth=1, linestyle=_DASHED, label=name)
    if most:
        below.legend(ncols=2, **_ABOVE)
    top = max([share for _, share in novel] + most, default=0)
    below.set_ylim(0, max(top * 1.35, 0.01))
    below.yaxis.set_major_formatter(percents())
    below.yaxis.set_major_locator(MaxNLocator(4))
    below.set_ylabel("novel")
    below.grid()
    _times(below, report.windows)


def _draw_classes(to: Figure, report: Report) -> None:
    axes = to.subplots()
    reference = {
        name: share
        for one in report.findings.drifted
        if one.of == "classes"
        for name, share in zip(one.names, one.reference, strict=True)
    }
    peaks: dict[str, float] = {}
    for window in report.windows:
        for name, share in window.shares.items():
            peaks[name] = max(peaks.get(name, 0.0), share)
    names = sorted(peaks, key=lambda name: -peaks[name])[:CLASSES]
    for name, look in zip(sorted(names), cycle(_LINES), strict=False):
        points = [(_middle(one), one.shares.get(name, 0.0)) for one in report.windows]
        _line(axes, points, look, cut(plain(name), 44))
        if name in reference:
            axes.plot(
                0, reference[name], ">", color=look[0], markersize=9, clip_on=False,
                markeredgecolor=INK, markeredgewidth=0.6, transform=axes.get_yaxis_transform(),
            )  # fmt: skip
    axes.set_ylim(0, max(*(peaks[name] for name in names), *reference.values(), 0.01) * 1.06)
    axes.yaxis.set_major_formatter(percents())
    axes.set_ylabel("share of rows")
    axes.grid()
    _times(axes, report.windows)
    is_wide = sum(sorted(map(len, names))[-2:]) > 42  # letters that have room beside each other
    axes.legend(ncols=1 if is_wide else 2, **_ABOVE)


def _draw_shares(axes: Axes, bars: Sequence[tuple[str, float, float]]) -> None:
    """Each name, and below it two bars, the reference above the latest rows."""
    beside = axes.get_yaxis_transform()  # x in parts of the width
    looks: tuple[dict[str, Any], ...] = (
        {"facecolor": "none", "edgecolor": INK, "linewidth": 1.1, "label": "reference"},
        {"facecolor": BLUE, "label": "latest rows"},
    )
    for place, (name, *both) in enumerate(bars):
        axes.text(0.01, 3 * place, cut(name, 48), va="center", transform=beside)
        for line, (share, look) in enumerate(zip(both, looks, strict=True), 1):
            y = 3 * place + 0.9 * line
            axes.barh(y, share, 0.75, **look)
            axes.annotate(
                percent(share, 1), (share, y), xytext=(5, 0), textcoords="offset points",
                va="center", size=9,
            )  # fmt: skip
    axes.set_ylim(3 * len(bars) - 0.6, -0.8)
    axes.set_yticks([])
    axes.set_xlim(0, max(max(before, after) for _, before, after in bars) * 1.16)
    axes.xaxis.set_major_formatter(percents())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[:2], names[:2], ncols=2, **_ABOVE)


def _draw_parts(axes: Axes, given: Sequence[Part]) -> None:
    """The name of each part, and below it its share among those of all others."""
    beside = axes.get_yaxis_transform()  # x in parts of the width
    least = 1.0
    for place, one in enumerate(given):
        share = one.right.share
        if share is None:
            continue
        least = min(least, share.low)
        colour = ORANGE if one.is_real else INK
        name = f"{cut(plain(one.column), 16)}: {cut(plain(one.value), 26)}"
        rows = f"{one.right.of:,} rows{', real' if one.is_real else ''}"
        weight = "bold" if one.is_real else "normal"
        axes.text(0, place - 0.3, name, va="center", fontweight=weight, transform=beside)
        axes.text(1, place - 0.3, rows, va="center", ha="right", size=9, transform=beside)
        y = place + 0.12
        axes.hlines(y, share.low, share.high, color=colour, linewidth=2, alpha=0.8)
        axes.plot(share.value, y, "o", color=colour, markersize=6,
                  markerfacecolor=ORANGE if one.is_real else "none")  # fmt: skip
        if one.others is not None:
            least = min(least, one.others)
            axes.vlines(one.others, y - 0.2, y + 0.2, color=BLUE, linewidth=2.5)
    axes.set_xlim(max(least - 0.04 * (1 - least), -0.04), 1.02)
    axes.set_ylim(len(given) - 0.45, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(percents())
    axes.set_xlabel("share of answers that are right")
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _line(
    axes: Axes, points: Sequence[tuple[float, float]], look: tuple[str, str, Any], name: str
) -> None:
    if points:
        colour, marker, dash = look
        axes.plot(
            [time for time, _ in points], [value for _, value in points],
            color=colour, marker=marker, linestyle=dash, markersize=4.5, linewidth=1.6, label=name,
        )  # fmt: skip


def _middle(one: Window) -> float:
    return (one.start + one.end) / 2 / _DAY


def _times(axes: Axes, windows: Sequence[Window]) -> None:
    """A time axis that holds all windows, also those of one moment."""
    start, end = min(one.start for one in windows), max(one.end for one in windows)
    room = 0.03 * (end - start) if end - start > 1 else 60.0  # seconds
    axes.set_xlim((start - room) / _DAY, (end + room) / _DAY)
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time (UTC)")
    axes.set_axisbelow(True)


def _shares_up(axes: Axes) -> None:
    """A y axis of shares, up to a little above 1."""
    low, _ = axes.get_ylim()
    room = 0.04 * (1 - max(low, 0.0))
    axes.set_ylim(max(low, -room), 1 + max(room, 0.005))
    axes.yaxis.set_major_formatter(percents())
    axes.set_ylabel("share")
    axes.grid()
