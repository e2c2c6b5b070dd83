"""Pictures as SVG: colours, sizes, scales, legends and labels that all pictures share.

A picture needs no font of its own: text stays text, and the reader's browser sets it. The colours of Okabe and Ito
(2008) can be distinguished with any colour vision; shapes and dashes repeat what the colours say.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from callsieve.training.language import gettext, words

from .headline_list import CAUGHT

BLUE, VERMILLION, GREY, INK = "#0072B2", "#D55E00", "#767676", "#222222"

RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "callsieve",  # makes ids inside the file the same in every run
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # the name of a slice may be "$x$"
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
# No metadata that depends on the moment or the machine.
METADATA: dict[str, None] = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture for a wide page and one for a narrow page, as SVG text."""

    wide: str
    narrow: str


def svg(figure: Figure) -> str:
    """Returns a figure as SVG text; the same figure gives the same bytes."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # The font that measures the text may lack a character that the reader's browser has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, format="svg", metadata=METADATA)
    text = out.getvalue()
    return text[text.index("<svg") :]  # without the document type, which names a web address


def blank(narrow: bool, height: float = 0.0) -> tuple[Figure, Axes]:
    """Returns an empty picture, of the height of a curve by default; sizes in inches."""
    width, usual = (3.7, 3.4) if narrow else (5.8, 3.7)
    figure = Figure(figsize=(width, height or usual), layout="constrained")
    return figure, figure.add_subplot()


def caught_axis(ax: Axes) -> None:
    """Sets a horizontal axis of the catch rate."""
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    ax.set_xlabel(CAUGHT.label)


def error_axis(ax: Axes, left: float, ticks: Sequence[float]) -> None:
    """Sets a horizontal axis of the error, on a logarithmic scale from `left` to 1."""
    ax.set_xscale("log")
    ax.set_xlim(left, 1)
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
    ax.set_xlabel(gettext("innocent calls flagged (log scale)"))


def note(ax: Axes, x: float, text: str, side: str) -> None:
    """Draws a vertical line with its name above the curves."""
    ax.axvline(x, color=INK, lw=1, ls=":")
    ax.annotate(text, (x, 1.1), (-4 if side == "right" else 4, 0), textcoords="offset points", ha=side, va="center")


def shares(ax: Axes, label: str) -> None:
    """Sets a vertical axis from 0 to 100 %, with room for a note above."""
    ax.set_ylim(0, 1.17)
    ax.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    ax.set_ylabel(label)


def legend(ax: Axes) -> None:
    """Draws the legend above the picture, where it hides nothing."""
    ax.figure.legend(loc="outside upper left", ncols=2, handlelength=1.8, columnspacing=1.2, borderaxespad=0.2)


def named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Sets a vertical axis with one row per name, the first on top."""
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    ax.set_yticklabels(names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")


def percent(share: float) -> str:
    """Returns a share as a percentage without trailing zeros.

    >>> percent(1e-4), percent(0.5), percent(0.9999)
    ('0.01%', '50%', '99.99%')
    """
    return f"{100 * share:.6f}".rstrip("0").rstrip(".") + "%"


def short(name: str, most: int = 22) -> str:
    """Returns the name of a kind, cut to `most` characters to leave room for the picture."""
    full = " ".join(words(name).split())
    return full if len(full) <= most else full[: most - 1] + "…"


def moment(text: str) -> float:
    """Returns an ISO 8601 time as a position on a date axis."""
    return float(mdates.date2num(datetime.fromisoformat(text)))
