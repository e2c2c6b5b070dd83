"""The picture of a model's age: what it catches week by week, beside one that is trained anew."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callsieve.training.reports.pictures import BLUE, GREY, RC, svg

STYLES = {"once": (GREY, "--", "s", "trained once"), "anew": (BLUE, "-", "o", "trained anew each time")}


def picture(result: Mapping[str, Any]) -> str:
    """Catch rate of unseen groups and bound of the error, by days since the first training, as SVG."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(6.2, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for way in STYLES:
            draw(above, below, result["periods"], way)
        above.set_ylim(0, 1)
        above.set_ylabel("nuisance calls caught,\ngroups not learnt from")
        above.legend(loc="best")
        below.set_ylabel("innocent calls flagged,\nat most (95 %)")
        below.set_yscale("log")
        below.set_xlabel("days since the first training")
        return svg(figure)


def draw(above: Axes, below: Axes, periods: list[Mapping[str, Any]], way: str) -> None:
    """The line of one way in both parts, with the interval of the rate."""
    colour, dash, mark, name = STYLES[way]
    known = [one for one in periods if one[way]["unseen"]["call"]["rate"] is not None]
    days = [sum(one["days_after_training"]) / 2 for one in known]
    rates = [one[way]["unseen"]["call"] for one in known]
    above.plot(days, [one["rate"] for one in rates], color=colour, linestyle=dash, marker=mark, label=name)
    above.fill_between(
        days, [one["low"] for one in rates], [one["high"] for one in rates], color=colour, alpha=0.15, lw=0
    )
    every = [sum(one["days_after_training"]) / 2 for one in periods]
    below.plot(every, [one[way]["bound"] for one in periods], color=colour, linestyle=dash, marker=mark)
