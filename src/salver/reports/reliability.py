"""The reliability diagram of a report: how sure a model is against how often it is right.

This module does not know where the bins come from, nor the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from salver.reports.svg import INK, figure, percents, up_to_all
from salver.trust.quality import Bin


class Series(NamedTuple):
    """Bins of a reliability diagram, one or more, and how they look.

    Attributes:
        name: Plain text, for the legend.
        bins: Those that hold rows, by rising confidence.
        colour: Of its line and its counts.
        marker: As matplotlib calls it.
    """

    name: str
    bins: Sequence[Bin]
    colour: str
    marker: str


def reliability_diagram(series: Sequence[Series]) -> str:
    """The diagram with its caption, as HTML; below it a row of counts for each series.

    Confidence against the share that is right, as DeGroot & Fienberg (1983) draw it.

    Args:
        series: At least one.
    """
    return figure(
        "reliability",
        lambda to: _draw(to, series),
        4.0 + 0.55 * len(series),
        "Is confidence honest?",
        "Each mark is a tenth of the range of confidence: how sure the model is there, on average, "
        "and how often it is right. On the dashed line both are the same; below it the model is too "
        "sure of itself. The bars are 95% intervals (Wilson 1927), below stands how many rows are "
        "in each tenth.",
    )


def _draw(to: Figure, series: Sequence[Series]) -> None:
    above, below = to.subplots(
        2, sharex=True, gridspec_kw={"height_ratios": [3.3, 0.55 * len(series)], "hspace": 0.02}
    )
    above.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for each in series:
        right = [one.right for one in each.bins]
        reach = [[one.value - one.low for one in right], [one.high - one.value for one in right]]
        above.errorbar(
            [one.confidence for one in each.bins], [one.value for one in right], reach,
            color=each.colour, marker=each.marker, markersize=6, linewidth=1.6, elinewidth=1.2,
            capsize=2.5, label=each.name,
        )  # fmt: skip
    bins = [one for each in series for one in each.bins]
    least = min(one.low for one in bins)
    above.set_xlim(least - 0.01, 1.01)
    up_to_all(above, least, *(one.right.low for one in bins))
    above.set_ylabel("share that is right")
    above.yaxis.set_major_formatter(percents())
    above.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=2, handlelength=1.6)
    above.grid()
    above.set_axisbelow(True)
    _counts(below, series)


def _counts(axes: Axes, series: Sequence[Series]) -> None:
    """A row of bars for each series, the first at the top, each bar with its number of rows."""
    most = max(one.count for each in series for one in each.bins)
    for line, each in enumerate(reversed(series)):
        for one in each.bins:
            x, height = (one.low + one.high) / 2, 0.55 * one.count / most
            axes.bar(x, height, width=0.085, bottom=line, color=each.colour, alpha=0.8)
            axes.text(x, line + height + 0.03, _short(one.count), ha="center", va="bottom", size=9)
    axes.set_ylim(0, len(series))
    axes.set_yticks([])
    axes.set_ylabel("rows")
    axes.set_xlabel("confidence")
    axes.xaxis.set_major_formatter(percents())


def _short(count: int) -> str:
    """So that ten of them fit beside each other."""
    return f"{count:,}" if count < 100_000 else f"{count / 1000:,.0f}k"
