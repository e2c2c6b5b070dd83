"""Verdict records: the inputs of each verdict other than "pass", for appeals and for exact re-scoring.

The live service writes records to a journal (`journal.py`). The store of cases reads the files in order, and deletes
those that are closed. Vectors and scores are written as the bytes of their float64 values, two letters of a-p for each
byte. This form is exact and has no digits.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from callsieve.features.files.strict_json import finite
from callsieve.features.keys.tokens import from_letters, to_letters
from callsieve.features.online.feeds import COMPLETE
from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.level import Shift
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.rules.rules import Fact
from callsieve.serving.scorer.reasons import Reason
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import STATUSES, Status, band_conditions, message_of
from callsieve.serving.scorer.verdict import Verdict

from .journal import MAX_LINE, file_numbers, file_path, unseal

VERDICTS = "cases"
"""Name of the journal."""


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """A verdict other than "pass", with its inputs at the time of the call.

    It does not contain the callee, because no appeal of a caller needs the callee (`features/keys/callee_keys.py`).
    `at` is the call's start (Unix ms), `raw` and `vector` are float64 as letters, `score` is None without a score.
    `reasons` and `rules` are those of the verdict, as plain values.
    """

    case: str
    at: int
    caller: str
    block: str
    trunk: str | None
    device: str | None
    model: str
    catalogue: str
    policy: str
    action: str
    band: str
    status: Status
    score: float | None
    raw: str
    content: str | None
    mode: str | None
    reasons: list[dict[str, Any]]
    rules: list[Any]
    vector: str
    feed: str = COMPLETE
    shift: float = 0.0

    def facts(self) -> tuple[Fact, ...]:
        """Returns `rules` as facts."""
        numbers = ("value", "limit")
        return tuple(Fact(**rule | {name: _number(rule[name]) for name in numbers}) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the journal: a file's number, and a byte offset in it."""

    number: int = 0
    offset: int = 0


def verdict_record(verdict: Verdict, call: KeyedCall, vector: Sequence[float], scorer: Scorer) -> VerdictRecord:
    """Returns the record of a verdict by `scorer` on a call with this vector."""
    return VerdictRecord(
        case=verdict.case,
        at=call.start,
        caller=call.caller,
        block=call.caller_block,
        trunk=call.trunk,
        device=call.device,
        model=verdict.model,
        catalogue=scorer.bundle.catalogue_hash,
        policy=scorer.policy.version,
        action=verdict.action,
        band=verdict.band,
        status=verdict.status,
        score=verdict.score if math.isfinite(verdict.score) else None,
        raw=floats_to_letters([verdict.raw]),
        content=verdict.content,
        mode=verdict.mode,
        reasons=[_plain(reason) for reason in verdict.reasons],
        rules=[_plain(rule) for rule in getattr(verdict, "rules", ())],
        vector=floats_to_letters(vector),
        feed=verdict.feed,
        shift=verdict.shift,
    )


def floats_to_letters(values: Sequence[float]) -> str:
    """Returns float64 values as letters, bit for bit.

    >>> letters_to_floats(floats_to_letters([0.1, float("inf")]))
    [0.1, inf]
    """
    return to_letters(struct.pack(f"<{len(values)}d", *values))


def letters_to_floats(text: str) -> list[float]:
    """Returns the values in a text of `floats_to_letters`. Raises: ValueError: for any other text."""
    data = from_letters(text)
    if len(data) % 8:
        raise ValueError("a vector must have 8 bytes a value")
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def record_to_line(record: VerdictRecord) -> bytes:
    """Returns a record as one line of JSON; NaN and infinities become null."""
    plain = {name: getattr(record, name) for name in VerdictRecord.__slots__}
    return json.dumps(finite(plain), separators=(",", ":"), ensure_ascii=False).encode()


def record_from_line(line: bytes) -> VerdictRecord | None:
    """Returns the record in a line; None if the line is invalid."""
    try:
        record = VerdictRecord(**json.loads(line))
        letters_to_floats(record.vector)
    except (ValueError, TypeError):
        return None
    return record if record.status in STATUSES else None


def read_after(folder: Path, after: Position, most: int) -> tuple[list[VerdictRecord], Position]:
    """Returns at most `most` records after a position, and the position behind them.

    An incomplete last line is left for the next call; in a closed file it is skipped.
    """
    records: list[VerdictRecord] = []
    numbers = [number for number in file_numbers(folder, VERDICTS) if number >= after.number]
    for place, number in enumerate(numbers):
        offset = after.offset if number == after.number else 0
        with file_path(folder, VERDICTS, number).open("rb") as file:
            file.seek(offset)
            while len(records) < most and (piece := file.readline(MAX_LINE)).endswith(b"\n"):
                offset = file.tell()
                line = unseal(piece)
                record = None if line is None else record_from_line(line)
                if record is not None:
                    records.append(record)
        after = Position(number, offset)
        if len(records) >= most or place == len(numbers) - 1:
            break
    return records, after


def find_record(folder: Path, case: str) -> VerdictRecord | None:
    """Returns the newest record of a case in the journal; None without one."""
    start = b'{"case":"%b"' % case.encode()  # the first field of a line
    for number in reversed(file_numbers(folder, VERDICTS)):
        newest = None
        with contextlib.suppress(OSError), file_path(folder, VERDICTS, number).open("rb") as file:
            while piece := file.readline(MAX_LINE):
                if piece.startswith(start) and (line := unseal(piece)) is not None:
                    newest = record_from_line(line) or newest
        if newest is not None:
            return newest
    return None


def explain_record(record: VerdictRecord, scorer: Scorer | None) -> Verdict:
    """Returns the verdict of a record with its reasons.

    `valid_until`, `threshold` and `confidence` are not in a record: they are "" and NaN unless `scorer`, the scorer in
    service, has the model of the record.
    """
    rules, status = record.facts(), record.status
    named = plan_class(None if status == "cleared" else record.content, [fact.rule for fact in rules])
    if scorer is not None and scorer.bundle.model_id == record.model:
        conditions = band_conditions(status, record.band, scored=record.score is not None)
        vector, shift = letters_to_floats(record.vector), Shift(record.shift)
        again = scorer.explain_row(vector, record.at, rules, feed=record.feed, shift=shift, **conditions)
        action, confidence = again.action, again.confidence
        if status == "cleared":
            action, confidence = scorer.action_if_cleared(again)
        confidence = confidence if action == record.action else math.nan
        again = replace(again, case=record.case, action=record.action, rules=rules, confidence=confidence)
        return replace(again, status=status, message=message_of(status), plan_class=named)
    (raw,) = letters_to_floats(record.raw)
    reasons = tuple(Reason(**reason | {"value": _number(reason["value"])}) for reason in record.reasons)
    return Verdict(
        record.action, _number(record.score), record.band, record.content, record.mode, reasons, status,
        record.case, record.model, "", raw, rules=rules, feed=record.feed, message=message_of(status), plan_class=named,
        shift=record.shift,
    )  # fmt: skip


def delete_before(folder: Path, before: Position) -> None:
    """Deletes the files before the one of a position: they were read to their end."""
    for number in file_numbers(folder, VERDICTS):
        if number < before.number:
            file_path(folder, VERDICTS, number).unlink(missing_ok=True)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
