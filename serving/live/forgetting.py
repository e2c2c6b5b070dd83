"""People whose deletion was asked for: a scorer forgets them in memory and on its disk, while it serves.

`ask` leaves a request in the folder of a scorer's live state; the process that serves from it looks several times a
second. Its memory forgets at once (`Live.forget`): who comes back is a new number. Its disk follows as soon as a
snapshot of the new memory has taken the place of the old events; then the request is gone, and with it the last token
(and snapshots that were refused, whole: nobody can be taken out of them).
A request outlives a crash. A state that no process serves from is seen to by `forget_on_disk`.

What stays: that somebody called, in the windows of those who were called, under no name, until those windows have moved
on (eight days); and the evidence of verdicts, which is kept for appeals (`retention.toml`, cases): of it
`callsieve subject delete` overwrites what need not be kept, and tells the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from callsieve.features.files.folders import write_whole
from callsieve.features.files.ownership import OWN
from callsieve.features.keys.tokens import is_token
from callsieve.features.online.history import History

from .events import CALLS, REPORTS
from .journal import numbers, path
from .snapshots import drop_unreadable, let_go, own, snapshot, snapshots

FOLDER = "forget"
PATIENCE, EVERY = 60.0, 0.1  # seconds for a process to forget, and between two looks


class Request(NamedTuple):
    """Whom to forget, and the file that says so until it is done."""

    token: str
    where: Path


def ask(state: Path, token: str) -> Request:
    """Leave a request.

    Raises:
        ValueError: if it is no token.
    """
    if not is_token(token):
        raise ValueError("forget: expected the token of a number")
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    request = Request(token, folder / hashlib.sha256(token.encode()).hexdigest()[:16])
    write_whole(request.where, token.encode(), OWN)
    return request


def requests(state: Path) -> list[Request]:
    """What is asked for; files that are none of ours are passed over."""
    found = []
    for where in sorted((state / FOLDER).glob("[0-9a-f]*")):
        with contextlib.suppress(OSError):
            token = where.read_bytes().decode("ascii", "replace")
            if is_token(token):
                found.append(Request(token, where))
    return found


def forget(state: Path, token: str, patience: float = PATIENCE) -> float:
    """Have a folder of live state forget a person; seconds until memory and disk had.

    Raises:
        ValueError: if the process that serves from it does not within its time; the request stays.
    """
    began = time.monotonic()
    request = ask(state, token)
    while request.where.exists():
        try:
            held = own(state)
        except ValueError:  # a process serves from it
            if time.monotonic() > began + patience:
                raise ValueError(f"{state}: asked to forget a number; not done within {patience:g} seconds") from None
            time.sleep(EVERY)
            continue
        try:
            forget_on_disk(state, token)
            done([request])
        finally:
            let_go(held)
    return time.monotonic() - began


def forget_on_disk(state: Path, token: str) -> None:
    """Forget a person in the files of a state that the caller owns."""
    for number in snapshots(state):
        history = History.load(snapshot(state, number))
        history.forget(token)
        history.save(snapshot(state, number))
    for kind in (CALLS, REPORTS):
        for number in numbers(state, kind):
            blank(path(state, kind, number), token)
    drop_unreadable(state)


def blank(where: Path, token: str, must_stay: Callable[[bytes], bool] = lambda _line: False) -> int:
    """Overwrite the lines of a journal's file that name a token and need not stay; how many. Readers pass them over."""
    named, lines = token.encode(), 0
    with where.open("r+b") as file:
        begin = 0
        for line in file:
            if named in line and not must_stay(line):
                os.pwrite(file.fileno(), b" " * (len(line) - 1), begin)
                lines += 1
            begin += len(line)
        os.fsync(file.fileno())
    return lines


def done(asked: Sequence[Request]) -> None:
    """Whoever was to be forgotten is."""
    for request in asked:
        request.where.unlink(missing_ok=True)
