"""`callsieve live fill`: a service warmed up with records scores like a service that saw these calls live."""

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from callsieve.features import History, Intake
from callsieve.features.records import UNKNOWN
from callsieve.serving.batch.call_files import CallFile, read_keyed_file
from callsieve.serving.live.swap import Swap
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.calls.record_files import write_records
from tests.support.http_service import CAPACITY, STRICT_POLICY

DAY = 86_400


@pytest.fixture(scope="module")
def calls():
    """Two weeks of finished calls."""
    return [call for call in real_bundle.calls(600) if call.ring is not None]


@pytest.fixture
def records(calls, tmp_path):
    return write_records(calls[:500], tmp_path / "records")


@pytest.fixture
def swap(tmp_path):
    """A loaded bundle under a policy that asks for seven days of history."""
    real_bundle.write_bundle(tmp_path / "bundle")
    return live_states.loaded(tmp_path / "bundle", policy=replace(STRICT_POLICY, history_days=7))


def fill_command(records, state):
    return ("live", "fill", "--calls", records / "calls.csv", "--key", records / "number.key", "--state", state)


def test_a_warmed_up_service_scores_like_one_that_saw_the_calls(command_json, calls, records, swap, tmp_path):
    figures = command_json(*fill_command(records, tmp_path / "state"), "--max-calls", 5000, "--max-numbers", 500)
    assert (figures["calls"], figures["calls_in_memory"], figures["dropped"], figures["filled"]) == (500, 500, 0, True)
    history, intake = History(**CAPACITY["limits"]._asdict()), Intake(real_bundle.NUMBER_KEY)
    for call in calls[:500]:
        history.observe(intake(call))
    live = live_states.begin(swap, tmp_path / "state")
    try:
        attempt = replace(calls[500], ring=None, talk=None, outcome="unknown", released_by="unknown")
        # The number that a caller dialled last is plain digits, which no file holds, so its step is unknown.
        expected = swap.scorer.score(history, replace(intake(attempt), step=UNKNOWN))
        verdict = live.attempt(attempt)
        assert (verdict.raw, verdict.action, verdict.band) == (expected.raw, expected.action, expected.band)
        assert verdict.status == expected.status == "scored"
    finally:
        live.close()


def test_a_folder_with_events_and_records_without_a_call_are_refused(
    command_json, command_error, run_command, records, tmp_path
):
    command_json(*fill_command(records, tmp_path / "state"))
    assert command_json(*fill_command(records, tmp_path / "state"))["calls"] == 500  # replaced: no service ran on it
    live = live_states.begin(Swap(trusted=small.TRUSTED), tmp_path / "state")
    live.end(real_bundle.calls(1)[0])
    live.close()
    code, _, err = run_command(*fill_command(records, tmp_path / "state"))
    assert code == 1 and "holds events of a service already; expected a folder without events" in err
    assert "no call to read" in command_error(*fill_command(write_records([], tmp_path / "none"), tmp_path / "other"))
    assert not list((tmp_path / "other").glob("state-*"))


def test_too_few_days_are_reported_and_the_service_abstains(command_json, command_text, calls, swap, tmp_path):
    first_days = [record for record in calls if record.start < calls[0].start + 3 * DAY]
    few = write_records(first_days, tmp_path / "few")
    assert command_json(*fill_command(few, tmp_path / "one"))["filled"] is False
    many = write_records(calls[:500], tmp_path / "many")
    bounded = command_json(*fill_command(many, tmp_path / "three"), "--max-calls", 50)
    assert (bounded["calls_in_memory"], bounded["dropped"], bounded["filled"]) == (50, 450, False)
    assert "less than a week is known: the model abstains" in command_text(*fill_command(few, tmp_path / "two"))
    live = live_states.begin(swap, tmp_path / "one")
    try:
        after = max(record.start for record in first_days) + 60
        verdict = live.attempt(replace(calls[0], start=after, ring=None, talk=None, outcome="unknown"))
        assert verdict.status == "filling"
    finally:
        live.close()


def test_a_feed_without_thresholds_is_named_by_fill_and_known_from_the_start(
    command_json, command_text, swap, tmp_path
):
    ended = [call for call in real_bundle.calls(2500) if call.ring is not None]
    starts = [ended[0].start + 10 * DAY * place / len(ended) for place in range(len(ended))]
    dense = [replace(call, start=at, talk=9.0, outcome="answered") for call, at in zip(ended, starts, strict=True)]
    records = write_records(dense, tmp_path / "answered")
    facts = command_json(*fill_command(records, tmp_path / "state"), "--max-calls", 5000, "--max-numbers", 500)
    feed = facts["feed"]
    assert "answered only" in feed and f"the feed of the records is {feed!r}" in facts["feed_fault"]
    text = command_text(*fill_command(records, tmp_path / "state"))
    assert f"the shipped model abstains: {facts['feed_fault']}" in text and "the model acts" not in text
    live = live_states.begin(swap, tmp_path / "state")
    assert live.feed == feed
    live.close()


def test_records_are_read_in_the_zone_of_the_exchange(command_error, command_text, run_command, command_json, tmp_path):
    """Both commands that read records take `--zone`: a half hour of clock and of hours that no default has."""
    folder = write_records([], tmp_path / "records")
    row = '"","{0}","13900139000","in","","c","d","Dial","","{1}","","{2}","25","5","ANSWERED","3","u",""'
    moment = datetime(2026, 3, 2, 9, tzinfo=ZoneInfo("Asia/Kolkata"))
    times = [f"{moment + shift:%Y-%m-%d %H:%M:%S}" for shift in (timedelta(0), timedelta(seconds=25))]
    (folder / "Master.csv").write_text(row.format("13800138000", *times) + "\n")
    words = ("--calls", folder / "Master.csv", "--layout", "asterisk", "--zone", "Asia/Kolkata")
    words += ("--key", folder / "number.key")
    figures = command_json("live", "fill", *words, "--state", tmp_path / "state", "--max-calls", 9, "--max-numbers", 9)
    assert figures["first"] == figures["last"] == "2026-03-02T03:30:00Z"
    real_bundle.write_signed(tmp_path)
    model = ("--bundle", tmp_path / "bundle")
    command_text("score", *words, *model, "--out", tmp_path / "verdicts.parquet")
    assert pq.read_table(tmp_path / "verdicts.parquet")["start"].to_pylist() == [round(moment.timestamp() * 1000)]
    read = read_keyed_file(CallFile(path=words[1], layout="asterisk", key=words[-1], zone="Asia/Kolkata"), "scoring")
    assert read.calls["hour"].to_pylist() == [9]
    code, _, err = run_command("score", *words[:2], "--zone", "Mars/Olympus", "--layout", "asterisk")
    assert code == 1 and "unknown time zone 'Mars/Olympus'" in err
    assert "--zone" in command_error("score", *words[:2], "--zone", "UTC", "--layout", "keyed", code=2)
