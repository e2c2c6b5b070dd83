"""Warms up a service: fills the history of a scorer from call records, so that it does not start empty.

`features/online/coverage.py` decides when a history reaches back far enough to score.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.online.history import History
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import file_numbers
from callsieve.serving.live.snapshots import lock_folder, snapshot_numbers, snapshot_path, unlock_folder

from .call_files import CallFile, read_keyed_file
from .file_scoring import SCORING

HISTORY_DAYS = 28  # the longest memory of any feature

FIRST = 1  # number of the snapshot, and of the first journal that follows it


def fill_state(state: Path, file: CallFile, *, calls: int, numbers: int, progress: Progress) -> dict[str, Any]:
    """Reads the records of the last HISTORY_DAYS and writes a snapshot that a service starts from.

    Returns: counts, the first and the last moment, and whether the history is covered on the day after the last one.
    """
    file.check()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_folder(state)
    try:
        if set(snapshot_numbers(state)) - {FIRST} or file_numbers(state, CALLS):
            raise ValueError(f"{state}: holds events of a service already; expected a folder without events")
        read = read_keyed_file(file, SCORING, progress=lambda done, size: progress("read", 0.3 * done / max(size, 1)))
        if not read.calls.num_rows:
            raise ValueError(f"{file.path}: no call to read")
        start = read.calls["start"].to_numpy()
        recent = read.calls.slice(int(start.searchsorted(start[-1] - HISTORY_DAYS * DAY_MS)))
        history = observe_calls(recent, History(calls=calls, numbers=numbers), progress)
        history.save(snapshot_path(state, FIRST))
    finally:
        unlock_folder(lock)
    return {
        "calls": recent.num_rows,
        "calls_in_memory": history.calls,
        "numbers_in_memory": history.numbers,
        "dropped": history.dropped,
        "evicted": history.evicted,
        "first": iso_time(int(recent["start"][0].as_py())),
        "last": iso_time(int(start[-1])),
        "filled": history.covers(int(start[-1]) + DAY_MS),
        "quarantined": read.quarantined,
        "state": str(state),
        "feed": last_feed(history, int(start[-1])),
    }


def last_feed(history: History, at: int) -> str:
    """Returns the feed of the calls of the seven days before a moment; older calls leave the memory."""
    history.advance(at)
    return history.feed


def observe_calls(calls: pa.Table, history: History, progress: Progress) -> History:
    """Adds calls to a history in order of start; returns the history."""
    for done, call in enumerate(keyed_calls(calls)):
        history.observe(call)
        if done % 10_000 == 0:
            progress("take in", 0.3 + 0.7 * done / calls.num_rows)
    return history


def iso_time(milliseconds: int) -> str:
    """Formats Unix milliseconds as ISO 8601 in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
