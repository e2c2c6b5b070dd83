"""The log of a service on standard error, as lines of text or of JSON, and its lines about changes of state.

Each line has the time, the level and a message; a line about one call has its case id. An exception appears as its
class and the places in the code, because its text could contain a number.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from callsieve.features.files.dates import now_ms
from callsieve.serving.scorer.problems import places

from .health import Health, health
from .live import Live
from .swap import Swap

LOOK_EVERY = 0.25  # seconds between two looks at the state
_LOG = logging.getLogger("callsieve.serving")
_CASE = "case"
"""Attribute of a log record about one call."""


class TextFormat(logging.Formatter):
    """Formats a record as `2026-11-28T09:30:00.250Z WARNING message (case 0123456789abcdef)`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        case = getattr(record, _CASE, "")
        text = f"{_moment(record)} {record.levelname} {_message(record)}"
        return f"{text} (case {case})" if case else text


class JsonFormat(logging.Formatter):
    """Formats a record as one JSON object with `at`, `level`, `logger`, `message`, and `case` if it has one."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        fields = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        case = getattr(record, _CASE, "")
        return json.dumps(fields | ({_CASE: case} if case else {}), ensure_ascii=False)


def log_to_stderr(*, json: bool) -> None:
    """Writes the log of this process to standard error: callsieve from INFO on, other libraries from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if json else TextFormat())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("callsieve").setLevel(logging.INFO)


def report_stop(state: Path, lost: int) -> None:
    """Logs the end of a service."""
    if lost:
        raise OSError(f"{state}: the disk refused {lost:,} events, which are lost; check its space and its rights")
    _LOG.info("stop: all events are on disk")


class StateLog:
    """Logs each change of a service's state: whether it is ready, why not, and the feed whose thresholds apply."""

    def __init__(self) -> None:
        self._state: Health | None = None
        self._feed = ""

    def look(self, live: Live | None, scorers: Swap) -> None:
        """Logs what has changed since the last look."""
        state = health(live, scorers, now_ms())
        if state != self._state:
            self._state = state
            level = logging.INFO if state.status in ("scored", "starting") else logging.WARNING
            _LOG.log(level, "%s: %s: %s", "ready" if state.ready else "not ready", state.status, state.message)
        if live is not None and live.feed != self._feed:
            pin = "pinned" if live.feed_is_pinned else "as recognised from the calls"
            _LOG.info("feed: %r (%s)", live.feed, pin)
            self._feed = live.feed


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    text = " ".join(record.getMessage().split())
    if record.exc_info and record.exc_info[0] is not None:
        return f"{text}: {record.exc_info[0].__name__} {places(record.exc_info[2])}"
    return text
