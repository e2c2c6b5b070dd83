"""The governance report: its figures against a plain count, hidden cells, and the page in a browser."""

import contextlib
import hashlib
import io
import json
import re
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features import Intake, Key
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.bundle.attestation import write_attestation
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.custody.purposes import declare
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.registers import Registers
from callsieve.training.cli.command_table import main
from callsieve.training.oversight.governance import report
from callsieve.training.oversight.governance.complaint_counts import groups_with_shared_callees
from callsieve.training.oversight.governance.disclosure import BASE
from callsieve.training.oversight.governance.parties import Column, ReportData, columns, in_force, read_report_data
from callsieve.training.oversight.governance.report import (
    call_cells,
    days_of,
    period_of,
    preference_cells,
    tables_of,
    write_report,
)
from callsieve.training.oversight.governance.report_page import page
from tests.support import small_bundle
from tests.support.paths import ROOT
from tests.support.servers.chromium import in_chromium
from tests.support.simulated import mark_simulated

pytestmark = pytest.mark.system

LEAST = {"callee": 4, "caller": 2}
QUIET = {"progress": lambda *_: None}


@pytest.fixture(scope="module")
def plain(world_folder):
    """The calls as a frame, for the plain counts of the tests."""
    frame = pq.read_table(world_folder / "calls.parquet").to_pandas()
    for name in ("caller", "callee", "operator", "trunk", "outcome", "attestation", "caller_class"):
        frame[name] = frame[name].astype(object)
    return frame


@pytest.fixture(scope="module")
def verdicts(world_folder, tmp_path_factory):
    """Verdicts made without a model: pass, pass, label, block in turn; labels are of fraud, blocks of no content."""
    calls = pq.read_table(world_folder / "calls.parquet", columns=["start", "caller", "callee"])
    action = pa.array(["pass", "pass", "label", "block"]).take(pa.array(np.arange(calls.num_rows) % 4))
    path = tmp_path_factory.mktemp("verdicts") / "verdicts.parquet"
    words = {
        "action": action,
        "content": pa.array([None, None, "fraud", None]).take(pa.array(np.arange(calls.num_rows) % 4)),
        "plan_class": pa.array([None, None, "illegal", ""]).take(pa.array(np.arange(calls.num_rows) % 4)),
    }
    for name, column in words.items():
        calls = calls.append_column(name, column)
    pq.write_table(calls, path)
    return path


@pytest.fixture(scope="module")
def output(world_folder, verdicts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    options = ["--data", world_folder, "--out", folder / "out", "--days", 4]
    code, out = command("--verdicts", verdicts, "--callees", LEAST["callee"], "--callers", LEAST["caller"], *options)
    assert code == 0
    return folder, json.loads(out)


def command(*options):
    """Exit code and standard output of `callsieve govern report --json`."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), pytest.raises(SystemExit) as status:
        patch.setattr(sys, "argv", ["callsieve", "govern", "report", *map(str, options), "--json"])
        main()
    return status.value.code or 0, output.getvalue()


def rounded(count):
    return (count + BASE // 2) // BASE * BASE


def of_period(plain, period):
    first, last = days_of(period)
    return plain[(plain["day"] >= first) & (plain["day"] < last)]


@pytest.mark.source("L5", "L8", "L9", by="training/oversight/governance/report.py")
def test_figures_agree_with_a_plain_count(output, plain):
    _, figures = output
    now, past = (of_period(plain, figures[name]) for name in ("now", "before"))
    splits_of = {"operator": {"answered", "false_number", "registered", "action", "plan_class"}}
    splits_of["trunk"] = {*splits_of["operator"], "outside_register"}
    splits_of["operator"].add("content")
    for table, names in splits_of.items():
        assert {name for row in figures["tables"][table] for name in row["splits"]} == names
        assert any(row["before"] for row in figures["tables"][table])
        for row in figures["tables"][table]:
            calls = now[now[table] == row["row"]]
            assert row["calls"] == rounded(len(calls))
            assert row["before"] in (None, rounded((past[table] == row["row"]).sum()))
            assert row["people"] == {kind: calls[kind].nunique() // BASE * BASE for kind in LEAST}
            splits = row["splits"]
            false_number = (calls["presented_differs"] == 1) | (calls["attestation"] == "failed")
            for name, flags in (("answered", calls["outcome"] == "answered"), ("false_number", false_number)):
                count = rounded(flags.sum())
                assert splits.get(name, {"yes": count})["yes"] == count
            if "action" in splits:
                actions = {
                    "pass": (calls.index % 4 < 2).sum(),
                    "label": (calls.index % 4 == 2).sum(),
                    "screen": 0,
                    "block": (calls.index % 4 == 3).sum(),
                }
                assert splits["action"] == {name: rounded(count) for name, count in actions.items()}
    assert figures["tables"]["all"][0]["calls"] == rounded(len(now))


@pytest.mark.source("L12", by="training/oversight/governance/parties.py")
def test_a_registration_counts_as_known_at_the_call(world_folder):
    source = read_report_data(world_folder)
    fields, register = columns(source), source.registers["campaigns"]
    calls = source.calls.select(["start", "caller"]).to_pandas()
    at = pd.to_datetime(calls["start"], unit="ms", utc=True)
    in_register = calls["caller"].astype(object).isin(set(register["number"]))
    assert in_register.any() and (fields["registered"].codes[~in_register] == 1).all()
    rows = calls.index[in_register][:: max(1, in_register.sum() // 300)]
    seen = set()
    for i in rows:
        entries = register[(register["number"] == calls["caller"][i]) & (register["known_at"] <= at[i])]
        valid = entries[(entries["valid_from"] <= at[i]) & ~(entries["valid_to"] <= at[i])]
        assert (fields["registered"].codes[i] == 0) == (len(valid) > 0)
        if len(valid) == 1:
            assert fields["industry"].labels[fields["industry"].codes[i]] == valid["business"].iloc[0]
        seen.add(len(valid) > 0)
    assert seen == {True, False}


@pytest.mark.source("L9", by="training/oversight/governance/parties.py")
def test_a_number_is_on_its_trunk_as_known_at_the_call(world_folder):
    source = read_report_data(world_folder)
    outside, register = columns(source)["outside_register"], source.registers["trunks"]
    calls = source.calls.select(["start", "caller", "trunk"]).to_pandas().astype({"caller": object, "trunk": object})
    assert ((outside.codes == -1) == calls["trunk"].isna()).all()
    on_trunk = calls.dropna(subset=["trunk"])
    assert set(outside.codes[on_trunk.index]) == {0, 1}
    for call in on_trunk.iloc[:: max(1, len(on_trunk) // 300)].itertuples():
        at = pd.Timestamp(call.start, unit="ms", tz="UTC")
        entries = register[(register["number"] == call.caller) & (register["trunk"] == call.trunk)]
        valid = entries[(entries["known_at"] <= at) & (entries["valid_from"] <= at) & ~(entries["valid_to"] <= at)]
        assert outside.labels[outside.codes[call.Index]] == ("no" if len(valid) else "yes")


@pytest.mark.source("L23", "L24", "L25", "L26", by="training/oversight/governance/parties.py")
@pytest.mark.source("L23", "L24", "L25", "L26", by="training/oversight/governance/report.py")
def test_industries_and_regulators_are_reported_with_their_verdicts(world_folder):
    source = read_report_data(world_folder)
    names = ["loans", "insurance", "property", "health", "hospital", "recruitment", "travel", "education", "other"]
    caller = source.calls["caller"].to_pandas().value_counts().index[: len(names)].tolist()
    always = pd.Timestamp("2000-01-01", tz="UTC")
    entries = {"number": caller, "block": None, "business": names, "valid_from": always, "known_at": always}
    register = pd.DataFrame(entries | {"valid_to": pd.NaT})
    register["valid_to"] = pd.to_datetime(register["valid_to"], utc=True)
    registers = dict(source.registers) | {"campaigns": register}
    action = np.arange(source.calls.num_rows) % 4
    source = ReportData(source.calls, registers, source.complaints, {"action": Column(action, ACTIONS)})
    fields = columns(source)
    pairs = {
        (fields["industry"].labels[i], fields["regulator"].labels[r])
        for i, r in zip(fields["industry"].codes, fields["regulator"].codes, strict=True)
    }
    assert pairs == {
        ("loans", "finance"), ("insurance", "finance"), ("property", "housing"), ("health", "health"),
        ("hospital", "health"), ("recruitment", "labour"), ("travel", "culture and tourism"),
        ("education", "education"), ("other", "no regulator named"), ("not registered", "no regulator named"),
    }  # fmt: skip
    now = period_of(int(source.calls["day"][0].as_py()), int(source.calls["day"][-1].as_py()) + 1)
    tables = tables_of(call_cells(source, now, "2000-01-01/2000-01-08", {"callee": 1, "caller": 1}), now, "")
    for table in ("industry", "regulator"):
        attribute = np.array(fields[table].labels)[fields[table].codes]
        assert {row["row"] for row in tables[table]} == set(attribute)
        for row in tables[table]:
            of_row = action[attribute == row["row"]]
            assert row["calls"] == rounded(len(of_row))
            assert row["splits"]["action"] == {
                name: rounded((of_row == code).sum()) for code, name in enumerate(ACTIONS)
            }


@pytest.mark.source("L2", "L27", by="training/oversight/governance/report.py")
def test_each_table_counts_the_three_classes_of_the_plan(output, plain):
    """Classes and contents of calls with an action; a call without a class is counted as unclassified."""
    _, figures = output
    now = of_period(plain, figures["now"])
    labelled, blocked = (rounded((now.index % 4 == code).sum()) for code in (2, 3))
    counts = {"illegal": labelled, "unclassified": blocked}
    assert {row["row"]: row["calls"] for row in figures["tables"]["plan_class"]} == counts
    fraud = {"fraud": labelled, "unclassified": blocked}
    assert {row["row"]: row["calls"] for row in figures["tables"]["content"]} == fraud
    assert figures["tables"]["all"][0]["splits"]["plan_class"] == {"marketing": 0, "harassment": 0, **counts}
    party = next(row for row in figures["tables"]["operator"] if "plan_class" in row["splits"])
    assert party["splits"]["content"].keys() == {"fraud", "others"}
    assert party["splits"]["content"]["fraud"] == party["splits"]["plan_class"]["illegal"]
    calls = now[now["operator"] == party["row"]]
    league = {row["row"]: row["calls"] for row in figures["leagues"]["operator"]}
    assert league == {row["row"]: row["calls"] for row in figures["tables"]["operator"]}
    assert party["splits"]["plan_class"]["illegal"] == rounded((calls.index % 4 == 2).sum())


@pytest.mark.source("P10", by="training/oversight/governance/report.py")
def test_no_cell_of_the_table_is_below_the_minimum(output, plain):
    folder, figures = output
    cells = pq.read_table(folder / "out" / "cells.parquet").to_pandas()
    assert (cells["records"] % BASE == 0).all()
    counted = cells[(cells["records"] > 0) & cells["table"].isin(["operator", "trunk"])]
    assert len(counted) > 10
    for cell in counted.itertuples():
        calls = of_period(plain, cell.period)
        calls = calls[calls[cell.table] == cell.row]
        if cell.split == "answered":
            calls = calls[(calls["outcome"] == "answered") == (cell.part == "yes")]
        elif cell.split:
            continue
        assert rounded(len(calls)) == cell.records
        assert calls["callee"].nunique() >= LEAST["callee"] and calls["caller"].nunique() >= LEAST["caller"]
    rows = {row["row"] for row in figures["tables"]["trunk"]}
    assert rows < set(of_period(plain, figures["now"])["trunk"].dropna()), "no row was small"


def test_an_invalid_day_and_a_period_without_a_call_are_refused(world_folder, plain, tmp_path):
    recorded = period_of(int(plain["day"].min()), int(plain["day"].max()) + 1)
    for until, message in (
        ("today", "--until: expected a day such as 2026-03-01, got 'today'"),
        ("2020-01-01", f"^period 2019-12-25/2020-01-01: no call; expected days of the recorded period, {recorded}$"),
    ):
        with pytest.raises(ValueError, match=message):
            write_report(world_folder, tmp_path, until=until, **QUIET)


@pytest.mark.source("L22", by="training/oversight/governance/report.py")
def test_preferences_are_those_in_force(output, world_folder):
    _, facts = output
    register = read_report_data(world_folder).registers["preferences"]
    moment = pd.Timestamp(facts["now"].partition("/")[2], tz="UTC")
    effective = in_force(register, moment, ("callee", "category"))
    assert facts["tables"]["preferences"]
    for row in facts["tables"]["preferences"]:
        exact = (effective["category"] == row["row"]).sum()
        assert row["calls"] == rounded(exact) and exact >= LEAST["callee"]
    # Preferences that have ended are not counted.
    source = read_report_data(world_folder)
    register["valid_to"] = register["valid_to"].where(np.arange(len(register)) % 2 == 0, moment - timedelta(days=1))
    ended = ReportData(source.calls, dict(source.registers) | {"preferences": register}, source.complaints, None)
    shown = preference_cells(ended, facts["now"], {"callee": 1})
    counts = {
        cell.row: count.records for cell, count in shown.items() if cell.table == "preferences" and not cell.split
    }
    effective = in_force(register, moment, ("callee", "category"))["category"].value_counts()
    assert {word: counts[word] for word in effective.index} == {word: rounded(n) for word, n in effective.items()}
    assert 0 < effective.sum() < len(register)


def test_the_last_entry_known_at_the_moment_is_in_force():
    at = lambda day: pd.NaT if day is None else pd.Timestamp(2026, 3, day, tz="UTC")
    rows = [
        ("a", True, 1, 30, 1), ("a", False, 5, 30, 5),  # changed later
        ("b", True, 1, 30, 20),  # known too late
        ("c", True, 1, 8, 1),  # over
        ("d", True, 12, 30, 1),  # not yet
        ("e", True, 1, None, 2),
    ]  # fmt: skip
    names = ["callee", "accepts", "valid_from", "valid_to", "known_at"]
    moments = [(*row[:2], *map(at, row[2:])) for row in rows]
    effective = in_force(pd.DataFrame(moments, columns=names), at(10), ["callee"])
    assert dict(zip(effective["callee"], effective["accepts"], strict=True)) == {"a": False, "e": True}


@pytest.mark.source("L45", by="training/oversight/governance/complaint_counts.py")
def test_callers_of_one_list_form_a_group_and_others_do_not():
    """Two lists of 60 people, each called by six callers; twelve more callers draw from all 3,000."""
    rng = np.random.default_rng(1)
    calls = []
    for caller in range(24):
        people = (rng.permutation(60) + 60 * (caller // 6))[:40] if caller < 12 else rng.permutation(3000)[:200]
        calls += [(caller, callee) for callee in people]
    caller, callee = np.array(calls).T
    group_of_call, group_count = groups_with_shared_callees(caller, callee, np.ones(len(caller), dtype=bool))
    assert group_count == 2
    own = [set(group_of_call[caller == number].tolist()) for number in range(24)]
    assert own == [own[0]] * 6 + [own[6]] * 6 + [{-1}] * 12
    assert own[0] != own[6] and {-1} not in (own[0], own[6])
    assert groups_with_shared_callees(caller, callee, caller >= 24)[1] == 0


@pytest.mark.source("L45", by="training/oversight/governance/report.py")
def test_groups_with_victims_in_common_are_reported(tmp_path):
    """Six callers called the people of each of two lists; only those of the first list have complaints."""
    intake, rng = Intake(Key("e1", b"k" * 32)), np.random.default_rng(1)
    numbers, start = [f"1380000{n:04}" for n in range(24)], datetime(2026, 3, 3, 1, tzinfo=UTC)
    people = [(rng.permutation(60) + 60 * (n // 6))[:40] if n < 12 else rng.permutation(3000)[:200] for n in range(24)]
    pairs = [
        (number, f"1390000{callee:04}") for number, list_of in zip(numbers, people, strict=True) for callee in list_of
    ]
    calls = {"start": pa.array([start] * len(pairs), pa.timestamp("ms", "UTC"))}
    calls |= dict(zip(("caller", "callee"), zip(*pairs, strict=True), strict=True))
    pq.write_table(intake.table(pa.table(calls)), tmp_path / "calls.parquet")
    about = [intake.token("number", number) for number in [*numbers[:6], *numbers[12:]]]
    known = {
        "number": about, "reporter": about, "at": [start] * 18, "known_at": [start] * 18, "category": ["loans"] * 18,
    }  # fmt: skip
    pq.write_table(pa.table(known), tmp_path / "complaints.parquet")
    mark_simulated(tmp_path)
    now = "2026-03-03/2026-03-04"
    shown = call_cells(read_report_data(tmp_path), now, "2026-03-02/2026-03-03", {"callee": 10, "caller": 5})
    rows = tables_of(shown, now, "")["victims_in_common"]
    assert [(row["row"], row["calls"], row["people"]["caller"]) for row in rows] == [("group 1", 240, 5)]


def test_slightly_more_overlap_than_chance_forms_no_group():
    """Twenty callers of 200 people out of 1,000; two of them share 120, where chance gives 40."""
    rng = np.random.default_rng(2)
    drawn = [rng.permutation(1000)[:200] for _ in range(20)]
    drawn[1] = np.concatenate([drawn[0][:120], np.setdiff1d(np.arange(1000), drawn[0])[:80]])
    calls = np.array([(caller, callee) for caller, people in enumerate(drawn) for callee in people]).T
    assert groups_with_shared_callees(*calls, np.ones(calls.shape[1], dtype=bool))[1] == 0
    drawn[1] = np.concatenate([drawn[0][:190], np.setdiff1d(np.arange(1000), drawn[0])[:10]])
    calls = np.array([(caller, callee) for caller, people in enumerate(drawn) for callee in people]).T
    assert groups_with_shared_callees(*calls, np.ones(calls.shape[1], dtype=bool))[1] == 1


@pytest.fixture(scope="module")
def bulk(tmp_path_factory):
    """Three numbers of one block call 60, 60 and 40 people in a day; the second is registered, until noon."""
    folder, intake = tmp_path_factory.mktemp("bulk"), Intake(Key("e1", b"k" * 32))
    numbers, morning = ["13800000001", "13800000002", "13800000003"], datetime(2026, 3, 3, 1, tzinfo=UTC)
    rows = [(number, n) for number, call_count in zip(numbers, (60, 60, 40), strict=True) for n in range(call_count)]
    table = {
        "start": pa.array([morning + timedelta(minutes=9 * n) for _, n in rows], pa.timestamp("ms", "UTC")),
        "caller": [number for number, _ in rows],
        "callee": [f"139{n:08d}" for _, n in rows],
        "outcome": ["answered"] * len(rows),
        "attestation": ["failed" if n % 10 == 0 else "A" for _, n in rows],
    }
    pq.write_table(intake.table(pa.table(table).sort_by("start")), folder / "calls.parquet")
    always, noon = datetime(2026, 1, 1, tzinfo=UTC), morning + timedelta(hours=3)
    register = {"number": intake.keyed("number", pa.array(numbers[1:2])), "business": ["loans"], "valid_from": [always]}
    moments = {"valid_from": [always], "valid_to": [noon], "known_at": [always]}
    register |= {"principal": ["bank"], "outsourced": [True], "agent": ["dialler"]}
    register |= {name: pa.array(value, pa.timestamp("ms", "UTC")) for name, value in moments.items()}
    pq.write_table(pa.table(register), folder / "register_campaigns.parquet")
    mark_simulated(folder)
    return read_report_data(folder)


def test_expired_rows_are_not_counted(bulk, world_folder, tmp_path):
    declare(tmp_path, "made for a test", "none needed", ["statistics"], "2999-12-31")
    start = bulk.calls["start"].to_numpy()
    late = start + (round(time.time() * 1000) - 10 * 86_400_000 - start.min())
    half = pa.array(np.where(np.arange(len(start)) % 2, late, start))
    pq.write_table(bulk.calls.set_column(0, "start", half), tmp_path / "calls.parquet")
    shutil.copy(world_folder / "complaints.parquet", tmp_path / "complaints.parquet")
    source = read_report_data(tmp_path)
    assert source.calls.num_rows == len(start) // 2 and not len(source.complaints)


def test_written_registers_and_blocks_of_numbers_are_read(bulk, tmp_path):
    """A campaign of one number gives the same codes; a campaign of the block registers all its numbers."""
    register, block = bulk.registers["campaigns"].iloc[0], bulk.calls["caller_block"][0].as_py()
    moments = {name: int(register[name].timestamp() * 1000) for name in ("valid_from", "valid_to", "known_at")}
    rest = {"business": ["loans"], "principal": ["a"], "outsourced": [None], "hour_from": [None], "hour_to": [None]}
    rest |= {name: [moment] for name, moment in moments.items()}
    pq.write_table(bulk.calls, tmp_path / "calls.parquet")
    mark_simulated(tmp_path)
    wanted = columns(bulk)["registered"].codes
    of_block = np.where(bulk.calls["start"].to_numpy() < moments["valid_to"], 0, 1)
    for number, part, codes in ((register["number"], None, wanted), (None, block, of_block)):
        write_registers(Registers({"campaigns": {"number": [number], "block": [part]} | rest}), tmp_path)
        np.testing.assert_array_equal(columns(read_report_data(tmp_path))["registered"].codes, codes)


def test_a_registration_ends_and_a_failed_attestation_is_a_false_number(bulk):
    fields, calls = columns(bulk), bulk.calls.to_pandas()
    hours = (calls["start"] - calls["start"].min()) / 3_600_000
    of_60_calls = calls["caller"].astype(object).map(calls["caller"].value_counts()) == 60
    registered = fields["registered"].codes == 0
    assert (hours[registered] < 3).all() and (of_60_calls & registered).sum() == 20
    assert ((fields["false_number"].codes == 0) == (calls["attestation"].astype(object) == "failed")).all()


@pytest.mark.source("L12", by="training/oversight/governance/report.py")
def test_unregistered_bulk_calls_are_listed_by_block(bulk):
    """Only the first number called 50 people unregistered: the second made 40 such calls, the third 40 in all."""
    shown = call_cells(bulk, "2026-03-03/2026-03-05", "2026-03-01/2026-03-03", {"callee": 2, "caller": 1})
    rows = {
        cell.row: count.records for cell, count in shown.items() if cell.table == "unregistered_bulk" and not cell.split
    }
    assert list(rows.values()) == [60]


@pytest.mark.source("L6", "L12", by="training/oversight/governance/parties.py")
def test_users_of_numbers_without_a_licence_in_force_are_named(bulk, tmp_path):
    """The agent of the second number has a licence that ends after an hour, the holder of the third states none."""
    start, third = int(bulk.calls["start"].to_numpy().min()), bulk.calls["caller"].to_pandas().astype(object)
    always = {"valid_from": [0], "valid_to": [None], "known_at": [0]}
    number, *_ = bulk.registers["campaigns"]["number"]
    (alone,) = third.value_counts()[lambda counts: counts == 40].index
    campaign = {"number": [number], "block": [None], "business": ["loans"], "principal": ["bank"], "agent": ["dialler"]}
    campaign |= {"outsourced": [True], "qualification": ["B2-2009 0059"], "hour_from": [None], "hour_to": [None]}
    holder = {"number": [alone], "block": [None], "holder": ["firm"], "licence": [None], "area": [None]}
    licence = {"licence_number": ["B2-2009 0059"], "holder": [None], **always, "valid_to": [start + 3_600_000]}
    registers = {"campaigns": campaign | always, "number_resources": holder | always, "licences": licence}
    pq.write_table(bulk.calls, tmp_path / "calls.parquet")
    mark_simulated(tmp_path)
    write_registers(Registers(registers), tmp_path)
    source = read_report_data(tmp_path)
    shown = call_cells(source, "2026-03-03/2026-03-05", "2026-03-01/2026-03-03", {"callee": 2, "caller": 1})
    counts = {cell[2:]: count.records for cell, count in shown.items() if cell.table == "unlicensed"}
    # One call in nine minutes: 7 of 60 calls begin in the first hour.
    assert counts["dialler", "licence", "not in force"] == counts["dialler", "", ""] == pytest.approx(53, abs=BASE)
    assert counts["firm", "licence", "none"] == counts["firm", "", ""] == 40
    (tmp_path / "licences.jsonl").unlink()
    assert not columns(read_report_data(tmp_path))["unlicensed"].labels


@pytest.mark.source("L12", "L23", by="training/oversight/governance/parties.py")
@pytest.mark.source("L12", by="training/oversight/governance/report.py")
def test_principal_and_agent_answer_for_the_calls_of_their_registration(bulk):
    """The second number is registered for the first three hours: 20 calls at one in nine minutes."""
    shown = call_cells(bulk, "2026-03-03/2026-03-05", "2026-03-01/2026-03-03", {"callee": 2, "caller": 1})
    counts = {cell[1:]: count.records for cell, count in shown.items() if cell.table in ("principal", "agent")}
    assert counts["principal", "bank", "", ""] == counts["agent", "dialler", "", ""] == 20
    assert counts["principal", "bank", "outsourced", "yes"] == 20
    assert counts["principal", "bank", "outsourced", "no"] == 0


def test_verdicts_of_other_calls_are_refused(world_folder, verdicts, tmp_path):
    table = pq.read_table(verdicts)
    pq.write_table(table.slice(1), tmp_path / "fewer.parquet")
    with pytest.raises(ValueError, match="expected the verdicts of these calls"):
        read_report_data(world_folder, tmp_path / "fewer.parquet")


def test_the_page_is_in_english_too_and_text_of_third_parties_is_escaped(output):
    text = page(output[1])
    assert '<html lang="en">' in text
    assert "Those of the shipped model are of simulated calls." in text
    for simulated, more in ((True, " All its certificates are of simulated calls.</p>"), (False, "</p>")):
        named = page(output[1] | {"model": {"id": "7e5a", "simulated": simulated}})
        assert f"<p>Actions follow the certificates of model 7e5a.{more}" in named
    assert "The connecting party is responsible" in text and "No row reaches the minimum" not in text
    hostile = "<script>alert(1)</script>"
    rows = [dict(output[1]["tables"]["operator"][0]) | {"row": hostile}]
    assert hostile not in page(output[1] | {"tables": {"all": output[1]["tables"]["all"], "industry": rows}})


@pytest.fixture
def verdicts_of(world_folder, verdicts, tmp_path):
    """Writes verdicts with cases as a model gives them."""

    def write(model):
        table = pq.read_table(verdicts).sort_by("start")
        calls = pq.read_table(world_folder / "calls.parquet").sort_by("start").to_pandas()
        start = calls["start"].astype("int64")
        words = [f"{model} {row.caller} {row.callee} {at}" for row, at in zip(calls.itertuples(), start, strict=True)]
        acted = np.array([word != "pass" for word in table["action"].to_pylist()])
        cases = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in words]
        path = tmp_path / f"{model}.parquet"
        pq.write_table(table.append_column("case", pa.array(np.where(acted, cases, None), pa.string())), path)
        return path

    return write


def model_id(bundle):
    return hashlib.sha256((bundle / "MANIFEST.json").read_bytes()).hexdigest()[:12]


def test_the_report_knows_the_model_of_its_verdicts(
    world_folder, verdicts, verdicts_of, training_run, command_error, tmp_path
):
    """Shipped model and a model of a simulated world: all certificates are of simulated calls, by their provenance."""
    own, shipped = training_run[0] / "bundle", ROOT / "serving/shipped/bundle"
    read = read_report_data
    assert read(world_folder, verdicts_of(model_id(shipped))).model == {"id": model_id(shipped), "simulated": True}
    path = verdicts_of(model_id(own))
    assert read(world_folder, path, own).model == {"id": model_id(own), "simulated": True}
    assert read(world_folder, path).model is read(world_folder, verdicts, own).model is None
    words = ("govern", "report", "--data", world_folder, "--verdicts", path, "--out", tmp_path / "out")
    refused = command_error(*words, "--bundle", shipped)
    assert f"expected verdicts of model {model_id(shipped)}, which --bundle names" in refused


@pytest.mark.parametrize(
    ("tables", "simulated"),
    [
        (("calls", "truth"), True),
        (("calls", "complaints"), False),
        (("calls 1", "truth 1", "calls 2", "truth 2"), True),
        (("calls 1", "truth 1", "calls 2"), False),
    ],
)
def test_only_certificates_with_a_truth_for_all_calls_are_of_simulated_calls(
    world_folder, verdicts_of, tmp_path, tables, simulated
):
    """One folder of real calls among those of a training is enough to claim nothing."""
    bundle = tmp_path / "bundle"
    small_bundle.write_bundle(bundle)
    write_public_key(small_bundle.KEY.public_key(), tmp_path / "signer.pub")
    build = {"resolvedDependencies": [{"name": name} for name in ("callsieve", *tables)]}
    write_attestation(bundle, {"buildDefinition": build}, small_bundle.KEY)
    model = read_report_data(world_folder, verdicts_of(model_id(bundle)), bundle).model
    assert model == {"id": model_id(bundle), "simulated": simulated}


def test_the_page_opens_without_a_network_or_an_error(output, tmp_path):
    path = output[0] / "out" / "report.html"
    text = path.read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert "谁接入谁负责" in text and "没有达到最低数量要求" not in text
    shown = re.sub(r"(?s)<style>.*?</style>|<[^>]*>|\w+\.\w+…|principal-\w+", " ", text)
    assert set(re.findall(r"[A-Za-z]{2,}", shown)) <= {"callsieve", "cells", "parquet", "report", "tables"}
    shot = f"--screenshot={tmp_path / 'page.png'}"
    in_chromium(tmp_path, path.as_uri(), "--window-size=390,2000", shot)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_nothing_is_written_if_every_cell_is_below_the_minimum(world_folder, tmp_path, capsys):
    options = ["--data", world_folder, "--out", tmp_path / "out", "--days", 1]
    assert command(*options, "--callees", 1_000_000) == (1, "")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "every cell is below the minimum" in error
    assert not list((tmp_path / "out").iterdir())


def test_a_period_with_unrecorded_days_is_not_compared(world_folder, plain):
    """A period with unrecorded days has fewer calls, so calls would seem to triple."""
    first, last = int(plain["day"].min()), int(plain["day"].max()) + 1
    source, tables = read_report_data(world_folder), {}
    for name, start in (("whole", first), ("begins late", first - 1), ("ends early", last - 9)):
        end = start + 10
        shown = call_cells(source, period_of(start + 5, end), period_of(start, start + 5), LEAST)
        tables[name] = {cell.period for cell in shown}
        assert period_of(start + 5, end) in tables[name]
    assert {name: len(periods) for name, periods in tables.items()} == {"whole": 2, "begins late": 1, "ends early": 1}


def test_a_folder_without_calls_is_refused(monkeypatch, tmp_path):
    registers = {"preferences": pd.DataFrame(), "refusals": pd.DataFrame()}
    empty = ReportData(pa.table({"day": pa.array([], pa.int32())}), registers, pd.DataFrame())
    assert preference_cells(empty, period_of(0, 2), LEAST) == {}
    monkeypatch.setattr(report, "read_report_data", lambda *_: empty)
    with pytest.raises(ValueError, match="expected at least one call"):
        write_report(tmp_path, tmp_path, days=2, least=LEAST, **QUIET)


def test_the_command_prints_how_many_rows_are_shown(run_command, monkeypatch, tmp_path):
    figures = {"now": period_of(0, 2), "tables": {"trunk": [{}, {}]}}
    monkeypatch.setattr(report, "write_report", lambda *_, **_more: figures)
    code, out, _ = run_command("govern", "report", "--data", tmp_path, "--out", tmp_path / "out")
    assert code == 0 and period_of(0, 2) in out and re.search(r"trunk +│ +2 ", out)
    assert out.replace("\n", "").endswith("report.html: written")
