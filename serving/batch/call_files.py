"""Reads a file of call records in any layout, keyed for a purpose that the folder's declaration allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from callsieve.features.files.atomic import sha256
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.keys.callee_keys import ONCE
from callsieve.features.keys.tokens import ENVIRONMENT, Key, key_from_environment, read_key
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import layout
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import require_purpose


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """Keyed calls in order of start, and what was put apart on the way."""

    calls: pa.Table
    quarantined: dict[str, int]

    @property
    def put_apart(self) -> str:
        """How many rows were put apart, and why."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.quarantined.items())
        return f"{sum(self.quarantined.values())} rows were put apart" + (f": {reasons}" if reasons else "")


def key_or_temporary(path: Path | None) -> Key:
    """The key of a file, or of the environment, or else a new one that dies with the process."""
    if path is not None:
        return read_key(path)
    return key_from_environment() if ENVIRONMENT in os.environ else Key.generate(ONCE)


def read_keyed_file(
    path: Path,
    layout_name: str,
    purpose: str,
    *,
    key: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> KeyedFile:
    """Calls of a file in any layout; "keyed" means a table that the intake wrote.

    A keyed table is read without rows past their time. Records of others are not kept here: they end by their `until`.

    Args:
        purpose: for which the file's folder must have been declared (`serving/custody/purposes.py`).
    """
    told = require_purpose(path, purpose)
    if layout_name == "keyed":
        return KeyedFile(expiry_filter(told)(read_keyed(path).sort_by("start"), "calls"), {})
    found = layout(layout_name)
    secret = key_or_temporary(key)
    read = read_calls(path, found, quarantine=quarantine, key=secret, strict=strict, progress=progress)
    intake = Intake(secret, zone=found.hours_zone, numbers="codes" if found.numbers == "codes" else "written")
    return KeyedFile(intake.table(read.table.sort_by("start")), dict(read.quarantined))


def intake_inputs(path: Path, layout_name: str, key: Path | None) -> dict[str, Any]:
    """What tokens of a file's calls depend on: all of the file and of its layout, and the key, by a token of it."""
    # A new key goes with the run that made it: whoever goes on without one has the tokens of before.
    given = key is not None or ENVIRONMENT in os.environ
    return {
        # All of it: the end of a text says nothing of what stands before it, as that of a Parquet file does.
        "size": path.stat().st_size,
        "text": sha256(path),
        "layout": sha256(Path(layout_name)) if layout_name.endswith(".toml") else layout_name,
        "key": key_or_temporary(key).token("number", "callsieve") if given else None,
    }
