"""Counts looks at calls beside the calls, in `looks.jsonl`: all audit logs that judge on a folder share one count.

Each line names the fold, the audit log that has the look, the command, and the moment. A file is not signed: who may
write to the folder can remove it. The audit log then has its own looks, and a report says what was counted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from callsieve.features.files.strict_json import as_fields, as_text, decode

FILE = "looks.jsonl"
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class RegisteredLook:
    """A look at calls.

    Attributes:
        fold: name of the fold, as in the audit log.
        log: `audit_log.log_id` of the audit log that has the look.
        by: the command.
        at: UTC moment.
    """

    fold: str
    log: str
    by: str
    at: str


def register_look(folder: Path, fold: str, log: str, by: str) -> bool:
    """Adds a look to the registry of a folder of calls; returns False if the folder cannot be written to."""
    look = RegisteredLook(fold, log, by, datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    try:
        with (folder / FILE).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # without an incomplete last line that a crash left
            file.write(json.dumps(asdict(look)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        return False
    return True


def registered_looks(folder: Path) -> list[RegisteredLook]:
    """Returns the looks in the registry of a folder of calls, in order; none without a registry.

    Raises:
        ValueError: in one line, if a line is malformed.
    """
    path = folder / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [_look(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _look(line: bytes, where: str) -> RegisteredLook:
    names = ("fold", "log", "by", "at")
    try:
        fields = as_fields(decode(line), "look", names)
        return RegisteredLook(*(as_text(fields[name], name) for name in names))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
