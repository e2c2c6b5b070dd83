"""The pictures of a run, as SVG; each is drawn twice, for a wide and for a narrow page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib as mpl
import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from callsieve.training.judging.figures import Headline
from callsieve.training.judging.metrics import Slice
from callsieve.training.judging.run_figures import RunFigures, TopFeature
from callsieve.training.language import current_language, day, gettext, words
from callsieve.training.model.settings import TARGET

from .drawing import (
    BLUE,
    GREY,
    INK,
    RC,
    VERMILLION,
    Picture,
    blank,
    caught_axis,
    error_axis,
    legend,
    moment,
    named_rows,
    note,
    percent,
    shares,
    short,
    svg,
)
from .headline_list import CAUGHT
from .wording import is_counted, meaning, one_in

STYLES = {"model": (BLUE, "-", "o", "callsieve"), "rule": (GREY, "--", "s", "rule on calls per hour")}
MEAN_LIFE = 328
"""Mean number of calls in the life of a nuisance number (marked by TouchPal users, 2016)."""


def pictures(figures: RunFigures) -> dict[str, Picture]:
    """Returns every picture whose figures were measured, by name."""
    drawn = {}
    with mpl.rc_context(RC):
        for name, (measured, draw) in DRAWN.items():
            if measured(figures):
                drawn[name] = Picture(svg(draw(figures, False)), svg(draw(figures, True)))
    return drawn


def error_curve(figures: RunFigures, narrow: bool) -> Figure:
    """Draws the catch rate against the benign error, with the thresholds in use, also in each folder of data."""
    figure, ax = blank(narrow)
    heads = figures.get("headline")
    calls = heads["model"]["benign_calls"] if heads else 0
    left = 10.0 ** min(math.floor(-math.log10(calls or 10**6)), -5)
    target = heads["model"]["target"] if heads else TARGET
    note(ax, target, one_in(target), "left")
    for scorer, points in figures["curve"].items():
        colour, dash, marker, label = STYLES[scorer]
        ax.plot([max(x, left) for x, _ in points], [y for _, y in points], dash, color=colour, label=words(label))
        if heads:
            operating_point(ax, heads["model"] if scorer == "model" else heads["rule"], left, colour, marker)
    if worlds := figures.get("by_folder"):
        folders = gettext("each of %(folders)s data folders", folders=len(worlds))
        x, y = zip(*(observed(row["model"], left) for row in worlds), strict=True)
        ax.plot(x, y, "o", color=BLUE, ms=4, mfc="white", mew=1, clip_on=False, label=folders)
    error_axis(ax, left, [10.0**n for n in range(round(math.log10(left)), 1, 2 if narrow else 1)])
    shares(ax, CAUGHT.label)
    legend(ax)
    return figure


def operating_point(ax: Axes, head: Headline, left: float, colour: str, marker: str) -> None:
    """Draws the threshold in use: from observed error to its bound, and the catch rate with its interval."""
    error, _ = observed(head, left)
    catch = head["catch"]["call"]
    if catch["rate"] is None:
        return
    if head["bound"] is not None:
        whisker(ax, [error, head["bound"]], [catch["rate"]] * 2, "|", colour)
    if catch["low"] is not None and catch["high"] is not None:
        whisker(ax, [error] * 2, [catch["low"], catch["high"]], "_", colour)
    ax.plot(error, catch["rate"], marker, color=colour, ms=6, mec="white", mew=0.8, clip_on=False, zorder=5)


def observed(head: Headline, left: float) -> tuple[float, float]:
    """Returns the observed error, at least `left`, and the catch rate; NaN without nuisance calls."""
    rate = head["catch"]["call"]["rate"]
    return max(head["false_calls"] / max(head["benign_calls"], 1), left), math.nan if rate is None else rate


def whisker(ax: Axes, x: Sequence[float], y: Sequence[float], cap: str, colour: str) -> None:
    """Draws an interval with a cap at either end."""
    ax.plot(x, y, "-", marker=cap, color=colour, lw=1.5, ms=9, mew=1.5, clip_on=False, zorder=4)


def detection_curve(figures: RunFigures, narrow: bool) -> Figure:
    """Returns the share of nuisance numbers that are detected within n calls of their life."""
    figure, ax = blank(narrow)
    curve = figures["detection_curve"]
    for scorer, values in (("model", curve.get("model")), ("rule", curve.get("rule"))):
        if values:
            colour, dash, _, label = STYLES[scorer]
            ax.step(curve["calls"], values, dash, where="post", color=colour, label=words(label))
    life = gettext("mean life") if narrow else gettext("mean life of a nuisance number (TouchPal 2016)")
    note(ax, MEAN_LIFE, gettext("%(calls)s calls: %(meaning)s", calls=MEAN_LIFE, meaning=life), "right")
    ax.set_xscale("log")
    ax.set_xlim(1, max(1000, curve["calls"][-1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel(gettext("calls made by the number (log scale)"))
    shares(ax, gettext("nuisance numbers detected"))
    legend(ax)
    return figure


def benign_slices(figures: RunFigures, narrow: bool) -> Figure:
    """Returns the error of each benign slice: observed, and its bound with or without a certificate."""
    rows = [row for row in figures["slices"] if not row["nuisance"]]
    rows.sort(key=lambda row: 2.0 if row["bound"] is None else row["bound"])
    figure, ax = blank(narrow, 1.3 + 0.42 * len(rows))
    errors = [row["flagged"] / row["calls"] if row["calls"] else 0.0 for row in rows]
    bounds = [1.0 if row["bound"] is None else row["bound"] for row in rows]
    left = 10.0 ** (math.floor(math.log10(max(min([*bounds, 1e-4, *(x for x in errors if x)]), 1e-9))) - 0.5)
    for y, (row, error, bound) in enumerate(zip(rows, errors, bounds, strict=True)):
        colour = BLUE if row["certified"] else VERMILLION
        ax.plot([max(error, left), bound], [y, y], color=colour, lw=1.5, alpha=0.6)
        if error:
            ax.plot(error, y, "|", color=colour, ms=9, mew=2)
        ax.plot(bound, y, "o" if row["certified"] else "D", color=colour, ms=7, clip_on=False)
    target = next((band["target"] for band in figures.get("bands") or ()), TARGET)
    ax.axvline(target, color=INK, lw=1, ls=":")
    ax.plot([], [], "o", color=BLUE, ms=7, label=gettext("bound, certified"))
    ax.plot([], [], "D", color=VERMILLION, ms=7, label=gettext("bound, not certified"))
    ax.plot([], [], "|", color=GREY, ms=9, mew=2, label=gettext("observed error"))
    ax.plot([], [], ":", color=INK, lw=1, label=gettext("target, %(share)s", share=percent(target)))
    error_axis(ax, left, [10.0**n for n in range(-8, 1, 2 if narrow else 1) if 10.0**n > left])
    named_rows(ax, [f"{short(row['slice'])}\n{part_of(row['flagged'], row['calls'])}" for row in rows])
    legend(ax)
    return figure


def nuisance_slices(figures: RunFigures, narrow: bool) -> Figure:
    """Draws the catch rate of each nuisance slice with its interval."""
    rows = sorted((row for row in figures["slices"] if row["nuisance"]), key=lambda row: -(row["rate"] or 0.0))
    figure, ax = blank(narrow, 0.9 + 0.42 * len(rows))
    rates = [row["rate"] or 0.0 for row in rows]
    ax.barh(range(len(rows)), rates, color=BLUE, alpha=0.55, height=0.55)
    for y, row in enumerate(rows):
        if row["low"] is not None and row["high"] is not None:
            whisker(ax, [row["low"], row["high"]], [y, y], "|", INK)
    caught_axis(ax)
    named_rows(ax, [f"{short(row['slice'])}\n{basis_of(row)}" for row in rows])
    return figure


def reliability(figures: RunFigures, narrow: bool) -> Figure:
    """Draws the predicted probability against the observed share, on logit scales that spread both ends."""
    figure, ax = blank(narrow)
    edge = 1e-4
    line = (edge, 0.5, 1 - edge)
    ax.plot(line, line, ":", color=INK, lw=1, label=gettext("perfect calibration"))
    for bin_ in figures["reliability"]["bins"]:
        x, y = (min(max(value, edge), 1 - edge) for value in (bin_["predicted"], bin_["observed"]))
        fill = BLUE if 0 < bin_["observed"] < 1 else "white"
        ax.plot(x, y, "o", color=BLUE, mfc=fill, ms=7, clip_on=False, zorder=4)
    ax.plot([], [], "o", color=BLUE, ms=7, label=gettext("calls with similar scores"))
    ticks = (1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 1e-4)
    for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        scale("logit")
        axis.set_major_locator(FixedLocator(ticks[::2] if narrow else ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
    ax.set_xlim(edge, 1 - edge)
    ax.set_ylim(edge, 1 - edge)
    ax.set_xlabel(gettext("predicted probability (logit scale)"))
    ax.set_ylabel(gettext("observed share of nuisance"))
    legend(ax)
    return figure


def time_line(figures: RunFigures, narrow: bool) -> Figure:
    """Returns the folds in time, with the label cutoff."""
    figure, ax = blank(narrow, 1.9)
    folds = figures["folds"]
    spans = (
        (folds["train"], gettext("train")),
        (folds["choose"], gettext("choose threshold")),
        (folds["certify"], gettext("certify")),
    )
    for y, (span, _) in enumerate(spans):
        begin, end = (moment(text) for text in span)
        ax.barh(y, end - begin, left=begin, height=0.6, color=BLUE, alpha=(0.3, 0.6, 1.0)[y])
    if folds["label_cutoff"]:
        cutoff = moment(folds["label_cutoff"])
        ax.axvline(
            cutoff, color=VERMILLION, ls="--", lw=1.5, label=gettext("label cutoff: later complaints are not used")
        )
        legend(ax)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=4 if narrow else 8, interval_multiples=False)
    # Without it, spans of 85 to 90 days have no interval: too long for few ticks of days, too short for months.
    locator.intervald[mdates.DAILY] = [*locator.intervald[mdates.DAILY], 28]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: day(mdates.num2date(x), year=not narrow)))
    ax.set_xlabel(gettext("day of the calls (UTC)"))
    named_rows(ax, [label for _, label in spans])
    return figure


def precision_curve(figures: RunFigures, narrow: bool) -> Figure:
    """Draws precision against the catch rate, at the share of nuisance among the judged calls, and the point in use."""
    figure, ax = blank(narrow)
    counts = figures["outcomes"]
    nuisance = counts["nuisance_flagged"] + counts["nuisance_passed"]
    innocent = counts["innocent_flagged"] + counts["innocent_passed"]
    for scorer, points in figures["curve"].items():
        colour, dash, _, label = STYLES[scorer]
        caught = [(y, nuisance * y / (nuisance * y + innocent * x)) for x, y in points if y > 0]
        ax.plot([y for y, _ in caught], [precision for _, precision in caught], dash, color=colour, label=words(label))
    if counts["nuisance_flagged"]:
        precision = counts["nuisance_flagged"] / (counts["nuisance_flagged"] + counts["innocent_flagged"])
        ax.plot(counts["nuisance_flagged"] / nuisance, precision, "o", color=BLUE, ms=6, mec="white", clip_on=False)
    caught_axis(ax)
    shares(ax, gettext("flagged calls that are nuisance"))
    legend(ax)
    return figure


def score_histogram(figures: RunFigures, narrow: bool) -> Figure:
    """Draws the judged calls by score on a logarithmic scale, with the threshold."""
    figure, ax = blank(narrow)
    counts = figures["histogram"]
    ax.stairs(counts["innocent"], counts["edges"], color=GREY, ls="--", lw=2, label=gettext("innocent calls"))
    ax.stairs(counts["nuisance"], counts["edges"], color=BLUE, lw=2, label=gettext("nuisance calls"))
    ax.axvline(0, color=INK, lw=1, ls=":", label=gettext("threshold"))
    ax.set_yscale("log")
    ax.set_ylim(0.7)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    ax.set_xlabel(gettext("raw score above the threshold (log-odds)"))
    ax.set_ylabel(gettext("calls (log scale)"))
    legend(ax)
    return figure


def learning_curve(figures: RunFigures, narrow: bool) -> Figure:
    """Draws the loss on held-out folds after each tree."""
    figure, ax = blank(narrow)
    losses = figures["learning_curve"]
    ax.plot(range(1, len(losses) + 1), losses, color=BLUE)
    ax.set_xlim(1, max(len(losses), 2))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(gettext("trees of a member"))
    ax.set_ylabel(gettext("log loss on held-out folds"))
    return figure


def shapley_values(figures: RunFigures, narrow: bool) -> Figure:
    """Draws how far each of the most important features moves the score, for nuisance and for innocent calls."""
    rows = figures["model"]["top_features"]
    figure, ax = blank(narrow, 1.3 + 0.36 * len(rows))
    for y, row in enumerate(rows):
        ax.plot([row["innocent"], row["nuisance"]], [y, y], color=GREY, lw=1.5, alpha=0.6)
        ax.plot(row["innocent"], y, "s", color=GREY, ms=6, label=None if y else gettext("innocent calls"))
        ax.plot(row["nuisance"], y, "o", color=BLUE, ms=7, label=None if y else gettext("nuisance calls"))
    ax.axvline(0, color=INK, lw=1, ls=":")
    ax.set_xlabel(gettext("mean Shapley value (log-odds)"))
    named_rows(ax, [str(place) if narrow else f"{feature_label(row)}  {place}" for place, row in enumerate(rows, 1)])
    legend(ax)
    return figure


def feature_label(feature: TopFeature) -> str:
    """Returns the name of a feature, or its description in Chinese, cut for a picture."""
    return short(meaning(feature["name"]), 18) if current_language() == "zh" else short(feature["name"], 36)


def part_of(part: int, whole: int) -> str:
    """Returns two counts as "part of whole", in the language in force."""
    numbers = {"part": f"{part:,}", "whole": f"{whole:,}"}
    return gettext("%(part)s of %(whole)s", **numbers)


def basis_of(row: Slice) -> str:
    """Returns the judged calls and numbers of a kind, in the language in force."""
    numbers = {"calls": f"{row['calls']:,}", "numbers": f"{row['callers']:,}"}
    return gettext("calls: %(calls)s, numbers: %(numbers)s", **numbers)


Measured = Callable[[RunFigures], object]
Draw = Callable[[RunFigures, bool], Figure]
DRAWN: dict[str, tuple[Measured, Draw]] = {
    "errors": (lambda f: f.get("curve"), error_curve),
    "detection": (lambda f: f.get("detection_curve"), detection_curve),
    "precision": (lambda f: f.get("curve") and is_counted(f), precision_curve),
    "scores": (lambda f: f.get("histogram"), score_histogram),
    "learning": (lambda f: f.get("learning_curve"), learning_curve),
    "features": (lambda f: (f.get("model") or {}).get("top_features"), shapley_values),
    "benign": (lambda f: any(not row["nuisance"] for row in f.get("slices") or ()), benign_slices),
    "nuisance": (lambda f: any(row["nuisance"] for row in f.get("slices") or ()), nuisance_slices),
    "reliability": (lambda f: f.get("reliability") and f["reliability"].get("bins"), reliability),
    "folds": (lambda f: f.get("folds") and not f.get("adapted"), time_line),
}
