"""Chooses the numbers that an issuer lists: flagged, certified or confirmed as nuisance, and not cleared.

The store contains tokens, which cannot be turned into numbers. So the raw numbers are read again, as the switches
write them. Each is keyed with the store key to check whether it was chosen, and with the sharing key for the list. A
private file remembers both tokens of the numbers that are listed, so that a number can be withdrawn by its store token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.intake.numbers import has_digits, parse
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.keys.tokens import Key, is_token
from callsieve.serving.lists.exchange import Entry
from callsieve.serving.rules.rules import FLAGGED, PROTECTED
from callsieve.serving.scorer.flags import LIFE
from callsieve.serving.scorer.listed import TOKEN_BYTES, shared_token

CERTIFIED_BAND = "certified"
STRONG = ("screen", "block")
LEAST_CALLS, LEAST_CALLEES = 3, 10
"""Minimum of certified calls, and of their distinct callees, for a number without a confirming finding."""
COLUMNS = ["start", "caller", "callee", "action", "band", "rules", "plan_class"]
NUISANCE = "nuisance"  # the class of calls without another one


class Flagged(NamedTuple):
    """Class of the calls of a number, and when the first and the last of them were flagged, Unix ms."""

    behaviour: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Numbers to list and to withdraw, by their tokens in the store, and counts of candidates by reason."""

    listed: Mapping[str, Flagged]
    withdrawn: frozenset[str] = frozenset()
    certified: int = 0
    confirmed: int = 0
    excluded: int = 0
    cleared: int = 0


def choose(
    verdicts: Path | None, findings: Path | None, *, excluded: Collection[str] = (), until: datetime | None = None
) -> Chosen:
    """Returns the numbers that may be shared.

    A number is listed for its own calls alone: those that the model flagged (rule `flagged`), or that reached the
    certified band and were screened or blocked. What other lists say of it does not count.

    `until`: verdicts and findings after this moment are ignored; by default now.
    """
    moment = pd.Timestamp(until or datetime.now(UTC))
    certified = {} if verdicts is None else _certified(verdicts, moment)
    last = {} if findings is None else _findings(findings, moment)
    confirmed = {number: Flagged(NUISANCE, at, at) for number, (nuisance, at) in last.items() if nuisance}
    innocent = last.keys() - confirmed.keys()
    candidates = (confirmed | certified).keys() - innocent
    removed = candidates & set(excluded)
    listed = {number: (confirmed | certified)[number] for number in candidates - removed}
    counts = len(certified), len(confirmed), len(removed), len(certified.keys() & innocent)
    return Chosen(listed, frozenset(innocent | set(excluded)), *counts)


@dataclass(slots=True)
class Candidates:
    """The entries of chosen numbers, the tokens to withdraw, and how many numbers were left out, by reason."""

    entries: list[Entry] = field(default_factory=list)
    withdrawn: set[bytes] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=lambda: Counter(repeated=0, protected=0, unreadable=0))


def candidates_among(
    numbers: Iterable[str], chosen: Chosen, store: Key, sharing: Key, issued: Path, now: int
) -> Candidates:
    """Returns the entries of those numbers that are chosen, and updates the private file of issued tokens.

    `issued`: for each number on the list its token in the store, that of the list, and when it was last flagged. `now`:
    Unix ms.
    """
    if (store.purpose, sharing.purpose) != ("records", "sharing") or store.secret == sharing.secret:
        raise ValueError("keys: expected a store key for records and a sharing key with another secret")
    known = json.loads(issued.read_bytes()) if issued.exists() else {}
    result, today = Candidates(), datetime.now(UTC).date()
    entries = dict[str, Entry]()
    for text in numbers:
        number = parse(text, today)
        token = store.token("number", number.canonical)
        result.withdrawn |= {list_token(sharing, text)} if token in chosen.withdrawn else set()
        if token not in chosen.listed:
            continue
        if number.kind in PROTECTED or not has_digits(number):
            result.counts["protected" if number.kind in PROTECTED else "unreadable"] += 1
            continue
        result.counts["repeated"] += token in entries
        entries[token] = Entry(list_token(sharing, text), *chosen.listed[token])
    result.entries = list(entries.values())
    result.withdrawn |= {bytes.fromhex(known[token][0]) for token in chosen.withdrawn & known.keys()}
    known |= {token: (entry.token.hex(), entry.last) for token, entry in entries.items()}
    lasting = {token: row for token, row in sorted(known.items()) if row[1] + LIFE > now}
    write_atomic(issued, json.dumps(lasting).encode(), OWNER_ONLY)
    return result


def all_numbers(numbers: Iterable[str], sharing: Key, now: int) -> Candidates:
    """Returns entries of all numbers, flagged now."""
    result, today, entries = Candidates(), datetime.now(UTC).date(), dict[bytes, Entry]()
    for text in numbers:
        number = parse(text, today)
        if not has_digits(number) or number.kind in PROTECTED:
            result.counts["protected" if number.kind in PROTECTED else "unreadable"] += 1
            continue
        token = list_token(sharing, text)
        result.counts["repeated"] += token in entries
        entries[token] = Entry(token, NUISANCE, now, now)
    result.entries = list(entries.values())
    return result


def list_token(sharing: Key, number: str) -> bytes:
    """Returns the token of a number on lists."""
    return shared_token(sharing, number).to_bytes(TOKEN_BYTES, "big")


def read_excluded(path: Path | None) -> frozenset[str]:
    """Reads tokens to exclude: a file with one token a line, or a folder's `exclusions.parquet` (column `number`)."""
    if path is not None and path.suffix == ".parquet":
        return frozenset(map(str, _frame(path, ["number"])["number"]))
    lines = [] if path is None else path.read_text(encoding="utf-8").split()
    for place, line in enumerate(lines, 1):
        if not is_token(line):
            raise ValueError(f"{path}: line {place}: expected a token")
    return frozenset(lines)


def _certified(path: Path, moment: pd.Timestamp) -> dict[str, Flagged]:
    frame = _frame(path, COLUMNS).dropna(subset="start")  # rows that are no calls
    frame["start"] = frame["start"].astype("int64")
    frame = frame[frame["start"] < moment.timestamp() * 1000]
    flagged = frame["rules"].fillna("").str.split(",").map(lambda names: FLAGGED in names).astype(bool)
    calls = frame[flagged | ((frame["band"] == CERTIFIED_BAND) & frame["action"].isin(STRONG))]
    by_caller = calls.assign(flagged=flagged).groupby("caller", observed=True)
    figures = by_caller.agg({"start": ["size", "min", "max"], "callee": "nunique", "flagged": "any"})
    figures.columns = pd.Index(["calls", "first", "last", "callees", "flagged"])
    enough = (figures["calls"] >= LEAST_CALLS) & (figures["callees"] >= LEAST_CALLEES)
    kinds = calls.assign(kind=calls["plan_class"].replace("", None)).dropna(subset="kind")
    kind = kinds.groupby("caller", observed=True)["kind"].agg(lambda words: sorted(words.mode())[0]).to_dict()
    chosen = figures[figures["flagged"] | enough]
    spans = zip(chosen["first"].tolist(), chosen["last"].tolist(), strict=True)
    return {
        str(caller): Flagged(kind.get(caller, NUISANCE), *span)
        for caller, span in zip(chosen.index, spans, strict=True)
    }


def _findings(path: Path, moment: pd.Timestamp) -> dict[str, tuple[bool, int]]:
    frame = _frame(path, ["number", "nuisance", "known_at"])
    rows = frame[frame["known_at"] <= moment].sort_values("known_at", kind="stable")
    known_at = rows["known_at"].astype("datetime64[ms, UTC]").astype("int64")
    columns = zip(rows["number"], rows["nuisance"], known_at, strict=True)
    return {str(number): (bool(nuisance), int(at)) for number, nuisance, at in columns}


def _frame(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pq.read_table(path, columns=columns)
        frame: pd.DataFrame = pa.table([dictionary_decoded(table[name]) for name in columns], names=columns).to_pandas()
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path}: expected a Parquet file with columns {', '.join(columns)}") from None
    return frame
