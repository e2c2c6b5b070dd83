"""The pictures of the report: each drawn twice, for a wide and for a narrow page, as an SVG in a data URI.

No picture needs a font of its own: text stays text, and the reader's browser sets it. Colours are those of Okabe and
Ito (2008), told apart by people with any colour vision; shape or dash says the same again.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

BLUE, VERMILLION, GREY, INK = "#0072B2", "#D55E00", "#767676", "#222222"
STYLES = {"model": (BLUE, "-", "o", "callsieve"), "rule": (GREY, "--", "s", "rule on calls per hour")}
MEAN_LIFE = 328
"""Calls that a nuisance number makes in its life, on average (TouchPal users' marks, 2016)."""

RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "callsieve",  # ids inside the file are the same in every run
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a slice may be called "$x$"
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
# Nothing that changes from one run or machine to the next.
METADATA: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture for a wide page and one for a narrow one, as SVG text."""

    wide: str
    narrow: str


def pictures(figures: Mapping[str, Any]) -> dict[str, Picture]:
    """Every picture whose figures are there, by name."""
    found = {}
    with mpl.rc_context(RC), warnings.catch_warnings():
        # The font that measures the text may lack a sign that the reader's browser has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for name, (ready, draw) in DRAWN.items():
            if ready(figures):
                found[name] = Picture(svg(draw(figures, False)), svg(draw(figures, True)))
    return found


def svg(figure: Figure) -> str:
    """A figure as SVG text; the same figure gives the same bytes."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=METADATA)
    text = out.getvalue()
    return text[text.index("<svg") :]  # without the address of a document type


def blank(narrow: bool, height: float) -> tuple[Figure, Axes]:
    """An empty picture; sizes in inches."""
    figure = Figure(figsize=(3.7 if narrow else 5.8, height), layout="constrained")
    return figure, figure.add_subplot()


def error_curve(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Catch rate against benign error, and where the thresholds lie."""
    figure, ax = blank(narrow, 3.4 if narrow else 3.7)
    heads = figures.get("headline") or {}
    calls = (heads.get("model") or {}).get("benign_calls") or 10**6
    left = 10.0 ** min(math.floor(-math.log10(calls)), -5)
    note(ax, 1e-4, "1 in 10,000", "left")
    for who, points in figures["curve"].items():
        colour, dash, mark, label = STYLES[who]
        ax.plot([max(x, left) for x, _ in points], [y for _, y in points], dash, color=colour, label=label)
        if heads.get(who):
            operating_point(ax, heads[who], left, colour, mark)
    ax.set_xscale("log")
    ax.set_xlim(left, 1)
    decades = list(range(round(math.log10(left)), 1))
    ax.xaxis.set_major_locator(FixedLocator([10.0**n for n in decades[:: 2 if narrow else 1]]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
    ax.set_xlabel("innocent calls flagged (logarithmic)")
    shares(ax, "nuisance calls caught")
    legend(ax)
    return figure


def operating_point(ax: Axes, told: Mapping[str, Any], left: float, colour: str, mark: str) -> None:
    """The threshold in use: seen error to its bound, catch rate with its interval."""
    seen = max(told["false_calls"] / max(told["benign_calls"], 1), left)
    caught = told["catch"]["call"]
    if caught["rate"] is None:
        return
    if told["bound"] is not None:
        whisker(ax, [seen, told["bound"]], [caught["rate"]] * 2, "|", colour)
    if caught["low"] is not None and caught["high"] is not None:
        whisker(ax, [seen] * 2, [caught["low"], caught["high"]], "_", colour)
    ax.plot(seen, caught["rate"], mark, color=colour, ms=6, mec="white", mew=0.8, clip_on=False, zorder=5)


def whisker(ax: Axes, x: Sequence[float], y: Sequence[float], cap: str, colour: str) -> None:
    """An interval with a cap at either end."""
    ax.plot(x, y, "-", marker=cap, color=colour, lw=1.5, ms=9, mew=1.5, clip_on=False, zorder=4)


def detection_curve(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Share of nuisance numbers found within n calls of their life."""
    figure, ax = blank(narrow, 3.4 if narrow else 3.7)
    told = figures["detection_curve"]
    for who in ("model", "rule"):
        if told.get(who):
            colour, dash, _, label = STYLES[who]
            ax.step(told["calls"], told[who], dash, where="post", color=colour, label=label)
    told_of = "a mean life" if narrow else "mean life of a nuisance number (TouchPal 2016)"
    note(ax, MEAN_LIFE, f"{MEAN_LIFE} calls: {told_of}", "right")
    ax.set_xscale("log")
    ax.set_xlim(1, max(1000, told["calls"][-1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel("calls that the number has made (logarithmic)")
    shares(ax, "nuisance numbers found")
    legend(ax)
    return figure


def benign_slices(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Error of each benign slice: seen, and the bound that is certified or not."""
    rows = [one for one in figures["slices"] if not one["nuisance"]]
    rows.sort(key=lambda one: 2.0 if one["bound"] is None else one["bound"])
    figure, ax = blank(narrow, 1.3 + 0.42 * len(rows))
    seen = [one["flagged"] / one["calls"] if one["calls"] else 0.0 for one in rows]
    bounds = [1.0 if one["bound"] is None else one["bound"] for one in rows]
    left = 10.0 ** (math.floor(math.log10(max(min([*bounds, 1e-4, *(x for x in seen if x)]), 1e-9))) - 0.5)
    for y, (one, rate, bound) in enumerate(zip(rows, seen, bounds, strict=True)):
        colour = BLUE if one["certified"] else VERMILLION
        ax.plot([max(rate, left), bound], [y, y], color=colour, lw=1.5, alpha=0.6)
        if rate:
            ax.plot(rate, y, "|", color=colour, ms=9, mew=2)
        ax.plot(bound, y, "o" if one["certified"] else "D", color=colour, ms=7, clip_on=False)
    target = next((band["target"] for band in figures.get("bands") or ()), 1e-4)
    ax.axvline(target, color=INK, lw=1, ls=":")
    ax.plot([], [], "o", color=BLUE, ms=7, label="bound, certified")
    ax.plot([], [], "D", color=VERMILLION, ms=7, label="bound, not certified")
    ax.plot([], [], "|", color=GREY, ms=9, mew=2, label="error seen")
    ax.plot([], [], ":", color=INK, lw=1, label=f"target, {percent(target)}")
    ax.set_xscale("log")
    ax.set_xlim(left, 1)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator([10.0**n for n in range(-8, 1, 2 if narrow else 1) if 10.0**n > left]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
    ax.set_xlabel("innocent calls flagged (logarithmic)")
    named_rows(ax, [f"{short(one['slice'])}\n{one['flagged']:,} of {one['calls']:,}" for one in rows])
    legend(ax)
    return figure


def nuisance_slices(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Catch rate of each nuisance slice with its interval."""
    rows = sorted((one for one in figures["slices"] if one["nuisance"]), key=lambda one: -(one["rate"] or 0.0))
    figure, ax = blank(narrow, 0.9 + 0.42 * len(rows))
    rates = [one["rate"] or 0.0 for one in rows]
    ax.barh(range(len(rows)), rates, color=BLUE, alpha=0.55, height=0.55)
    for y, one in enumerate(rows):
        if one["low"] is not None and one["high"] is not None:
            whisker(ax, [one["low"], one["high"]], [y, y], "|", INK)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    ax.set_xlabel("nuisance calls caught, with 95% interval")
    named_rows(ax, [f"{short(one['slice'])}\n{one['calls']:,} calls" for one in rows])
    return figure


def reliability(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Probability told against what came true, on scales that open both ends."""
    figure, ax = blank(narrow, 3.4 if narrow else 3.7)
    edge = 1e-4
    line = (edge, 0.5, 1 - edge)
    ax.plot(line, line, ":", color=INK, lw=1, label="as told")
    bins = figures["reliability"]["bins"]
    for one in bins:
        x, y = (min(max(one[word], edge), 1 - edge) for word in ("predicted", "observed"))
        fill = BLUE if 0 < one["observed"] < 1 else "white"
        ax.plot(x, y, "o", color=BLUE, mfc=fill, ms=7, clip_on=False, zorder=4)
    ax.plot([], [], "o", color=BLUE, ms=7, label="calls of like score")
    ticks = (1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 1e-4)
    for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        scale("logit")
        axis.set_major_locator(FixedLocator(ticks[::2] if narrow else ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
    ax.set_xlim(edge, 1 - edge)
    ax.set_ylim(edge, 1 - edge)
    ax.set_xlabel("probability told (logit scale)")
    ax.set_ylabel("share that was nuisance")
    legend(ax)
    return figure


def time_line(figures: Mapping[str, Any], narrow: bool) -> Figure:
    """Folds in time."""
    figure, ax = blank(narrow, 1.9)
    told = figures["folds"]
    rows = [(name, label) for name, label in FOLD_WORDS if told.get(name)]
    for y, (name, _) in enumerate(rows):
        begin, end = (moment(text) for text in told[name])
        ax.barh(y, end - begin, left=begin, height=0.6, color=BLUE, alpha=(0.3, 0.6, 1.0)[y])
    if told.get("label_cutoff"):
        cutoff = moment(told["label_cutoff"])
        ax.axvline(cutoff, color=VERMILLION, ls="--", lw=1.5, label="last report that training may know")
        legend(ax)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=4 if narrow else 8, interval_multiples=False)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.DateFormatter("%d %b" if narrow else "%d %b %Y"))
    named_rows(ax, [label for _, label in rows])
    return figure


FOLD_WORDS = (("train", "learn"), ("choose", "choose threshold"), ("certify", "certify"))

Draw = Callable[[Mapping[str, Any], bool], Figure]
DRAWN: dict[str, tuple[Callable[[Mapping[str, Any]], Any], Draw]] = {
    "errors": (lambda f: f.get("curve"), error_curve),
    "detection": (lambda f: f.get("detection_curve"), detection_curve),
    "benign": (lambda f: any(not one["nuisance"] for one in f.get("slices") or ()), benign_slices),
    "nuisance": (lambda f: any(one["nuisance"] for one in f.get("slices") or ()), nuisance_slices),
    "reliability": (lambda f: (f.get("reliability") or {}).get("bins"), reliability),
    "folds": (lambda f: f.get("folds"), time_line),
}


def note(ax: Axes, x: float, text: str, side: str) -> None:
    """A line across the picture with its name at the top, clear of every curve."""
    ax.axvline(x, color=INK, lw=1, ls=":")
    ax.annotate(text, (x, 1.1), (-4 if side == "right" else 4, 0), textcoords="offset points", ha=side, va="center")


def shares(ax: Axes, label: str) -> None:
    """A vertical axis from 0 to 100 %, with room for a note above."""
    ax.set_ylim(0, 1.17)
    ax.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    ax.set_ylabel(label)


def legend(ax: Axes) -> None:
    """Above the picture, where it hides nothing."""
    ax.figure.legend(loc="outside upper left", ncols=2, handlelength=1.8, columnspacing=1.2, borderaxespad=0.2)


def named_rows(ax: Axes, names: Sequence[str]) -> None:
    """One row a name, the first on top."""
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    ax.set_yticklabels(names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")


def percent(share: float) -> str:
    """A share as people write it.

    >>> percent(1e-4), percent(0.5), percent(0.9999)
    ('0.01%', '50%', '99.99%')
    """
    return f"{100 * share:.6f}".rstrip("0").rstrip(".") + "%"


def words(name: str) -> str:
    """The name of a slice as words."""
    return name.replace("_", " ")


def short(name: str) -> str:
    """The name of a slice, cut so that room is left for the picture."""
    full = " ".join(words(name).split())
    return full if len(full) <= 22 else full[:21] + "…"


def moment(text: str) -> float:
    """An ISO time as a place on a date axis."""
    return float(mdates.date2num(datetime.fromisoformat(text)))
