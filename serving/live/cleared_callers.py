"""Callers that a reviewer has cleared: the model's score has no effect on their calls.

The list is a file, a copy from the store of cases, so the scoring process needs no database. The process checks the
file several times a second. A file that disappears, is damaged, or can be written by other users changes nothing: the
last good list stays in force, and the fault is counted.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY, only_we_may_write
from callsieve.features.records import ATTESTATIONS, KeyedCall
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.scorer.status import message_of
from callsieve.serving.scorer.verdict import Verdict

FILE = "cleared"
"""Name of the file in a folder of live state."""
EVERY = 0.2  # seconds between two checks of the file
_FORMAT = "callsieve cleared 1"
_NEVER = (0, 0, 0, 0)  # the file was never seen
_FAILED = ATTESTATIONS.index("failed")


class ClearedCallers:
    """The list in a file, as of the last `look`. Look-ups never wait and never raise.

    Attributes:
        spared: verdicts that became "pass".
        faults: times that the file could not be read.

    >>> from pathlib import Path
    >>> cleared = ClearedCallers(Path("state/cleared"))  # what `callsieve cases decide` writes; none yet
    >>> cleared.spared, cleared.faults
    (0, 0)
    """

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one."""
        self.spared = self.faults = 0
        self._path, self._until, self._seen = path, dict[str, int](), _NEVER
        self.look()

    def spare(self, verdict: Verdict, call: KeyedCall, otherwise: str, confidence: float = math.nan) -> Verdict:
        """Returns the verdict, with another action if the caller is cleared.

        Args:
            otherwise: the action that the facts lead to without the model (`Scorer.action_if_cleared`).
            confidence: the confidence in that action.

        The clearance covers only calls that certainly come from the caller. It excludes calls that show another number
        than the network's, and calls that failed authentication.
        """
        if verdict.action == "pass" or self._until.get(call.caller, 0) <= call.start:
            return verdict
        if call.presented_differs == 1 or call.attestation == _FAILED:
            return verdict
        self.spared += 1
        from dataclasses import replace  # a slow import that few hosts need

        rules = [fact.rule for fact in verdict.rules]
        return replace(
            verdict,
            action=otherwise,
            status="cleared",
            message=message_of("cleared"),
            confidence=confidence,
            plan_class="" if otherwise == "pass" else plan_class(None, rules),
        )

    def look(self) -> None:
        """Reads the file again if it has changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self.faults += self._seen != _NEVER
            return
        except OSError:
            self.faults += 1
            return
        # A change of owner or mode shows only in the change time of the inode.
        seen = (status.st_ctime_ns, status.st_mtime_ns, status.st_ino, status.st_size)
        if seen == self._seen:
            return
        try:
            self._until = read_cleared(self._path)
        except ValueError:
            self.faults += 1
        except OSError:  # the content is unknown: the next look tries again
            self.faults += 1
            return
        self._seen = seen


class WatchedClearedCallers(ClearedCallers):
    """A list that a separate thread keeps up to date.

    >>> from pathlib import Path
    >>> from callsieve.serving import Swap, read_public_key
    >>> cleared = WatchedClearedCallers(Path("state/cleared"))  # may be written later
    >>> swap = Swap(trusted=[read_public_key("signer.pub")], cleared=cleared)
    >>> cleared.close()
    """

    def __init__(self, path: Path, every: float = EVERY) -> None:
        """Reads the file, and checks it again every `every` seconds."""
        super().__init__(path)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(every,), name="cleared", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._done.set()
        self._thread.join()

    def _run(self, every: float) -> None:
        while not self._done.wait(every):
            self.look()


def write_cleared(path: Path, until: Mapping[str, int], generation: int) -> None:
    """Writes the file atomically; only its owner may read it.

    Args:
        until: Unix ms up to which each caller (token) passes.
    """
    head = json.dumps({"format": _FORMAT, "generation": generation, "callers": len(until), "at": round(time.time())})
    lines = [head, *(f"{caller} {moment}" for caller, moment in sorted(until.items()))]
    write_atomic(path, ("\n".join(lines) + "\n").encode(), OWNER_ONLY)


def read_cleared(path: Path) -> dict[str, int]:
    """Returns Unix ms until which each caller passes."""
    return _read(path)[1]


def generation_of(path: Path) -> int:
    """Returns the generation in the file; -1 if there is no valid file."""
    try:
        return _read(path)[0]
    except (ValueError, OSError):
        return -1


def _read(path: Path) -> tuple[int, dict[str, int]]:
    with path.open("rb") as file:
        if not only_we_may_write(os.fstat(file.fileno())):
            raise ValueError(f"{path}: expected a file that belongs to this user and no other user may write")
        head, *lines = file.read().decode("ascii", "replace").splitlines()
    header = json.loads(head)
    if not isinstance(header, dict) or header.get("format") != _FORMAT or header.get("callers") != len(lines):
        raise ValueError(f"{path}: expected a whole file in format {_FORMAT!r}")
    generation = header.get("generation")
    if not isinstance(generation, int):
        raise ValueError(f"{path}: generation: expected a whole number, got {generation!r}")
    return generation, {caller: int(moment) for caller, _, moment in (line.partition(" ") for line in lines)}
