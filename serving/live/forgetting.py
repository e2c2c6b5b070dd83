"""Deletion of a person from a scorer's memory and disk while it serves.

`request_forgetting` leaves a request in the folder of a scorer's live state. The process that serves from it looks for
requests several times a second. Its memory forgets at once (`Live.forget`): from then on, the caller is a new number.
The disk follows when a snapshot of the new memory replaces the old events. Then the request is deleted, and
with it the last copy of the token. Refused snapshots are deleted whole: no caller can be removed from them. A request
survives a crash. `forget_on_disk` treats a state that no process serves from.

Some data stay. The windows of called numbers still count the calls, without a name, until they expire (eight days).
Verdict records stay, too: they are needed for appeals (`retention.toml`, cases). `callsieve privacy delete` overwrites
those that need not be kept, and lists the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.keys.tokens import is_token
from callsieve.features.online.history import History
from callsieve.serving.scorer.flags import FILE, Flags

from .events import CALLS, COMPLAINTS
from .journal import file_numbers, file_path
from .snapshots import delete_unreadable, lock_folder, snapshot_numbers, snapshot_path, unlock_folder

REQUESTS = "forget"
PATIENCE, EVERY = 60.0, 0.1  # seconds for a process to forget, and between two checks


class Request(NamedTuple):
    """A token to forget, and the file that holds the request until it is served."""

    token: str
    where: Path


def request_forgetting(state: Path, token: str) -> Request:
    """Writes a request to forget a token."""
    if not is_token(token):
        raise ValueError("forget: expected the token of a number")
    folder = state / REQUESTS
    folder.mkdir(mode=0o700, exist_ok=True)
    request = Request(token, folder / hashlib.sha256(token.encode()).hexdigest()[:16])
    write_atomic(request.where, token.encode(), OWNER_ONLY)
    return request


def pending_requests(state: Path) -> list[Request]:
    """Returns the requests in a folder of live state; other files are skipped."""
    requests = []
    for where in sorted((state / REQUESTS).glob("[0-9a-f]*")):
        with contextlib.suppress(OSError):
            token = where.read_bytes().decode("ascii", "replace")
            if is_token(token):
                requests.append(Request(token, where))
    return requests


def forget(state: Path, token: str, patience: float = PATIENCE) -> float:
    """Removes a number from a folder of live state and from the process that serves from it.

    Args:
        patience: seconds to wait for the process.

    Returns: seconds until memory and disk have forgotten.
    """
    began = time.monotonic()
    request = request_forgetting(state, token)
    while request.where.exists():
        try:
            lock = lock_folder(state)
        except ValueError:  # a process serves from it
            if time.monotonic() > began + patience:
                raise ValueError(f"{state}: asked to forget a number; not done within {patience:g} seconds") from None
            time.sleep(EVERY)
            continue
        try:
            forget_on_disk(state, token)
            remove_requests([request])
        finally:
            unlock_folder(lock)
    return time.monotonic() - began


def forget_on_disk(state: Path, token: str) -> None:
    """Forgets a number in the files of a state whose lock the caller holds."""
    for number in snapshot_numbers(state):
        history = History.load(snapshot_path(state, number))
        history.forget(token)
        history.save(snapshot_path(state, number))
    for kind in (CALLS, COMPLAINTS):
        for number in file_numbers(state, kind):
            blank_lines(file_path(state, kind, number), token)
    if (path := state / FILE).exists():
        flags = Flags()
        with contextlib.suppress(ValueError):  # a damaged file is replaced by an empty one
            flags.restore(path.read_bytes())
        flags.release(token)
        write_atomic(path, flags.to_bytes(), OWNER_ONLY)
    delete_unreadable(state)


def blank_lines(where: Path, token: str, must_stay: Callable[[bytes], bool] = lambda _line: False) -> int:
    """Overwrites the lines of a journal file that contain a token, unless they must stay. Readers skip blank lines.

    Returns: the number of overwritten lines.
    """
    pattern, lines = token.encode(), 0
    with where.open("r+b") as file:
        begin = 0
        for line in file:
            if pattern in line and not must_stay(line):
                os.pwrite(file.fileno(), b" " * (len(line) - 1), begin)
                lines += 1
            begin += len(line)
        os.fsync(file.fileno())
    return lines


def remove_requests(requests: Sequence[Request]) -> None:
    """Deletes the files of served requests."""
    for request in requests:
        request.where.unlink(missing_ok=True)
