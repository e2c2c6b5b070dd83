"""Chooses the numbers that may be shared: certified or confirmed as nuisance, and not excluded.

The store contains tokens, which cannot be turned into numbers. So the raw numbers are read again, as the switches
write them. Each is keyed with the store key to check whether it was chosen, and with the sharing key for the list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.intake.numbers import parse
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.keys.tokens import Key, is_token

CERTIFIED = ("screen", "block")
"""Actions that a policy allows only if the band and the caller's class are certified (`policy.certified_action`)."""
LEAST_CALLS, LEAST_CALLEES = 3, 10
"""Minimum of certified calls, and of their distinct callees, for a number without a confirming finding."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tokens of the store to be shared, and counts of candidates by reason."""

    tokens: frozenset[str]
    certified: int
    confirmed: int
    excluded: int
    cleared: int


def choose(
    verdicts: Path | None, findings: Path | None, *, excluded: Collection[str] = (), until: datetime | None = None
) -> Chosen:
    """Returns the tokens of numbers that may be shared.

    Args:
        until: verdicts and findings after this moment are ignored; by default now.
    """
    moment = pd.Timestamp(until or datetime.now(UTC))
    certified = set() if verdicts is None else _certified(verdicts, moment)
    last = {} if findings is None else _findings(findings, moment)
    confirmed = {number for number, nuisance in last.items() if nuisance}
    cleared = certified & (last.keys() - confirmed)
    candidates = (certified | confirmed) - cleared
    removed = candidates & set(excluded)
    return Chosen(frozenset(candidates - removed), len(certified), len(confirmed), len(removed), len(cleared))


def only(numbers: Iterable[str], chosen: Collection[str], store: Key, sharing: Key) -> Iterator[str]:
    """Yields the numbers whose store token was chosen, unchanged."""
    if (store.purpose, sharing.purpose) != ("records", "sharing") or store.secret == sharing.secret:
        raise ValueError("keys: expected a store key for records and a sharing key with another secret")
    today = datetime.now(UTC).date()
    for number in numbers:
        if store.token("number", parse(number, today).canonical) in chosen:
            yield number


def read_excluded(path: Path | None) -> frozenset[str]:
    """Reads tokens to exclude: a file with one token a line, or a folder's `exclusions.parquet` (column `number`)."""
    if path is not None and path.suffix == ".parquet":
        return frozenset(map(str, _frame(path, ["number"])["number"]))
    lines = [] if path is None else path.read_text(encoding="utf-8").split()
    for place, line in enumerate(lines, 1):
        if not is_token(line):
            raise ValueError(f"{path}: line {place}: expected a token")
    return frozenset(lines)


def _certified(path: Path, moment: pd.Timestamp) -> set[str]:
    frame = _frame(path, ["start", "caller", "callee", "action"]).dropna(subset="start")  # rows that are no calls
    calls = frame[frame["action"].isin(CERTIFIED) & (frame["start"].astype("int64") < moment.timestamp() * 1000)]
    callers = calls.groupby("caller", observed=True)["callee"].agg(["size", "nunique"])
    return set(callers.index[(callers["size"] >= LEAST_CALLS) & (callers["nunique"] >= LEAST_CALLEES)])


def _findings(path: Path, moment: pd.Timestamp) -> dict[str, bool]:
    frame = _frame(path, ["number", "nuisance", "known_at"])
    rows = frame[frame["known_at"] <= moment].sort_values("known_at", kind="stable")
    return {str(number): bool(nuisance) for number, nuisance in zip(rows["number"], rows["nuisance"], strict=True)}


def _frame(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pq.read_table(path, columns=columns)
        frame: pd.DataFrame = pa.table([dictionary_decoded(table[name]) for name in columns], names=columns).to_pandas()
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path}: expected a Parquet file with columns {', '.join(columns)}") from None
    return frame
