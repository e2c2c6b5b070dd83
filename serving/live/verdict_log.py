"""What a verdict was made of, one line a verdict, so that a person can ask why and the verdict can be made again.

The live service hands lines to a journal (`journal.py`); whoever keeps the store of cases follows the files, and never
touches the one that is being written. Vectors and scores are written as the bytes of their float64, two letters of a-p
a byte: bit for bit, and without a digit.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from callsieve.features.files.strict_json import finite
from callsieve.features.keys.tokens import from_letters, to_letters
from callsieve.features.records import KeyedCall
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Verdict

from .journal import MAX_LINE, file_numbers, file_path, unseal

VERDICTS = "cases"
"""Name of the files that hold the lines."""


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """A verdict other than "pass", with all that it came from, as of the moment of the call.

    Whom the call was for is no part of it: no question about a caller needs it (`features/keys/callee_keys.py`).
    `at` is the call's start (Unix ms), `raw` and `vector` float64 as letters, `score` None if there was none.
    `reasons` and `rules` are as the verdict had them, as plain values.
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
    status: str
    score: float | None
    raw: str
    content: str | None
    mode: str | None
    reasons: list[dict[str, Any]]
    rules: list[Any]
    vector: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far the files were followed: a file's number, and bytes of it."""

    number: int = 0
    offset: int = 0


def verdict_record(verdict: Verdict, call: KeyedCall, vector: Sequence[float], scorer: Scorer) -> VerdictRecord:
    """The evidence of a verdict that `scorer` gave on a call by a vector."""
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
    )


def floats_to_letters(values: Sequence[float]) -> str:
    """float64 values as letters, bit for bit.

    >>> floats(letters([0.1, float("inf")]))
    [0.1, inf]
    """
    return to_letters(struct.pack(f"<{len(values)}d", *values))


def letters_to_floats(text: str) -> list[float]:
    """The values that `floats_to_letters` wrote. Raises ValueError: if it did not."""
    data = from_letters(text)
    if len(data) % 8:
        raise ValueError("a vector must have 8 bytes a value")
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def record_to_line(found: VerdictRecord) -> bytes:
    """One line of JSON; what is not a number is null."""
    plain = {name: getattr(found, name) for name in VerdictRecord.__slots__}
    return json.dumps(finite(plain), separators=(",", ":"), ensure_ascii=False).encode()


def record_from_line(line: bytes) -> VerdictRecord | None:
    """What a line tells; None if it is none of ours."""
    try:
        found = VerdictRecord(**json.loads(line))
        letters_to_floats(found.vector)
    except (ValueError, TypeError):
        return None
    return found


def read_after(folder: Path, after: Position, most: int) -> tuple[list[VerdictRecord], Position]:
    """At most about `most` verdicts that were written after a position, and the position up to which they reach.

    A line that is not whole yet is left for the next time; in a file that is not written any more it is passed over.
    """
    found: list[VerdictRecord] = []
    there = [number for number in file_numbers(folder, VERDICTS) if number >= after.number]
    for place, number in enumerate(there):
        offset = after.offset if number == after.number else 0
        with file_path(folder, VERDICTS, number).open("rb") as file:
            file.seek(offset)
            while len(found) < most and (piece := file.readline(MAX_LINE)).endswith(b"\n"):
                offset = file.tell()
                line = unseal(piece)
                one = None if line is None else record_from_line(line)
                if one is not None:
                    found.append(one)
        after = Position(number, offset)
        if len(found) >= most or place == len(there) - 1:
            break
    return found, after


def delete_before(folder: Path, before: Position) -> None:
    """Delete the files that were followed to their end: those before the one of the position."""
    for number in file_numbers(folder, VERDICTS):
        if number < before.number:
            file_path(folder, VERDICTS, number).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
