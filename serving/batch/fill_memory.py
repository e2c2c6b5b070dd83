"""Fills a scorer's memory from call records, so that it does not start empty (`features/online/coverage.py`)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.folders import check_apart
from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.online.history import History
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import file_numbers as files
from callsieve.serving.live.snapshots import lock_folder, snapshot_numbers, snapshot_path, unlock_folder

from .call_files import read_keyed_file
from .score import SCORING

if TYPE_CHECKING:
    import pyarrow as pa

HISTORY_DAYS = 28  # that the longest memory of a feature asks for

FIRST = 1  # of the files of events that come after the snapshot


def fill_state(
    state: Path,
    path: Path,
    layout: str,
    *,
    key: Path | None,
    calls: int,
    numbers: int,
    quarantine: Path | None,
    strict: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Take in records of the last days, and write what is then known into a folder from which a service goes on.

    Args:
        state: folder without events as yet; what was filled before is made anew.
        calls, numbers: held at most, as for `History`.
    Returns: counts, the first and the last moment, and whether bands will speak on the day after the last one.
    Raises:
        ValueError: in one line, if the folder holds what a service learnt, another process has it, or there is no call.
    """
    check_apart(path, key, quarantine)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = lock_folder(state)
    try:
        if set(snapshot_numbers(state)) - {FIRST} or files(state, CALLS):
            raise ValueError(f"{state}: holds what a service learnt already; expected a folder without events")
        read = read_keyed_file(
            path, layout, SCORING, key=key, quarantine=quarantine, strict=strict,
            progress=lambda done, size: progress("read", 0.3 * done / max(size, 1)),
        )  # fmt: skip
        if not read.calls.num_rows:
            raise ValueError(f"{path}: no call to take in; {read.put_apart}")
        start = read.calls["start"].to_numpy()
        remembered = read.calls.slice(int(start.searchsorted(start[-1] - HISTORY_DAYS * DAY_MS)))
        history = observe_calls(remembered, History(calls=calls, numbers=numbers), progress)
        history.save(snapshot_path(state, FIRST))
    finally:
        unlock_folder(held)
    return {
        "calls": remembered.num_rows,
        "calls_in_memory": history.calls,
        "numbers_in_memory": history.numbers,
        "dropped": history.dropped,
        "evicted": history.evicted,
        "first": moment(int(remembered["start"][0].as_py())),
        "last": moment(int(start[-1])),
        "filled": history.covers(int(start[-1]) + DAY_MS),
        "quarantined": read.quarantined,
        "state": str(state),
    }


def observe_calls(calls: pa.Table, history: History, progress: Progress) -> History:
    """The history, with these calls in order of start."""
    for done, call in enumerate(keyed_calls(calls)):
        history.observe(call)
        if done % 10_000 == 0:
            progress("take in", 0.3 + 0.7 * done / calls.num_rows)
    return history


def moment(milliseconds: int) -> str:
    """Unix ms as text."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
