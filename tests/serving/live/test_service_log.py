"""The log of a service: changes of its state, once each, as lines that hold no value of a call."""

import dataclasses
import json
import logging
import re
import sys
from datetime import UTC, datetime

import pytest

from callsieve.features.online.feeds import ANSWERED_ONLY, COMPLETE
from callsieve.serving import Swap
from callsieve.serving.live import service_log
from callsieve.serving.live.service_log import JsonFormat, StateLog, TextFormat, report_stop
from callsieve.serving.scorer.status import MESSAGES
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.errors import refused
from tests.support.http_service import NUMBER, STRICT_POLICY
from tests.support.live_states import attempt_of


def test_each_change_of_state_and_feed_is_logged_once(tmp_path, monkeypatch, caplog):
    """The service starts, is ready, changes its feed, and expires."""
    caplog.set_level(logging.INFO, "callsieve.serving")
    log, swap = StateLog(), Swap(trusted=small.TRUSTED, policy=STRICT_POLICY)
    real_bundle.write_bundle(tmp_path / "bundle", valid_until="2026-04-01T00:00:00Z")
    now = [datetime(2026, 3, 1, tzinfo=UTC)]
    monkeypatch.setattr(service_log, "now_ms", lambda: round(now[0].timestamp() * 1000))

    def look(live):
        caplog.clear()
        for _ in range(3):
            log.look(live, swap)
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    assert look(None) == ["INFO not ready: starting: not scored: the service is starting"]
    swap.load(tmp_path / "bundle")
    live = live_states.begin(swap, tmp_path / "state")
    assert look(live) == ["INFO ready: scored: scored", f"INFO feed: {COMPLETE!r} (as recognised from the calls)"]
    live.memory.history.memory_feed.name = ANSWERED_ONLY
    blind, changed = look(live)
    assert blind.startswith(f"WARNING not ready: other_feed: {MESSAGES['other_feed']} (the feed of the records is ")
    assert changed == f"INFO feed: {ANSWERED_ONLY!r} (as recognised from the calls)"
    live.memory.history.memory_feed.name = COMPLETE
    assert look(live)[0] == "INFO ready: scored: scored"
    now[0] = datetime(2026, 4, 2, tzinfo=UTC)
    (line,) = look(live)
    live.close()
    assert line.startswith("WARNING not ready: stale: ") and "2026-04-01" in line


def test_a_line_has_its_case_and_of_an_exception_only_class_and_places():
    def fail():
        raise ValueError(f"a number: {NUMBER}")

    try:
        fail()
    except ValueError:
        record = logging.LogRecord("callsieve.serving", logging.ERROR, "x.py", 1, "two\n%s", ("lines",), sys.exc_info())
    record.case = "0123456789abcdef"
    fields = json.loads(JsonFormat().format(record))
    assert fields.keys() == {"at", "level", "logger", "message", "case"}
    assert datetime.fromisoformat(fields["at"]).tzinfo == UTC and fields["level"] == "error"
    assert re.fullmatch(r"two lines: ValueError test_service_log.py:\d+ < test_service_log.py:\d+", fields["message"])
    text = TextFormat().format(record)
    assert text == f"{fields['at']} ERROR {fields['message']} (case {fields['case']})"
    assert NUMBER[-7:] not in text + str(fields)


def test_a_stop_that_lost_events_fails_with_their_number(tmp_path, caplog):
    caplog.set_level(logging.INFO, "callsieve.serving")
    report_stop(tmp_path, 0)
    assert caplog.messages == ["stop: all events are on disk"]
    with refused("the disk refused 5,875 events, which are lost", OSError):
        report_stop(tmp_path, 5875)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("record", ["text", "json"])
def test_a_fault_of_the_scorer_is_logged_with_the_case(tmp_path, caplog, monkeypatch, record):
    real_bundle.write_bundle(tmp_path / "bundle")
    live = live_states.begin(live_states.loaded(tmp_path / "bundle", policy=STRICT_POLICY), tmp_path / "state")
    call = attempt_of(real_bundle.calls(1)[0])
    monkeypatch.setattr(live.scorers.scorer.bundle.model, "predict_one", lambda _row: 1 / 0)
    verdict = live.attempt(dataclasses.replace(call, trunk=None))
    live.close()
    (line,) = [entry for entry in caplog.records if "ZeroDivisionError" in entry.getMessage()]
    formatted = (JsonFormat() if record == "json" else TextFormat()).format(line)
    assert verdict.status == "fault" and verdict.case in formatted
    assert "(ZeroDivisionError) at test_service_log.py:" in formatted and " < scorer.py:" in formatted
