"""How like the real records a simulated world is: the run, the table for a person, and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from callsieve.features.files.folders import write_whole
from callsieve.features.files.progress import Progress, steps
from callsieve.training.reports.pictures import BLUE, INK, RC, VERMILLION, blank, legend, named_rows, svg
from callsieve.training.world import load_scenario, simulate

from .realism import MOST_KS, MOST_RATIO, Realism, Statistic, realism, require_real

FARTHEST = 4.0  # limits; what is farther off is drawn there


def compare(
    data: Path, *, size: str, seed: int, scenario: Path | None, threads: int, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Simulate a world and compare it with the real data in a folder; write table and picture to `out` if given."""
    require_real(data)  # before a world is made in vain
    told = load_scenario(scenario)
    world = simulate(told, seed, size, steps(progress, {"simulate": 0.6, "compare": 0.4})["simulate"])
    progress("comparison", 0.6)
    found = realism(world, told, data, seed=seed, threads=threads)
    figures = {
        "sim_to_real_auc": found.sim_to_real_auc,
        "within_share": found.within_share,
        "limits": {"ks": MOST_KS, "ratio": MOST_RATIO},
        "rows": found.rows,
        "statistics": [one.to_json() for one in found.statistics],
        "world": {**world.facts, "calls": world.calls.num_rows},
    }
    if out is not None:
        write_whole(out / "realism.json", (json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode())
        write_whole(out / "realism.svg", picture(found).encode())
    return figures


def picture(found: Realism) -> str:
    """Every statistic as its distance in units of the limit, as SVG."""
    with mpl.rc_context(RC):
        return svg(_distances(found))


def _distances(found: Realism) -> Figure:
    told = found.statistics
    figure, ax = blank(False, 1.2 + 0.24 * len(told))
    for y, one in enumerate(told):
        x = min(_limits(one), FARTHEST)
        colour, mark = (BLUE, "o") if one.within else (VERMILLION, "D")
        ax.plot([0, x], [y, y], color=colour, lw=1.5, alpha=0.6)
        ax.plot(x, y, mark, color=colour, ms=6, clip_on=False)
    ax.axvline(1, color=INK, lw=1, ls=":")
    ax.plot([], [], "o", color=BLUE, ms=6, label="near enough")
    ax.plot([], [], "D", color=VERMILLION, ms=6, label="too far")
    ax.plot([], [], ":", color=INK, lw=1, label=f"limit: {MOST_KS} KS or {MOST_RATIO:.0%}")
    ax.set_xlim(0, FARTHEST)
    ax.xaxis.set_major_locator(FixedLocator([0, 1, 2, 3, FARTHEST]))
    ax.set_xlabel("distance of the world from the real records, in limits")
    named_rows(ax, [f"{one.group}: {one.name}" for one in told])
    legend(ax)
    return figure


def _limits(one: Statistic) -> float:
    limit = MOST_KS if one.kind == "ks" else MOST_RATIO
    return abs(one.distance) / limit if one.distance == one.distance else FARTHEST
