"""Filled-in sheets of checks: who was drawn, with which probability, and the answers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.keys.tokens import is_token
from callsieve.training.data.check_files import VERDICTS
from callsieve.training.data.dataset import FINDINGS, Dataset

SHEET = "to_check.csv"
DRAWN = ("number", "probability", "look")
ANSWERED = ("verdict", "checked_at")
DIGEST = 16  # hex digits of the digest of an answer


@dataclass(frozen=True, slots=True)
class Sheet:
    """A filled-in sheet: where it was read, its rows, and the SHA-256 of what is read of each row, in their order."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Filled-in sheets: all callers that were drawn, with columns `number` and `probability`, and the findings.

    >>> read_sheets([]).digests()
    ()
    """

    asked: pd.DataFrame
    findings: pd.DataFrame
    sheets: tuple[Sheet, ...] = ()

    def draw(self) -> str | None:
        """Returns the SHA-256 of the drawn callers with their probabilities, in any order; None without any."""
        numbers, probabilities = self.asked["number"].tolist(), self.asked["probability"].tolist()
        rows = sorted(set(zip(numbers, probabilities, strict=True)))
        return sha256_of(rows) if rows else None

    def digests(self) -> tuple[str, ...]:
        """Returns a digest for each answer, ascending. A second equal answer, of another check, has another digest."""
        seen, digests = Counter[tuple[str, bool, str]](), []
        for answer in plain(self.findings):
            seen[answer] += 1
            digests.append(sha256_of([answer, seen[answer]])[:DIGEST])
        return tuple(sorted(digests))


def plain(findings: pd.DataFrame) -> list[tuple[str, bool, str]]:
    """Returns findings as plain values: number, whether it is nuisance, and since when that is known."""
    rows = zip(findings["number"], findings["nuisance"], findings["known_at"], strict=True)
    return [(str(number), bool(nuisance), known.isoformat()) for number, nuisance, known in rows]


def sha256_of(value: object) -> str:
    """Returns the SHA-256 of a plain value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def read_sheets(paths: Sequence[Path]) -> Answers:
    """Reads filled-in sheets. A row without a verdict is a caller that was asked about and not answered."""
    drawn, findings, sheets = [], [], []
    for path in paths:
        read: list[object] = []
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="replace")
        missing = [name for name in (*DRAWN, *ANSWERED) if name not in table.columns]
        if missing:
            raise ValueError(f"{path}: expected the columns of {SHEET}; {', '.join(missing)} missing")
        for place, row in enumerate(table.to_dict("records")):
            where = f"{path}: row {place + 2}"
            number, verdict = str(row["number"]), str(row["verdict"]).strip().lower()
            if not is_token(number):
                raise ValueError(f"{where}: number: expected the token that was written, got another text")
            first = (number, probability_of(str(row["probability"]), where)) if row["look"] == "1" else None
            answer = None
            if verdict:
                answer = (number, nuisance_of(verdict, where), moment_of(str(row["checked_at"]), where))
            drawn += [] if first is None else [first]
            findings += [] if answer is None else [answer]
            read.append((number, first, None if answer is None else (answer[1], answer[2].isoformat())))
        sheets.append(Sheet(str(path), len(read), sha256_of(read)))
    return Answers(
        pd.DataFrame(drawn, columns=["number", "probability"]).astype({"probability": float}),
        pd.DataFrame(findings, columns=FINDINGS.names),
        tuple(sheets),
    )


def with_answers(dataset: Dataset, answers: Answers) -> Dataset:
    """Returns a data set whose findings also have the answers."""
    numbers = set(answers.asked["number"]) | set(answers.findings["number"])
    if numbers and numbers.isdisjoint(pc.unique(dataset.calls["caller"].cast(pa.string())).to_pylist()):
        raise ValueError(
            "answers: none of the numbers in the sheet makes a call here; expected calls and key of the run that wrote "
            "the sheet: give its folder as --data, or its number.key as --key"
        )
    if not len(answers.findings):
        return dataset
    first, begin = (
        answers.findings["known_at"].min(),
        pd.Timestamp(int(dataset.calls["start"].to_numpy()[0]), unit="ms"),
    )
    if first < begin.tz_localize("UTC"):
        raise ValueError(
            f"answers: checked_at: a check was known at {first:%Y-%m-%d %H:%M}, before the first call at "
            f"{begin:%Y-%m-%d %H:%M} UTC; correct the day, or give checks of earlier records as --checks"
        )
    findings = pd.concat([dataset.findings, answers.findings.astype(dataset.findings.dtypes)], ignore_index=True)
    return replace(dataset, findings=findings)


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
    """Returns the moment of a check; a day counts from its end."""
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
