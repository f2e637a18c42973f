"""Pictures of a report: speeds, differences, and one against the other.

This module does not know the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from salver.optimization.fidelity import Fidelity
from salver.optimization.results import Candidate, Report
from salver.optimization.table import verdict
from salver.reports.svg import BLUE, GREEN, INK, ORANGE, apart, cut, figure, gallery, logarithmic
from salver.reports.terminal import plain

COLOURS = {"in use": GREEN, "passes": BLUE, "refused": ORANGE}
_DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_MARKERS = {"in use": "*", "passes": "o", "refused": "X"}

_Shown = list[tuple[Candidate, Fidelity, str]]  # with its verdict


def pictures(report: Report) -> str:
    """All of them, with captions, as HTML."""
    shown: _Shown = [
        (one, one.fidelity, verdict(report, one))
        for one in report.candidates
        # Answers of another shape differ by infinity, which no axis has a place for.
        if one.speed and one.fidelity and np.isfinite(one.fidelity.mean)
    ]
    if not shown:
        return "<p>No candidate answered in the original's form, so there is nothing to draw.</p>"
    limit = f"{report.gate.p99:g}"
    drawn = (
        (_speeds, 0.5 + 0.62 * len(shown), "Rows per second over the original's",
         "Longer is faster; the dashed line is the original."),
        (_differences, 3.4 + 0.22 * len(shown), "How many rows differ by how much",
         "For each difference, the share of rows that differ by more from the original. The gate "
         f"refuses a curve that enters the grey corner: more than 1% of rows beyond {limit}."),
        (_trade, 3.6, "Speed in batches against difference",
         "Up is faster, left is nearer to the original. The gate refuses what lies in the grey "
         f"area, beyond a 99th percentile of {limit}; it may refuse others for other reasons."),
    )  # fmt: skip
    return gallery(
        figure(draw.__name__, _on_axes(draw, shown, report), height, title, caption)
        for draw, height, title, caption in drawn
    )


def _on_axes(
    draw: Callable[[Axes, _Shown, Report], None], shown: _Shown, report: Report
) -> Callable[[Figure], None]:
    return lambda drawn: draw(drawn.subplots(), shown, report)


def _speeds(axes: Axes, shown: _Shown, report: Report) -> None:
    """Two bars for each candidate below its name, with their numbers in a column at the right."""
    beside = axes.get_yaxis_transform()  # x in parts of the width
    for place, (one, _, what) in enumerate(shown):
        axes.text(
            0,
            3 * place,
            f" {_short(one)} ({what})",
            va="center",
            fontweight="bold",
            transform=beside,
        )
        ratios = ((one.single_ratio, "one row", 0.5), (one.batched_ratio, "in batches", 1))
        for line, (ratio, words, alpha) in enumerate(ratios, 1):
            y = 3 * place + 0.85 * line
            axes.barh(y, ratio, height=0.75, color=COLOURS[what], alpha=alpha)
            axes.text(1, y, f"{ratio:.2f}x {words}", ha="right", va="center", transform=beside)
        axes.vlines(1, y - 1.3, y + 0.45, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    most = max(max(one.single_ratio, one.batched_ratio, 1) for one, _, _ in shown)
    axes.set_xlim(0, most * 1.4)  # room for the numbers
    axes.set_ylim(3 * len(shown) - 0.6, -0.7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _differences(axes: Axes, shown: _Shown, report: Report) -> None:
    """Share of rows beyond each difference, both axes logarithmic."""
    low, high = _span(report, [found.differences for _, found, _ in shown])
    for place, (one, found, what) in enumerate(shown):
        order = np.sort(found.differences)[::-1]
        # Ranks spread evenly over a logarithmic axis: as good as all, and a hundredth of the file.
        ranks = np.unique(np.geomspace(1, len(order), 150).astype(int))
        x, y = order[ranks - 1], ranks / len(order)
        label = f"{_short(one)} ({what})" + ("" if x.max() > 0 else ": no difference")
        axes.plot(
            np.maximum(x, low / 10),
            y,
            color=COLOURS[what],
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=1.8,
            label=label,
        )
    axes.set_xlim(low, high)
    least = 0.5 / max(found.rows for _, found, _ in shown)
    axes.set_ylim(min(least, 0.005), 1.3)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:g}%"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("rows beyond")
    axes.fill_between([report.gate.p99, high], 0.01, 1.3, color=INK, alpha=0.12, linewidth=0)
    _limited(axes, "largest difference in a row", report)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), handlelength=3)


def _trade(axes: Axes, shown: _Shown, report: Report) -> None:
    """A point for each candidate, named; those without any difference stand at the left edge."""
    low, high = _span(report, [np.array([found.p99]) for _, found, _ in shown])
    ratios = [one.batched_ratio for one, _, _ in shown]
    bottom, top = min(*ratios, 0.9), max(*ratios, 1.1)
    room = top - bottom
    heights = apart(ratios, room * 0.09)
    axes.set_xlim(low / 3, high)
    axes.set_ylim(bottom - room * 0.1, max(top, *heights) + room * 0.1)
    axes.axvspan(report.gate.p99, high, color=INK, alpha=0.12, linewidth=0)
    axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for (one, found, what), height in zip(shown, heights, strict=True):
        x = max(found.p99, low)
        axes.plot(x, one.batched_ratio, _MARKERS[what], color=COLOURS[what], markersize=9)
        left = x > np.sqrt(low * high)
        axes.annotate(
            _short(one),
            (x, one.batched_ratio),
            xytext=(x * 0.72 if left else x * 1.4, height),
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkA": 0},
            ha="right" if left else "left",
            va="center",
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    _limited(axes, "99th percentile of the largest difference in a row", report)


def _span(report: Report, differences: Iterable[np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds these and the limit."""
    found = np.concatenate([report.gate.p99 * np.array([0.1, 3]), *differences])
    found = found[np.isfinite(found) & (found > 1e-10)]
    return float(found.min()), float(found.max() * 2)


def _limited(axes: Axes, words: str, report: Report) -> None:
    """Makes the x axis logarithmic, with a line at the gate's limit."""
    axes.axvline(report.gate.p99, color=INK, linewidth=1)
    logarithmic(axes, words)


def _short(one: Candidate) -> str:
    return cut(plain(one.name))
