"""The sheet of numbers to check: a CSV file that an adaptation writes and a person fills in, one row a caller.

A row names the caller by its token, and by the row of its call with the highest score in the file of calls. It holds
no phone number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import logit

from callsieve.features.files.atomic import atomic_path
from callsieve.features.keys.tokens import is_token
from callsieve.serving.scorer.reasons import full_width, strongest_reasons
from callsieve.training.data.check_files import VERDICTS
from callsieve.training.data.dataset import FINDINGS
from callsieve.training.language import current_language
from callsieve.training.model.matrix import feature_columns

if TYPE_CHECKING:
    from callsieve.serving.bundle.forest import Forest
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.data.sources import Source
    from callsieve.training.model.train import Trained

    from .adapting import Adapted

SHEET = "to_check.csv"
DRAWN = ("number", "probability", "look")
ANSWERED = ("verdict", "checked_at")
FACTS = ("row", "nuisance", "calls", "answered", "complaints", "called_first_by", "reasons")
COLUMNS = (*DRAWN, *ANSWERED, *FACTS)


@dataclass(frozen=True, slots=True)
class Answers:
    """Filled-in sheets: all callers that were drawn, with columns `number` and `probability`, and the findings."""

    asked: pd.DataFrame
    findings: pd.DataFrame


def write_sheet(adapted: Adapted, trained: Trained, path: Path, forest: Forest) -> pd.DataFrame:
    """Writes the callers to check, those with the most calls at stake first; only the heading if there are none.

    Args:
        forest: the adapted model, for the reasons.
    Returns: the sheet.
    """
    table = sheet(adapted, trained, forest)
    with atomic_path(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")
    return table


def sheet(adapted: Adapted, trained: Trained, forest: Forest) -> pd.DataFrame:
    """Returns the callers to check, one row each, with the columns COLUMNS."""
    first = len(adapted.drawn.caller) > 0
    places = adapted.drawn.caller if first else adapted.again
    probability = adapted.drawn.probability if first else np.full(len(places), np.nan)
    callers, calls = adapted.callers, trained.last.dataset.calls
    highest = highest_calls(trained.pool.caller, trained.raw, places)
    row = calls["call"].to_numpy() if "call" in calls.column_names else np.arange(calls.num_rows)
    table = pd.DataFrame(
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
    stake = np.abs(logit(np.clip(adapted.nuisance[places], 0.01, 0.99)))
    return table.iloc[np.lexsort((table["number"], -table["calls"], stake.round()))].reset_index(drop=True)


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
        return "；".join(full_width(reason.zh) for reason in reasons)
    return "; ".join(reason.en for reason in reasons)


def read_sheets(paths: Sequence[Path]) -> Answers:
    """Reads filled-in sheets. A row without a verdict is a caller that was asked about and not answered.

    Raises:
        ValueError: in one line with file and row, if a column is missing or a value is none of those expected.
    """
    drawn, findings = [], []
    for path in paths:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="replace")
        missing = [name for name in (*DRAWN, *ANSWERED) if name not in table.columns]
        if missing:
            raise ValueError(f"{path}: expected the columns of {SHEET}; {', '.join(missing)} missing")
        for place, row in enumerate(table.to_dict("records")):
            where = f"{path}: row {place + 2}"
            number, verdict = str(row["number"]), str(row["verdict"]).strip().lower()
            if not is_token(number):
                raise ValueError(f"{where}: number: expected the token that was written, got another text")
            if row["look"] == "1":
                drawn.append((number, probability_of(str(row["probability"]), where)))
            if verdict:
                findings.append((number, nuisance_of(verdict, where), moment_of(str(row["checked_at"]), where)))
    return Answers(
        pd.DataFrame(drawn, columns=["number", "probability"]).astype({"probability": float}),
        pd.DataFrame(findings, columns=FINDINGS.names),
    )


def with_answers(source: Source, answers: Answers) -> Source:
    """Returns a source whose findings also have the answers."""

    def read() -> Dataset:
        dataset = source.read()
        findings = pd.concat([dataset.findings, answers.findings.astype(dataset.findings.dtypes)], ignore_index=True)
        return replace(dataset, findings=findings)

    return replace(source, read=read) if len(answers.findings) else source


def probability_of(text: str, where: str) -> float:
    """Returns the probability of a row of a first round. Raises ValueError unless it is above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value <= 1:
        raise ValueError(f"{where}: probability: expected the value that was written, above 0 and at most 1")
    return value


def nuisance_of(verdict: str, where: str) -> bool:
    """Returns whether a verdict is "nuisance". Raises ValueError if it is none of VERDICTS."""
    if verdict not in VERDICTS:
        raise ValueError(f"{where}: verdict: expected {' or '.join(VERDICTS)}, or nothing, got {verdict!r:.40}")
    return verdict == "nuisance"


def moment_of(text: str, where: str) -> pd.Timestamp:
    """Returns the moment of a check; a day counts from its end.

    Raises:
        ValueError: if it is neither day nor moment, or more than a day after now.
    """
    moment = pd.to_datetime(text.strip(), format="ISO8601", errors="coerce")
    if pd.isna(moment):
        raise ValueError(f"{where}: checked_at: expected a day such as 2026-03-01, or a time with an offset")
    if moment.tzinfo is None and moment != moment.normalize():
        raise ValueError(f"{where}: checked_at: expected a time with an offset, such as 2026-03-01T12:00:00+08:00")
    day = pd.Timedelta(days=1)
    known = (moment + day).tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    if known > pd.Timestamp.now("UTC") + day:
        raise ValueError(f"{where}: checked_at: expected a moment that has passed")
    return known
