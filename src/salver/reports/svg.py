"""Pictures of a report, as SVG for a page: how they look, and their captions.

Lines and letters have the colour of the text around them, so that they can be read on light and on
dark ground. This module does not know what is drawn, nor the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

INK = "#123456"  # stands for the colour of the text, which matplotlib has no name for
GREEN, BLUE, ORANGE = "#009E73", "#3A8FCB", "#D55E00"  # Okabe and Ito's kind
_WIDTH = 5.2  # inches: a telephone shrinks it by a quarter, and letters can still be read
_STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters, in the font of the page
    "svg.hashsalt": "salver",  # the same numbers give the same bytes
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def gallery(figures: Iterable[str]) -> str:
    """Pictures beside each other where there is room, as HTML."""
    return f'<div class="pictures">{"".join(figures)}</div>'


def figure(
    name: str, draw: Callable[[Figure], None], height: float, title: str, caption: str
) -> str:
    """One picture with its title and caption, as HTML.

    Args:
        name: Of letters and digits; no other picture of the page has it.
        draw: Draws it. What has the colour `INK` gets that of the text of the page.
        height: Inches; all are equally wide.
        title: Plain text.
        caption: Plain text.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        drawn = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(drawn)
        with warnings.catch_warnings():
            # Letters stay letters, so it is the page's font that must have them.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :].replace(INK, "currentColor")
    svg = re.sub("<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names within a picture are names of the whole page, and each picture counts from 1.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)
    title, caption = escape(title, quote=False), escape(caption, quote=False)
    said = f"{title}. {caption}".replace('"', "&quot;")
    head = f'<svg role="img" aria-label="{said}" '
    svg = svg.replace("<svg ", head, 1).replace(">", f"><title>{title}</title>", 1)
    return f"<figure><strong>{title}</strong>{svg}<figcaption>{caption}</figcaption></figure>"


def logarithmic(axes: Axes, words: str) -> None:
    """Makes the x axis logarithmic, says so after its name, and draws a grid.

    Args:
        axes: To change.
        words: Name of the axis.
    """
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("e-0", "e-")))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{words} (logarithmic)")
    axes.grid()
    axes.set_axisbelow(True)


def percents() -> FuncFormatter:
    """Percent for an axis of shares; room below 0 and above 100 is for letters and marks alone."""
    return FuncFormatter(lambda share, _: f"{share * 100:g}%" if -1e-9 < share < 1.0001 else "")


def up_to_all(axes: Axes, *shares: float) -> None:
    """Makes the y axis one of shares, from a little below the least given to a little above 1.

    Args:
        axes: To change.
        shares: What has to be on it; places of letters may lie above 1.
    """
    room = 0.04 * (1 - min(shares))
    axes.set_ylim(max(min(shares) - room, -room), max(1.0, *shares) + room)


def cut(name: str, length: int = 36) -> str:
    """A name, so that it leaves room for the picture."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def apart(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved up where they are nearer to each other than `gap`."""
    placed: dict[int, float] = {}
    last = -np.inf
    for place in sorted(range(len(values)), key=lambda at: values[at]):
        last = placed[place] = max(values[place], last + gap)
    return [placed[place] for place in range(len(values))]
