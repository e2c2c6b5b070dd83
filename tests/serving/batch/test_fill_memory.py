"""`callsieve fill`: a service that begins with the records of the days before knows what one knows that was there."""

import csv
from dataclasses import replace

import pytest

from callsieve.features.intake.intake import Intake
from callsieve.features.online.history import History
from callsieve.features.records import CALL_COLUMNS, UNKNOWN
from callsieve.serving.custody.purposes import declare
from callsieve.serving.live.live import Live
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.verdict import FILLING
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import CAPACITY, LONG_DEADLINE, STRICT_POLICY


@pytest.fixture(scope="module")
def calls():
    """Two weeks of calls that are over."""
    return [call for call in real_bundle.calls(600) if call.ring is not None]


@pytest.fixture
def records(calls, tmp_path):
    return written(calls[:500], tmp_path / "records")


def written(calls, folder):
    folder.mkdir()
    with (folder / "calls.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(CALL_COLUMNS)
        for call in calls:
            values = (getattr(call, name) for name in CALL_COLUMNS)
            rows.writerow(["" if value is None else value for value in values])
    declare(folder, "switch of the test", "contract", ["scoring"], "2999-12-31")
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    return folder


def words(records, state):
    return ("fill", "--calls", records / "calls.csv", "--key", records / "number.key", "--state", state)


def test_a_service_that_was_filled_says_what_one_says_that_was_there(told, calls, records, tmp_path):
    value = told(*words(records, tmp_path / "state"), "--held", 5000, "--numbers", 500)
    assert (value["calls"], value["calls_in_memory"], value["dropped"], value["filled"]) == (500, 500, 0, True)
    real_bundle.write_bundle(tmp_path / "bundle")
    swap = Swap(trusted=small.TRUSTED, policy=replace(STRICT_POLICY, history_days=7))
    swap.load(tmp_path / "bundle")
    there, intake, scorer = History(**CAPACITY), Intake(real_bundle.NUMBER_KEY), swap.scorer
    for call in calls[:500]:
        there.observe(intake(call))
    live = Live(swap, Intake(real_bundle.NUMBER_KEY), tmp_path / "state", deadline=LONG_DEADLINE, **CAPACITY)
    try:
        attempt = replace(calls[500], ring=None, talk=None, outcome="unknown", released_by="unknown")
        # Which number a caller dialled last is digits: no file holds it.
        expected = scorer.score(there, replace(intake(attempt), step=UNKNOWN))
        verdict = live.attempt(attempt)
        assert (verdict.raw, verdict.action, verdict.band) == (expected.raw, expected.action, expected.band)
        assert verdict.status == expected.status == "ok"
    finally:
        live.close()


def test_a_folder_that_holds_events_and_records_without_a_call_are_refused(told, call, records, tmp_path):
    told(*words(records, tmp_path / "state"))
    assert told(*words(records, tmp_path / "state"))["calls"] == 500  # made anew: no service learnt anything since
    live = Live(Swap(trusted=small.TRUSTED), Intake(real_bundle.NUMBER_KEY), tmp_path / "state", **CAPACITY)
    live.end(real_bundle.calls(1)[0])
    live.close()
    code, _, err = call(*words(records, tmp_path / "state"))
    assert code == 1 and "holds what a service learnt already; expected a folder without events" in err
    code, _, err = call(*words(written([], tmp_path / "none"), tmp_path / "other"))
    assert code == 1 and "no call to take in; 0 rows were put apart" in err
    assert not list((tmp_path / "other").glob("state-*"))


def test_too_few_days_are_told(told, call, calls, tmp_path):
    few = written([one for one in calls if one.start < calls[0].start + 3 * 86_400], tmp_path / "few")
    assert told(*words(few, tmp_path / "one"))["filled"] is False
    small_room = told(*words(written(calls[:500], tmp_path / "many"), tmp_path / "three"), "--held", 50)
    assert (small_room["calls_in_memory"], small_room["dropped"], small_room["filled"]) == (50, 450, False)
    code, out, _ = call(*words(few, tmp_path / "two"))
    assert code == 0 and "too few days: bands do not speak yet" in out
    real_bundle.write_bundle(tmp_path / "bundle")
    swap = Swap(trusted=small.TRUSTED, policy=replace(STRICT_POLICY, history_days=7))
    swap.load(tmp_path / "bundle")
    live = Live(swap, Intake(real_bundle.NUMBER_KEY), tmp_path / "one", deadline=LONG_DEADLINE, **CAPACITY)
    try:
        last = max(one.start for one in calls if one.start < calls[0].start + 3 * 86_400)
        assert (
            live.attempt(replace(calls[0], start=last + 60, ring=None, talk=None, outcome="unknown")).status == FILLING
        )
    finally:
        live.close()
