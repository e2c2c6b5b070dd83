"""Picture of an ageing model: its catch week by week, beside a model that is retrained each period."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callsieve.training.reports.drawing import BLUE, GREY, RC, svg

STYLES = {"once": (GREY, "--", "s", "trained once"), "anew": (BLUE, "-", "o", "retrained each period")}


def picture(result: Mapping[str, Any]) -> str:
    """Returns an SVG: catch rate of unseen groups and upper bound of the error, by days since the first training."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(6.2, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for way in STYLES:
            draw(above, below, result["periods"], way)
        above.set_ylim(0, 1)
        above.set_ylabel("nuisance calls caught,\nunseen groups")
        above.legend(loc="best")
        below.set_ylabel("innocent calls flagged,\nat most (95 %)")
        below.set_yscale("log")
        below.set_xlabel("days since the first training")
        return svg(figure)


def draw(above: Axes, below: Axes, periods: list[Mapping[str, Any]], way: str) -> None:
    """Draws the line of one way of training in both parts, with the interval of its rate."""
    colour, dash, mark, name = STYLES[way]
    rated = [period for period in periods if period[way]["unseen"]["call"]["rate"] is not None]
    days = [sum(period["days_after_training"]) / 2 for period in rated]
    rates = [period[way]["unseen"]["call"] for period in rated]
    above.plot(days, [rate["rate"] for rate in rates], color=colour, linestyle=dash, marker=mark, label=name)
    above.fill_between(
        days, [rate["low"] for rate in rates], [rate["high"] for rate in rates], color=colour, alpha=0.15, lw=0
    )
    every_day = [sum(period["days_after_training"]) / 2 for period in periods]
    below.plot(every_day, [period[way]["bound"] for period in periods], color=colour, linestyle=dash, marker=mark)
