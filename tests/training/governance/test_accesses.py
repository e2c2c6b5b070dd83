"""Accesses that are out of the usual are told, and what people do every day is not."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.serving.http import access_log
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES, AccessLog, read_accesses
from callsieve.serving.live.journal import numbers
from callsieve.training.governance import accesses
from callsieve.training.governance.accesses import (
    ALWAYS,
    FIRST,
    NEARLY,
    OFF_HOURS,
    REFUSED,
    VOLUME,
    Access,
    of_log,
    read_usual,
    totals,
    unusual,
)
from callsieve.training.log.audit_log import append
from callsieve.training.log.tickets import EXPORT, REIDENTIFY, Act, enter, refusals_entered
from tests.support import http_service, recorded_run
from tests.support import small_bundle as small
from tests.support.waiting import until

RULES = read_usual()
MONDAY = date(2026, 3, 2)
UNTIL = MONDAY + timedelta(27)  # a Sunday
EXPLAIN = "/v1/explain"
SHIPPED = Path(accesses.__file__).with_name("accesses.toml")


def at(day, hour, minute=0):
    """A local moment, so many days after the first Monday."""
    return datetime(MONDAY.year, MONDAY.month, MONDAY.day, hour, minute, tzinfo=RULES.zone) + timedelta(day)


def working_days(who, rows, what=EXPLAIN):
    """Rows of each working day of four weeks, at ten in the morning."""
    days = [day for day in range(28) if day % 7 < 5]
    return [Access(at(day, 10), who, what, "appeals", count) for day, count in zip(days, rows, strict=True)]


def reasons(accesses, since=MONDAY + timedelta(1)):
    return [(one.who, one.day, one.why) for one in unusual(accesses, RULES, since, UNTIL)]


@given(st.lists(st.integers(80, 300), min_size=20, max_size=20), st.randoms())
def test_steady_work_is_never_told_and_the_order_of_entries_says_nothing(rows, random):
    asked = working_days("desk", rows)
    random.shuffle(asked)
    assert reasons(asked) == []
    [first] = unusual(asked, RULES, MONDAY, UNTIL)
    assert (first.day, first.why, first.usual) == (MONDAY.isoformat(), FIRST, None)


@pytest.mark.source("L41", "P9", by="training/governance/accesses.py")
@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (Access(at(16, 23, 40), "desk", EXPLAIN, "", 3), {OFF_HOURS}),
        (Access(at(19, 11), "desk", EXPLAIN, "", 3), {OFF_HOURS}),  # a Saturday
        (Access(at(16, 11), "desk", EXPLAIN, "", 900), {VOLUME}),
        (Access(at(16, 11), "desk", EXPLAIN, "", 5, "the key lacks the scope"), {REFUSED}),
        (Access(at(16, 11), "", EXPLAIN, "", 5, "no known key"), {REFUSED}),
        (Access(at(16, 11), "desk", REIDENTIFY, "court order", 1), {ALWAYS, FIRST}),
        (Access(at(16, 11), "newcomer", EXPLAIN, "", 1), {FIRST}),
        (Access(at(16, 3), "desk", "/v1/score", "", 1), {FIRST}),  # machines ask at any hour
    ],
    ids=["night", "weekend", "volume", "refused", "no key", "reidentification", "newcomer", "machine"],
)
def test_each_kind_of_unusual_access_is_told_and_nothing_else(odd, why):
    steady = [*working_days("desk", [120] * 20), *working_days("other", [90] * 20)]
    assert set(reasons([*steady, odd])) == {(odd.who, odd.at.date().isoformat(), each) for each in why}


def test_volume_is_held_against_ones_own_days_before_not_against_others_nor_the_day_itself():
    big, small_one = working_days("big", [5000] * 20), working_days("small", [50] * 20)
    assert reasons(big + small_one) == []
    [told_of] = unusual(
        [*big, *small_one, Access(at(25, 12), "small", EXPLAIN, "", 400)], RULES, MONDAY + timedelta(1), UNTIL
    )
    assert (told_of.who, told_of.why, told_of.rows, told_of.usual) == ("small", VOLUME, 450, 50.0)
    # A baseline that is older than four weeks is none, and refusals are no baseline.
    late = Access(at(60, 10), "small", EXPLAIN, "", 50)
    refused = Access(at(59, 10), "small", EXPLAIN, "", 50, "no known key")
    found = unusual([*small_one, refused, late], RULES, late.at.date(), late.at.date())
    assert [one.why for one in found] == [FIRST]


def test_many_small_exports_of_a_day_are_told_and_one_with_a_ticket_is_none_of_them():
    steady = working_days("risk", [200] * 20, EXPORT)
    day = at(16, 11)
    pieces = [Access(day + timedelta(minutes=n), "risk", EXPORT, "a sample", 100) for n in range(2)]
    assert [why for _, _, why in reasons([*steady, *pieces])] == [NEARLY]
    agreed = [Access(day, "risk", EXPORT, "a sample", 200, ticket=True)]
    assert reasons([*steady, *agreed]) == []


def test_false_alarms_of_ordinary_staff_are_few_and_a_theft_of_a_day_is_found():
    """Twelve months of made-up staff, whose days vary by half (log-normal, sigma 0.5)."""
    rng = np.random.default_rng(4)
    alarms, stolen = 0, 0
    for person in range(12):
        rows = np.ceil(100 * np.exp(0.5 * rng.standard_normal(20))).astype(int).tolist()
        asked = working_days(f"p{person}", rows)
        late = MONDAY + timedelta(14)
        alarms += len(unusual(asked, RULES, late, UNTIL))
        theft = Access(at(24, 14), f"p{person}", EXPLAIN, "", 1000)
        stolen += any(one.why == VOLUME for one in unusual([*asked, theft], RULES, late, UNTIL))
    assert alarms <= 1 and stolen == 12


@pytest.mark.source("L41", by="training/log/tickets.py")
def test_who_was_refused_what_is_in_the_log_and_in_the_report(tmp_path, told, call):
    log = tmp_path / "audit"
    act = Act(REIDENTIFY, "a" * 64, 3, "curiosity", "clerk")
    with pytest.raises(ValueError, match="got 0"):
        enter(log, act, [], recorded_run.gates(), small.KEY)
    with (
        pytest.raises(ValueError, match="not for export"),
        refusals_entered(log, Act(EXPORT, "", 0, "a friend asks", "clerk"), small.KEY),
    ):
        raise ValueError("calls: declared for training, not for export")
    assert enter(log, Act(EXPORT, "b" * 64, 20, "a sample", "risk"), [], recorded_run.gates(), small.KEY) == 2
    append(log, "access", {"act": "read"}, small.KEY)  # by no person: by the service itself
    one, other, third = of_log(log)
    assert (one.who, one.what, one.purpose, one.rows) == ("clerk", REIDENTIFY, "curiosity", 3)
    assert "got 0" in one.refused and other.refused == "calls: declared for training, not for export"
    assert third.refused == "" and abs((datetime.now(tz=UTC) - third.at).total_seconds()) < 60
    today, far = datetime.now(tz=RULES.zone).date(), date(2020, 1, 1)
    assert totals(of_log(log), RULES.zone, far, far) == []
    assert {each["what"] for each in totals(of_log(log), RULES.zone, far, today)} == {REIDENTIFY, EXPORT}
    report = told("accesses", "--audit", log, "--days", 2)
    assert {"who": "clerk", "what": EXPORT, "rows": 0, "refused": 1} in report["accesses"]
    refusals = {(one["what"], one["detail"]) for one in report["unusual"] if one["why"] == REFUSED}
    assert (EXPORT, "calls: declared for training, not for export; for: a friend asks") in refusals
    code, out, _ = call("accesses", "--audit", log)
    assert code == 0 and "clerk" in out and "curiosity" in out


@pytest.mark.source("L41", by="serving/http/access_log.py")
def test_a_service_counts_who_asked_and_who_was_turned_away(tmp_path, told):
    """A real service: its own process, its own file."""
    keys = http_service.files(tmp_path)
    with http_service.Process(tmp_path) as service:
        assert service.get("/v1/status", keys["admin"])[0] == 200
        for _ in range(3):
            assert service.get(EXPLAIN + "?case=0123456789abcdef", keys["score"])[0] == 403
        assert service.get("/v1/status", "cs_nobody")[0] == 401
        # While it runs, its lines come by themselves.
        until(lambda: any(one.who == "admin" for one in read_accesses(tmp_path / "state")))
        assert service.get("/v1/status", keys["audit"])[0] == 200
    counted = {(one.who, one.what, one.code): one.count for one in read_accesses(tmp_path / "state")}
    assert counted[("audit", "/v1/status", 200)] == 1  # told to stop, it writes down the last ones
    assert counted[("score", EXPLAIN, 403)] == 3 and counted[("", "/v1/status", 401)] == 1
    report = told("accesses", "--state", tmp_path / "state")
    refused = {(one["who"], one["what"], one["detail"]) for one in report["unusual"] if one["why"] == REFUSED}
    assert refused == {("score", EXPLAIN, "the key lacks the scope"), ("", "/v1/status", "no known key")}
    text = b"".join(each.read_bytes() for each in (tmp_path / "state").glob("accesses-*.log"))
    assert b"0123456789abcdef" not in text and b"cs_nobody" not in text


def test_a_flood_is_one_line_and_a_closed_log_has_all(tmp_path):
    log = AccessLog(tmp_path, CASE_ACCESSES, every=3600)
    for n in range(10_000):
        log.note("flood" if n % 2 else "", EXPLAIN, 429)
    log.close()
    found = list(read_accesses(tmp_path))
    assert sorted((one.who, one.count) for one in found) == [("", 5000), ("flood", 5000)]
    assert len(list(tmp_path.glob("case-accesses-*.log"))) == 1


def test_a_log_that_runs_writes_its_counts_and_begins_a_new_file_each_day(tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "DAY", 0.0)
    log = AccessLog(tmp_path, every=0.0)
    log.note("desk", EXPLAIN, 200)
    until(lambda: list(read_accesses(tmp_path)))
    first = max(numbers(tmp_path, ACCESSES))
    log.note("desk", EXPLAIN, 404)
    until(lambda: max(numbers(tmp_path, ACCESSES)) > first)
    log.close()
    assert [(one.code, one.count) for one in read_accesses(tmp_path)] == [(200, 1), (404, 1)]


@pytest.mark.parametrize(
    ("old", "new"),
    [("times = 4.0", "times = 0.5"), ('version = "2026-11"', ""), ("days = 28", 'days = "x"'), ("[hours]", "[hour]")],
)
def test_rules_that_are_none_are_refused_in_one_line(tmp_path, old, new):
    text = SHIPPED.read_text()
    assert old in text
    (tmp_path / "rules.toml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=r"rules\.toml: ") as said:
        read_usual(tmp_path / "rules.toml")
    assert "\n" not in str(said.value)
