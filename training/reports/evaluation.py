"""The report of a bundle on other calls: the page of a run without the parts that only a training has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from callsieve.features.files.atomic import write_atomic
from callsieve.training.judging.figures import EvaluationFigures
from callsieve.training.judging.run_figures import RunFigures

from .pictures import pictures
from .run_page import write_pictures, write_run_page


def write_evaluation(figures: EvaluationFigures, folder: Path) -> None:
    """Writes `report.html`, `plots/` and `figures.json` into a folder.

    Args:
        figures: as from `assess`.
        folder: new or empty.
    """
    shown = cast(RunFigures, figures)  # the page leaves out missing sections
    drawn = pictures(shown)
    write_run_page(shown, folder / "report.html", drawn)
    write_pictures(drawn, folder / "plots")
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "figures.json", (text + "\n").encode())
