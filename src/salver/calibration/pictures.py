"""Pictures of a model's confidence: honest or not, what it costs to be right, and novelty.

This module does not know the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from salver.calibration.results import Report
from salver.calibration.table import OWN, called
from salver.reports.reliability import Series, reliability_diagram
from salver.reports.svg import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    apart,
    cut,
    figure,
    gallery,
    logarithmic,
    percents,
    up_to_all,
)
from salver.reports.terminal import plain

_Array = np.ndarray[Any, Any]
_Z = 1.96  # standard deviations on each side that hold 95 %
_NOVELTY_BINS = 40


class _Mark(NamedTuple):
    """A policy in a picture: its number in the table, share answered, and precision."""

    number: int
    name: str
    answered: float
    precision: float


def pictures(report: Report) -> str:
    """All that there are numbers for, with captions, as HTML; nothing if there are none."""
    drawn = []
    if series := _series(report):
        drawn.append(reliability_diagram(series))
    if len(report.confidences):
        drawn.append(_coverage(report))
    if len(report.novelties):
        drawn.append(_novelty(report))
    return gallery(drawn) if drawn else ""


def curve(
    confidences: Sequence[float], rights: Sequence[bool]
) -> tuple[_Array, _Array, _Array, _Array]:
    """Share answered and precision for each limit on confidence, with the ends of its interval.

    Rows of one confidence are answered together. The interval is Wilson's (1927).

    Args:
        confidences: Sorted, n of them.
        rights: Whether the model was right, in the same order.

    Returns:
        Four arrays of shape (m,), from the highest limit to the lowest; m is up to 300.
    """
    sure = np.asarray(confidences, dtype=np.float64)[::-1]
    hits = np.cumsum(np.asarray(rights, dtype=np.float64)[::-1])
    is_end = np.append(sure[1:] != sure[:-1], True)
    counts = np.arange(1, len(sure) + 1)[is_end]
    share, wide = hits[is_end] / counts, _Z**2 / counts
    middle = (share + wide / 2) / (1 + wide)
    reach = _Z / (1 + wide) * np.sqrt((share * (1 - share) + wide / 4) / counts)
    # As many points as can be seen; the first rows make the largest steps.
    shown = np.unique(np.geomspace(1, len(counts), 300).astype(int)) - 1
    found = (
        counts / len(sure),
        share,
        np.maximum(middle - reach, 0),
        np.minimum(middle + reach, 1),
    )
    return tuple(one[shown] for one in found)


def _coverage(report: Report) -> str:
    marks = [
        _Mark(number, cut(plain(one.name), 44), one.answered.value, one.precision.value)
        for number, one in enumerate(report.policies, 1)
        if one.answered and one.precision
    ]
    caption = (
        "If only the surest rows are answered, the answers are more often right (El-Yaniv & Wiener "
        "2010): the curve is the share of right answers as the limit on confidence moves, with its "
        "95% interval at each point."
    )
    if marks:
        caption += (
            " Marks are policies on rows that their limits were not chosen on, by their numbers in "
            "the table."
        )
    return figure(
        "coverage",
        lambda to: _draw_coverage(to, report, marks),
        3.6 + 0.22 * len(marks),
        "Precision against share answered",
        caption,
    )


def _novelty(report: Report) -> str:
    strange = " and rows of other kinds" if report.strange else ""
    return figure(
        "novelty",
        lambda to: _draw_novelty(to, report),
        3.4,
        "How novel rows are",
        f"How novel held-out rows{strange} are. At 1 lies the 95% quantile of ordinary rows; what is "
        "far to the right is unlike anything that the model was trained on.",
    )


def _series(report: Report) -> list[Series]:
    own = Series("its own probability", report.reliability_before, ORANGE, "o")
    if report.calibrator == OWN:
        return [own] if own.bins else []
    name = f"calibrated ({called(report.calibrator)})"
    both = (own, Series(name, report.reliability_after, GREEN, "s"))
    return [one for one in both if one.bins]


def _draw_coverage(to: Figure, report: Report, marks: Sequence[_Mark]) -> None:
    axes = to.subplots()
    shares, precision, low, high = curve(report.confidences, report.rights)
    axes.fill_between(shares, low, high, color=BLUE, alpha=0.18, linewidth=0)
    # Where all rows are equally sure there is one limit, and a line of one point is not seen.
    axes.plot(shares, precision, "o-" if len(shares) == 1 else "-", color=BLUE, linewidth=1.8)
    bottom = max(min([*precision, *(one.precision for one in marks)]) - 0.06, 0.0)
    heights = apart([one.precision for one in marks], (1.03 - bottom) * 0.075)
    for one, height in zip(marks, heights, strict=True):
        point = (one.answered, one.precision)
        axes.plot(*point, "D", color=ORANGE, markersize=6, label=f"{one.number}. {one.name}")
        axes.annotate(
            str(one.number),
            point,
            xytext=(one.answered + 0.03, height),
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkA": 0},
            va="center",
            fontweight="bold",
        )
    axes.set_xlim(0, 1.07)
    up_to_all(axes, bottom, *heights)
    axes.xaxis.set_major_formatter(percents())
    axes.yaxis.set_major_formatter(percents())
    axes.set_xlabel("share of rows answered")
    axes.set_ylabel("share of answers that are right")
    axes.grid()
    axes.set_axisbelow(True)
    if marks:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.16), handlelength=1)


def _draw_novelty(to: Figure, report: Report) -> None:
    axes = to.subplots()
    given: list[tuple[str, Sequence[float], Any]] = [("held-out rows", report.novelties, "-")]
    given += [(one.name, one.novelties, (0, (5, 2))) for one in report.strange]
    groups = [
        (cut(plain(name)), np.asarray(values, dtype=np.float64), colour, dash)
        for (name, values, dash), colour in zip(given, cycle((BLUE, ORANGE, GREEN, INK)))
        if len(values)
    ]
    edges, is_logarithmic = _edges(np.concatenate([values for _, values, _, _ in groups]))
    for name, values, colour, dash in groups:
        inside = np.clip(values, edges[0], edges[-1])  # what lies beyond is counted at the edge
        shares = np.histogram(inside, edges)[0] / len(values)
        axes.stairs(shares, edges, color=colour, fill=True, alpha=0.3)
        axes.stairs(
            shares, edges, color=colour, linewidth=1.6, linestyle=dash,
            label=f"{name} ({len(values):,})",
        )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylabel("share of them")
    axes.yaxis.set_major_formatter(percents())
    if is_logarithmic:
        logarithmic(axes, "novelty")
        if edges[-1] / edges[0] < 1000:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.set_xlabel("novelty")
        axes.grid()
        axes.set_axisbelow(True)
    axes.set_xlim(edges[0], edges[-1])
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=2)


def _edges(values: _Array) -> tuple[_Array, bool]:
    """Edges of bins that hold all that is finite, and whether they are evenly spread as logarithms."""
    finite = values[np.isfinite(values)]
    least, most = min(finite.min(initial=1), 0.9), max(finite.max(initial=1), 1.1)
    if most < 10 or least < 0:
        return np.linspace(min(least, 0), most * 1.02, _NOVELTY_BINS + 1), False
    # Zero has no logarithm, and a few rows next to it would fill the picture with emptiness.
    least = max(least, float(np.quantile(finite, 0.001)), 1e-3)
    return np.geomspace(min(least, 0.9), most * 1.05, _NOVELTY_BINS + 1), True
