"""Callers that a person has cleared: they pass, whatever the model says, from the moment that the file says so.

The file is a copy of what the store of cases holds, so the process that judges calls needs no database. It is looked at
several times a second; one that is missing later on, damaged, or others' to write changes nothing: the last good one
stays, and the fault is counted.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY, only_we_may_write
from callsieve.features.records import ATTESTATIONS, KeyedCall
from callsieve.serving.scorer.verdict import Verdict

FILE = "unlisted"
"""Its name in a folder of live state."""
EVERY = 0.2  # seconds between two looks
STATUS = "unlisted: a person has cleared this caller"
_FORMAT = "callsieve unlisted 1"
_NEVER = (0, 0, 0, 0)  # nothing was seen of the file yet
_FAILED = ATTESTATIONS.index("failed")


class ClearedCallers:
    """The callers of a file, as it was when it was looked at last. Asking never waits and never raises.

    Attributes:
        spared: verdicts that became "pass".
        faults: times that the file could not be taken.

    >>> from pathlib import Path
    >>> cleared = ClearedCallers(Path("state/unlisted"))  # what `callsieve cases decide` writes; none yet
    >>> cleared.spared, cleared.faults
    (0, 0)
    """

    def __init__(self, path: Path) -> None:
        """Take what is there."""
        self.spared = self.faults = 0
        self._path, self._until, self._seen = path, dict[str, int](), _NEVER
        self.look()

    def spare(self, verdict: Verdict, call: KeyedCall, otherwise: str) -> Verdict:
        """The verdict, or another action if a person has cleared who calls.

        Args:
            otherwise: the action that facts alone lead to (`Scorer.action_if_cleared`).

        A caller is cleared for calls of its own: one that shows another number than the network's, or failed
        authentication, may be anybody's.
        """
        if verdict.action == "pass" or self._until.get(call.caller, 0) <= call.start:
            return verdict
        if call.presented_differs == 1 or call.attestation == _FAILED:
            return verdict
        self.spared += 1
        from dataclasses import replace  # it takes long to import, and few hosts have such a list

        return replace(verdict, action=otherwise, status=STATUS)

    def look(self) -> None:
        """Take the file if it is another one than before."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self.faults += self._seen != _NEVER
            return
        except OSError:
            self.faults += 1
            return
        # Who may write it is part of what is refused, and of that only the inode's own time tells.
        seen = (found.st_ctime_ns, found.st_mtime_ns, found.st_ino, found.st_size)
        if seen == self._seen:
            return
        try:
            self._until = read_cleared(self._path)
        except ValueError:
            self.faults += 1
        except OSError:  # nothing is known of what it says: it is asked again
            self.faults += 1
            return
        self._seen = seen


class WatchedClearedCallers(ClearedCallers):
    """The callers of a file, kept up to date by a thread of its own.

    >>> from pathlib import Path
    >>> from callsieve.serving import Swap, read_public_key
    >>> unlisted = WatchedClearedCallers(Path("state/unlisted"))  # may be written later
    >>> swap = Swap(trusted=[read_public_key("signer.pub")], unlisted=unlisted)
    >>> unlisted.close()
    """

    def __init__(self, path: Path, every: float = EVERY) -> None:
        """Take what is there, and look again every so many seconds."""
        super().__init__(path)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every,), name="unlisted", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

    def _run(self, every: float) -> None:
        while not self._done.wait(every):
            self.look()


def write_cleared(path: Path, until: Mapping[str, int], generation: int) -> None:
    """Put the file in place, whole or not at all, its owner's alone.

    Args:
        until: Unix ms up to which each caller (token) passes.
        generation: of the store; it only grows.
    """
    head = json.dumps({"format": _FORMAT, "generation": generation, "callers": len(until), "at": round(time.time())})
    lines = [head, *(f"{caller} {moment}" for caller, moment in sorted(until.items()))]
    write_atomic(path, ("\n".join(lines) + "\n").encode(), OWNER_ONLY)


def read_cleared(path: Path) -> dict[str, int]:
    """Until when each caller passes.

    Raises:
        ValueError: in one line, if it is not a whole file of this form that its owner alone may write.
    """
    return _read(path)[1]


def generation_of(path: Path) -> int:
    """The store's generation that the file shows; -1 if there is none that is sound."""
    try:
        return _read(path)[0]
    except (ValueError, OSError):
        return -1


def _read(path: Path) -> tuple[int, dict[str, int]]:
    """The generation, and until when each caller passes."""
    with path.open("rb") as file:
        if not only_we_may_write(os.fstat(file.fileno())):
            raise ValueError(f"{path}: expected a file that belongs to this user and that nobody else may write")
        head, *lines = file.read().decode("ascii", "replace").splitlines()
    told = json.loads(head)
    if not isinstance(told, dict) or told.get("format") != _FORMAT or told.get("callers") != len(lines):
        raise ValueError(f"{path}: expected a whole file in format {_FORMAT!r}")
    generation = told.get("generation")
    if not isinstance(generation, int):
        raise ValueError(f"{path}: generation: expected a whole number, got {generation!r}")
    return generation, {caller: int(moment) for caller, _, moment in (line.partition(" ") for line in lines)}
