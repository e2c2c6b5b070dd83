"""The report for those who govern: its figures against a plain count, what is left out, and that the page opens."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.custody.purposes import declare
from callsieve.serving.rules.registers import Registers
from callsieve.training.cli.main import main
from callsieve.training.governance import report
from callsieve.training.governance.disclosure import Cell, Count
from callsieve.training.governance.page import page
from callsieve.training.governance.parties import Ledger, columns, in_force, read_ledger
from callsieve.training.governance.releases import read_releases
from callsieve.training.governance.report import calls_shown, days_of, govern, period_of
from callsieve.training.governance.shared_victims import groups

CHROMIUM = "chromium"  # Debian's package of that name
LEAST = {"callee": 4, "caller": 2}
QUIET = {"progress": lambda *_: None}


@pytest.fixture(scope="module")
def plain(world_folder):
    """Calls with the columns that the tests count by, as a frame."""
    frame = pq.read_table(world_folder / "calls.parquet").to_pandas()
    for name in ("caller", "callee", "operator", "trunk", "outcome", "attestation", "caller_class"):
        frame[name] = frame[name].astype(object)
    return frame


@pytest.fixture(scope="module")
def verdicts(world_folder, tmp_path_factory):
    """Verdicts that need no model: what matters here is whose they are."""
    calls = pq.read_table(world_folder / "calls.parquet", columns=["start", "caller", "callee"])
    action = pa.array(["pass", "pass", "label", "block"]).take(pa.array(np.arange(calls.num_rows) % 4))
    path = tmp_path_factory.mktemp("verdicts") / "verdicts.parquet"
    pq.write_table(calls.append_column("action", action), path)
    return path


@pytest.fixture(scope="module")
def made(world_folder, verdicts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    given = ["--data", world_folder, "--out", folder / "out", "--releases", folder / "releases", "--days", 4]
    code, out = command("--verdicts", verdicts, "--callees", LEAST["callee"], "--callers", LEAST["caller"], *given)
    assert code == 0
    return folder, json.loads(out)


def command(*given):
    """Exit code and what was said on standard output, as JSON is asked for."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["callsieve", "report", *map(str, given), "--json"])
        main()
    return ended.value.code or 0, said.getvalue()


def of_period(plain, period):
    first, last = days_of(period)
    return plain[(plain["day"] >= first) & (plain["day"] < last)]


@pytest.mark.source("L5", "L8", "L9", by="training/governance/report.py")
def test_figures_are_those_of_a_plain_count(made, plain):
    _, facts = made
    now, past = (of_period(plain, facts[name]) for name in ("now", "before"))
    for table in ("operator", "trunk"):
        assert facts["tables"][table]
        for row in facts["tables"][table]:
            mine = now[now[table] == row["row"]]
            assert row["calls"] == len(mine)
            assert row["before"] in (None, (past[table] == row["row"]).sum())
            assert row["people"] == {
                kind: mine[kind].nunique() // least * least for kind, least in LEAST.items()
            }  # fmt: skip
            splits = row["splits"]
            false_number = (mine["presented_differs"] == 1) | (mine["attestation"] == "failed")
            for name, wanted in (("answered", mine["outcome"] == "answered"), ("false_number", false_number)):
                assert splits.get(name, {"yes": wanted.sum()})["yes"] == wanted.sum()
            if "action" in splits:
                assert splits["action"] == {
                    "pass": (mine.index % 4 < 2).sum(), "label": (mine.index % 4 == 2).sum(), "screen": 0,
                    "block": (mine.index % 4 == 3).sum(),
                }  # fmt: skip
    assert facts["tables"]["all"][0]["calls"] == len(now)


@pytest.mark.source("L12", by="training/governance/parties.py")
def test_a_registration_counts_as_it_was_known_when_the_call_rang(world_folder):
    ledger = read_ledger(world_folder)
    found, register = columns(ledger), ledger.registers["campaigns"]
    calls = ledger.calls.select(["start", "caller"]).to_pandas()
    at = pd.to_datetime(calls["start"], unit="ms", utc=True)
    mine = calls["caller"].astype(object).isin(set(register["number"]))
    assert mine.any() and (found["registered"].codes[~mine] == 1).all()
    rows = calls.index[mine][:: max(1, mine.sum() // 300)]
    seen = set()
    for i in rows:
        known = register[(register["number"] == calls["caller"][i]) & (register["known_at"] <= at[i])]
        held = known[(known["valid_from"] <= at[i]) & ~(known["valid_to"] <= at[i])]
        assert (found["registered"].codes[i] == 0) == (len(held) > 0)
        if len(held) == 1:
            assert found["industry"].labels[found["industry"].codes[i]] == held["business"].iloc[0]
        seen.add(len(held) > 0)
    assert seen == {True, False}


def test_a_number_is_on_its_trunk_as_it_was_known_when_the_call_rang(world_folder):
    ledger = read_ledger(world_folder)
    outside, register = columns(ledger)["outside_register"], ledger.registers["trunks"]
    calls = ledger.calls.select(["start", "caller", "trunk"]).to_pandas().astype({"caller": object, "trunk": object})
    assert ((outside.codes == -1) == calls["trunk"].isna()).all()
    over = calls.dropna(subset=["trunk"])
    assert set(outside.codes[over.index]) == {0, 1}
    for call in over.iloc[:: max(1, len(over) // 300)].itertuples():
        at = pd.Timestamp(call.start, unit="ms", tz="UTC")
        mine = register[(register["number"] == call.caller) & (register["trunk"] == call.trunk)]
        held = mine[(mine["known_at"] <= at) & (mine["valid_from"] <= at) & ~(mine["valid_to"] <= at)]
        assert outside.labels[outside.codes[call.Index]] == ("no" if len(held) else "yes")


@pytest.mark.source("L23", "L24", "L25", "L26", by="training/governance/parties.py")
def test_industries_have_their_regulators(world_folder):
    ledger = read_ledger(world_folder)
    names = ["loans", "insurance", "property", "health", "hospital", "recruitment", "travel", "education", "other"]
    caller = sorted(set(ledger.calls["caller"].to_pylist()))[: len(names)]
    always = pd.Timestamp("2000-01-01", tz="UTC")
    register = pd.DataFrame(
        {
            "number": caller,
            "block": None,
            "business": names,
            "valid_from": always,
            "valid_to": pd.NaT,
            "known_at": always,
        }
    )
    register["valid_to"] = pd.to_datetime(register["valid_to"], utc=True)
    found = columns(
        type(ledger)(ledger.calls, dict(ledger.registers) | {"campaigns": register}, ledger.complaints, None)
    )
    told = {
        (found["industry"].labels[i], found["regulator"].labels[r])
        for i, r in zip(found["industry"].codes, found["regulator"].codes, strict=True)
    }
    assert told == {
        ("loans", "finance"), ("insurance", "finance"), ("property", "housing"), ("health", "health"),
        ("hospital", "health"), ("recruitment", "labour"), ("travel", "culture and tourism"),
        ("education", "education"), ("other", "no regulator named"), ("not registered", "no regulator named"),
    }  # fmt: skip


@pytest.mark.source("P10", by="training/governance/report.py")
def test_no_cell_of_the_table_is_small(made, plain):
    folder, facts = made
    cells = pq.read_table(folder / "out" / "cells.parquet").to_pandas()
    counted = cells[(cells["records"] > 0) & cells["table"].isin(["operator", "trunk"])]
    assert len(counted) > 10
    for cell in counted.itertuples():
        mine = of_period(plain, cell.period)
        mine = mine[mine[cell.table] == cell.row]
        if cell.split == "answered":
            mine = mine[(mine["outcome"] == "answered") == (cell.part == "yes")]
        elif cell.split:
            continue
        assert len(mine) == cell.records
        assert mine["callee"].nunique() >= LEAST["callee"] and mine["caller"].nunique() >= LEAST["caller"]
    rows = {row["row"] for row in facts["tables"]["trunk"]}
    assert rows < set(of_period(plain, facts["now"])["trunk"].dropna())  # some were left out


@pytest.fixture(scope="module")
def released(world_folder, plain, tmp_path_factory):
    """A folder with a release of two days, and data in which its first trunk has a single call on the day after."""
    folder = tmp_path_factory.mktemp("released")
    last = int(plain["day"].max()) - 1
    facts = govern(world_folder, folder, folder / "releases", until=date_of(last), days=2, least=LEAST, **QUIET)
    table = pq.read_table(world_folder / "calls.parquet")
    trunk = facts["tables"]["trunk"][0]["row"]
    over = (plain["day"] == last) & (plain["trunk"] == trunk)
    assert over.sum() > 20
    shutil.copytree(world_folder, folder / "data")
    pq.write_table(table.filter(pa.array(~over | ~over.duplicated())), folder / "data" / "calls.parquet")
    return folder, trunk, last


def date_of(day):
    return str(np.datetime64(day, "D"))


@pytest.mark.source("P10", by="training/governance/releases.py")
def test_two_releases_together_give_no_small_day_away(released, tmp_path):
    """Two days, then the same and one more: a trunk's only call of that day would follow, if both showed the trunk."""
    folder, trunk, last = released
    shutil.copytree(folder / "releases", tmp_path / "releases")
    asked = {"until": date_of(last + 1), "days": 3, "least": LEAST, **QUIET}
    ledger, periods = read_ledger(folder / "data"), (period_of(last - 2, last + 1), period_of(last - 5, last - 2))
    alone = calls_shown(ledger, *periods, [], LEAST)
    more = govern(folder / "data", tmp_path, tmp_path / "releases", **asked)
    assert [one.name for one in read_releases(tmp_path / "releases")] == ["0001", "0002"]
    assert trunk in {cell.row for cell in alone if cell.period == periods[0] and cell.table == "trunk"}
    assert trunk not in {row["row"] for row in more["tables"].get("trunk", ())}
    assert more["tables"]["operator"]


def test_records_that_came_since_are_refused(released, tmp_path):
    folder, _, last = released
    shutil.copytree(folder / "releases", tmp_path / "releases")
    shutil.copytree(folder / "data", tmp_path / "data")
    calls = pq.read_table(folder / "data" / "calls.parquet")
    one = pc.max(calls.filter(pc.equal(calls["day"], last - 1))["call"])
    pq.write_table(calls.filter(pc.not_equal(calls["call"], one)), tmp_path / "data" / "calls.parquet")
    with pytest.raises(ValueError, match=r"release 0001 cannot be made again from these records \(table") as told:
        govern(tmp_path / "data", tmp_path, tmp_path / "releases", until=date_of(last), days=2, least=LEAST, **QUIET)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "report.html").exists() and len(read_releases(tmp_path / "releases")) == 1


def test_a_release_that_cannot_be_read_stops_everything(world_folder, tmp_path):
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "0001.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a release that callsieve wrote"):
        govern(world_folder, tmp_path, tmp_path / "releases", **QUIET)
    with pytest.raises(ValueError, match="--until: expected a day such as 2026-03-01, got 'today'"):
        govern(world_folder, tmp_path, tmp_path / "releases", until="today", **QUIET)


@pytest.mark.source("L22", by="training/governance/report.py")
def test_preferences_are_those_in_force(made, world_folder):
    _, facts = made
    register = read_ledger(world_folder).registers["preferences"]
    moment = pd.Timestamp(facts["now"].partition("/")[2], tz="UTC")
    held = in_force(register, moment, ("callee", "category"))
    assert facts["tables"]["preferences"]
    for row in facts["tables"]["preferences"]:
        assert row["calls"] == (held["category"] == row["row"]).sum()
        assert row["people"]["callee"] >= LEAST["callee"]


def test_what_is_in_force_is_the_last_word_known_then():
    at = lambda day: pd.Timestamp(2026, 3, day, tz="UTC")
    rows = [
        ("a", True, 1, 30, 1), ("a", False, 5, 30, 5),  # changed his mind
        ("b", True, 1, 30, 20),  # known too late
        ("c", True, 1, 8, 1),  # over
        ("d", True, 12, 30, 1),  # not yet
        ("e", True, 1, None, 2),
    ]  # fmt: skip
    names = ["callee", "accepts", "valid_from", "valid_to", "known_at"]
    moments = [(who, yes, at(a), pd.NaT if b is None else at(b), at(c)) for who, yes, a, b, c in rows]
    held = in_force(pd.DataFrame(moments, columns=names), at(10), ["callee"])
    assert dict(zip(held["callee"], held["accepts"], strict=True)) == {"a": False, "e": True}


@pytest.mark.source("L45", by="training/governance/shared_victims.py")
def test_callers_of_one_list_are_a_group_and_others_are_not():
    """Two lists of 60 people, each called by six callers; twelve more callers draw from all 3,000."""
    rng = np.random.default_rng(1)
    calls = []
    for caller in range(24):
        people = (rng.permutation(60) + 60 * (caller // 6))[:40] if caller < 12 else rng.permutation(3000)[:200]
        calls += [(caller, callee) for callee in people]
    caller, callee = np.array(calls).T
    found, many = groups(caller, callee, np.ones(len(caller), dtype=bool))
    assert many == 2
    of = {int(who): set(found[caller == who].tolist()) for who in range(24)}
    assert all(of[who] == of[0] != {-1} for who in range(6)) and all(of[who] == of[6] != of[0] for who in range(6, 12))
    assert all(of[who] == {-1} for who in range(12, 24))
    assert groups(caller, callee, caller >= 24)[1] == 0


def test_more_than_chance_but_not_by_far_is_no_group():
    """Twenty callers of 200 people out of 1,000; two of them share 120, where chance gives 40."""
    rng = np.random.default_rng(2)
    drawn = [rng.permutation(1000)[:200] for _ in range(20)]
    drawn[1] = np.concatenate([drawn[0][:120], np.setdiff1d(np.arange(1000), drawn[0])[:80]])
    calls = np.array([(caller, callee) for caller, people in enumerate(drawn) for callee in people]).T
    assert groups(*calls, np.ones(calls.shape[1], dtype=bool))[1] == 0
    drawn[1] = np.concatenate([drawn[0][:190], np.setdiff1d(np.arange(1000), drawn[0])[:10]])
    calls = np.array([(caller, callee) for caller, people in enumerate(drawn) for callee in people]).T
    assert groups(*calls, np.ones(calls.shape[1], dtype=bool))[1] == 1


@pytest.fixture(scope="module")
def bulk(tmp_path_factory):
    """Three numbers of one block call 60, 60 and 40 people in a day; the second is registered, until noon."""
    folder, intake = tmp_path_factory.mktemp("bulk"), Intake(Key("e1", b"k" * 32))
    numbers, morning = ["13800000001", "13800000002", "13800000003"], datetime(2026, 3, 3, 1, tzinfo=UTC)
    rows = [(who, n) for who, many in zip(numbers, (60, 60, 40), strict=True) for n in range(many)]
    table = {
        "start": pa.array([morning + timedelta(minutes=9 * n) for _, n in rows], pa.timestamp("ms", "UTC")),
        "caller": [who for who, _ in rows],
        "callee": [f"139{n:08d}" for _, n in rows],
        "outcome": ["answered"] * len(rows),
        "attestation": ["failed" if n % 10 == 0 else "A" for _, n in rows],
    }
    pq.write_table(intake.table(pa.table(table).sort_by("start")), folder / "calls.parquet")
    always, noon = datetime(2026, 1, 1, tzinfo=UTC), morning + timedelta(hours=3)
    register = {"number": intake.keyed("number", pa.array(numbers[1:2])), "business": ["loans"], "valid_from": [always]}
    moments = {"valid_from": [always], "valid_to": [noon], "known_at": [always]}
    register |= {name: pa.array(value, pa.timestamp("ms", "UTC")) for name, value in moments.items()}
    pq.write_table(pa.table(register), folder / "register_campaigns.parquet")
    with pytest.raises(ValueError, match="nobody said where these rows are from"):
        read_ledger(folder)
    (folder / "world.json").write_text("{}")
    return read_ledger(folder)


def test_what_is_past_its_time_is_not_counted(bulk, world_folder, tmp_path):
    declare(tmp_path, "made for a test", "none needed", ["statistics"], "2999-12-31")
    start = bulk.calls["start"].to_numpy()
    late = start + (round(time.time() * 1000) - 10 * 86_400_000 - start.min())
    half = pa.array(np.where(np.arange(len(start)) % 2, late, start))
    pq.write_table(bulk.calls.set_column(0, "start", half), tmp_path / "calls.parquet")
    shutil.copy(world_folder / "complaints.parquet", tmp_path / "complaints.parquet")
    ledger = read_ledger(tmp_path)
    assert ledger.calls.num_rows == len(start) // 2 and not len(ledger.complaints)


def test_registers_as_the_command_writes_them_and_blocks_of_numbers(bulk, tmp_path):
    """The same campaign as lines; and one of the whole block, of which every number is then registered."""
    register, block = bulk.registers["campaigns"].iloc[0], bulk.calls["caller_block"][0].as_py()
    moments = {name: int(register[name].timestamp() * 1000) for name in ("valid_from", "valid_to", "known_at")}
    rest = {"business": ["loans"], "principal": ["a"], "outsourced": [None], "hour_from": [None], "hour_to": [None]}
    rest |= {name: [moment] for name, moment in moments.items()}
    pq.write_table(bulk.calls, tmp_path / "calls.parquet")
    (tmp_path / "world.json").write_text("{}")
    wanted = columns(bulk)["registered"].codes
    of_block = np.where(bulk.calls["start"].to_numpy() < moments["valid_to"], 0, 1)
    for number, part, codes in ((register["number"], None, wanted), (None, block, of_block)):
        write_registers(Registers({"campaigns": {"number": [number], "block": [part]} | rest}), tmp_path)
        np.testing.assert_array_equal(columns(read_ledger(tmp_path))["registered"].codes, codes)


def test_a_registration_ends_and_a_failed_attestation_is_a_false_number(bulk):
    found, calls = columns(bulk), bulk.calls.to_pandas()
    hours = (calls["start"] - calls["start"].min()) / 3_600_000
    mine = (calls["caller"].astype(object).map(calls["caller"].value_counts()) == 60) & (found["registered"].codes == 0)
    assert (hours[found["registered"].codes == 0] < 3).all() and mine.sum() == 20
    assert ((found["false_number"].codes == 0) == (calls["attestation"].astype(object) == "failed")).all()


def test_bulk_without_a_registration_is_told_by_block(bulk):
    """Only the first called 50 people unregistered: the second made 40 such calls, the third 40 in all."""
    shown = calls_shown(bulk, "2026-03-03/2026-03-05", "2026-03-01/2026-03-03", [], {"callee": 2, "caller": 1})
    rows = {
        cell.row: count.records for cell, count in shown.items() if cell.table == "unregistered_bulk" and not cell.split
    }
    assert list(rows.values()) == [60]


def test_verdicts_of_other_calls_are_refused(world_folder, verdicts, tmp_path):
    table = pq.read_table(verdicts)
    pq.write_table(table.slice(1), tmp_path / "fewer.parquet")
    with pytest.raises(ValueError, match="expected the verdicts of these calls"):
        read_ledger(world_folder, tmp_path / "fewer.parquet")


def test_text_of_others_stays_text(made):
    hostile = "<script>alert(1)</script>"
    rows = [dict(made[1]["tables"]["operator"][0]) | {"row": hostile}]
    assert hostile not in page(made[1] | {"tables": {"all": made[1]["tables"]["all"], "industry": rows}})


def test_it_opens_without_a_network_or_a_complaint(made, tmp_path):
    assert shutil.which(CHROMIUM), "needs Debian's package chromium"
    path = made[0] / "out" / "report.html"
    text = path.read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert re.search("Whoever connects a call answers for it", text) and "Nothing can be shown here" not in text
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    shot = ("--window-size=390,2000", f"--screenshot={tmp_path / 'page.png'}", f"--user-data-dir={tmp_path / 'p'}")
    done = subprocess.run(
        [CHROMIUM, *quiet, *shot, path.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert not re.findall(r"CONSOLE.*", done.stderr)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_where_nothing_can_be_shown_nothing_is_written(world_folder, tmp_path, capsys):
    given = ["--data", world_folder, "--out", tmp_path / "out", "--releases", tmp_path / "releases", "--days", 1]
    assert command(*given, "--callees", 1_000_000) == (1, "")
    assert capsys.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "releases").exists()


def test_a_period_of_which_not_all_days_are_recorded_is_not_compared(world_folder, plain):
    """Calls of fewer days are fewer: they seemed to have become three times as many."""
    first, last = int(plain["day"].min()), int(plain["day"].max()) + 1
    ledger, tables = read_ledger(world_folder), {}
    for name, start in (("whole", first), ("begins late", first - 1), ("ends early", last - 9)):
        end = start + 10
        shown = calls_shown(ledger, period_of(start + 5, end), period_of(start, start + 5), [], LEAST)
        tables[name] = {cell.period for cell in shown}
        assert period_of(start + 5, end) in tables[name]
    assert {name: len(periods) for name, periods in tables.items()} == {"whole": 2, "begins late": 1, "ends early": 1}


def test_a_period_without_a_call_is_refused(world_folder, plain, tmp_path):
    known = period_of(int(plain["day"].min()), int(plain["day"].max()) + 1)
    with pytest.raises(ValueError, match=f"^period 2019-12-25/2020-01-01: expected days of the calls, {known}$"):
        govern(world_folder, tmp_path, tmp_path / "releases", until="2020-01-01", **QUIET)


def test_a_release_of_another_format_is_refused(tmp_path):
    (tmp_path / "0001.json").write_text('{"kind": "callsieve release", "format": 2, "cells": []}')
    with pytest.raises(ValueError, match="expected a release that callsieve wrote"):
        read_releases(tmp_path)


def nobody():
    """Records of nobody."""
    registers = {"preferences": pd.DataFrame(), "refusals": pd.DataFrame()}
    return Ledger(pa.table({"day": pa.array([], pa.int32())}), registers, pd.DataFrame(), None)


def test_without_calls_and_preferences_there_is_nothing_to_show(monkeypatch, tmp_path):
    assert report.preferences_shown(nobody(), period_of(0, 2), [], LEAST) == {}
    monkeypatch.setattr(report, "read_ledger", lambda *_: nobody())
    with pytest.raises(ValueError, match="calls: expected at least one"):
        govern(tmp_path, tmp_path, tmp_path / "releases", until=None, days=2, least=LEAST, **QUIET)


def test_preferences_that_cannot_be_made_again_are_left_out_and_calls_are_not(monkeypatch, tmp_path):
    def gone(*_):
        raise report.NotAgain("a person was deleted")

    shown = {Cell(period_of(0, 2), "all", "all"): Count(8, {"callee": 4, "caller": 4})}
    monkeypatch.setattr(report, "read_ledger", lambda *_: nobody())
    monkeypatch.setattr(report, "calls_shown", lambda *_: shown)
    monkeypatch.setattr(report, "preferences_shown", gone)
    facts = govern(tmp_path, tmp_path, tmp_path / "releases", until=date_of(2), days=2, least=LEAST, **QUIET)
    assert facts["left_out"] == "a person was deleted" and facts["tables"]["all"][0]["calls"] == 8
    assert "a person was deleted" in (tmp_path / "report.html").read_text()


def test_the_command_tells_how_many_rows_are_shown(call, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "govern", lambda *_, **_more: {"release": "0007", "tables": {"trunk": [{}, {}]}})
    given = ("--data", tmp_path, "--releases", tmp_path, "--out", tmp_path / "out")
    code, out, _ = call("report", *given)
    assert code == 0 and "release 0007" in out and re.search(r"trunk +│ +2 ", out)
    assert out.replace("\n", "").endswith("report.html: written")
