"""Writes the sheet of numbers to check: a CSV file that a person fills in, one row a caller; `answers.py` reads it.

A row names the caller by its token, and by the row of its call with the highest score in the file of calls. It holds
no phone number.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from callsieve.features.files.atomic import atomic_path
from callsieve.serving.scorer.reasons import strongest_reasons
from callsieve.training.language import current_language
from callsieve.training.model.matrix import feature_columns

from .answers import ANSWERED, DRAWN

if TYPE_CHECKING:
    from callsieve.serving.bundle.forest import Forest
    from callsieve.training.model.train import Trained

    from .adapting import Adapted

FACTS = ("row", "nuisance", "calls", "answered", "complaints", "called_first_by", "reasons")
COLUMNS = (*DRAWN, *ANSWERED, *FACTS)


def write_sheet(adapted: Adapted, trained: Trained, path: Path, forest: Forest) -> pd.DataFrame:
    """Writes the callers to check; only the heading if there are none.

    Returns: the sheet.
    """
    table = sheet(adapted, trained, forest)
    with atomic_path(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")
    return table


def sheet(adapted: Adapted, trained: Trained, forest: Forest) -> pd.DataFrame:
    """Returns the callers to check, one row each, with the columns COLUMNS; those of a first round in random order."""
    first = len(adapted.drawn.caller) > 0
    places = adapted.drawn.caller if first else adapted.again
    probability = adapted.drawn.probability if first else np.full(len(places), np.nan)
    callers, calls = adapted.callers, trained.last.dataset.calls
    highest = highest_calls(trained.pool.caller, trained.raw, places)
    row = calls["call"].to_numpy() if "call" in calls.column_names else np.arange(calls.num_rows)
    return pd.DataFrame(
        {
            "number": callers.token[places],
            "probability": [f"{value:.6g}" if np.isfinite(value) else "" for value in probability],
            "look": np.full(len(places), 1 if first else 2),
            "verdict": "",
            "checked_at": "",
            "row": row[trained.pool.row[highest]],
            "nuisance": adapted.nuisance[places].round(2),
            "calls": callers.calls[places],
            "answered": callers.answered[places],
            "complaints": callers.reports[places],
            "called_first_by": callers.called_first_by[places],
            "reasons": [reasons_of(forest, trained, call) for call in highest],
        }
    )


def highest_calls(caller: np.ndarray, raw: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns for each of some callers the place of its call with the highest score."""
    order = np.lexsort((np.nan_to_num(raw, nan=-np.inf), caller))
    last = np.searchsorted(caller[order], places, side="right") - 1
    return order[last]


def reasons_of(forest: Forest, trained: Trained, call: int) -> str:
    """Returns the strongest reasons for the score of a call, in the language in force."""
    vector = trained.X[call, feature_columns(trained.settings.features)].tolist()
    (contributions,) = forest.contributions(vector)
    reasons = strongest_reasons(trained.settings.features, vector, contributions)
    if current_language() == "zh":
        return "；".join(reason.zh for reason in reasons)
    return "; ".join(reason.en for reason in reasons)
