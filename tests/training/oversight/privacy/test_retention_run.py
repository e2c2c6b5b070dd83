"""A retention run erases all or nothing of a folder, whenever it is killed, and the audit log has all of it."""

import itertools
import multiprocessing
import os
import shutil
import signal
import sys
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.files.atomic import sha256
from callsieve.features.files.dates import DAY, EPOCH, now_ms
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.cases import erasure as case_erasure
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.custody.purposes import declare
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.registers import Registers
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.governance.compliance import AuditScope, report
from callsieve.training.oversight.log.audit_log import SignedLog, payloads
from callsieve.training.oversight.privacy import retention_run, tables
from callsieve.training.oversight.privacy.exports import HOLD, calls_between
from callsieve.training.oversight.privacy.intents import open_intents
from callsieve.training.oversight.privacy.places import Places
from tests.serving.cases.test_store import example_record, fill
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.erasures import carried_out
from tests.support.errors import raising
from tests.support.keys import write_key
from tests.training.oversight.privacy.test_deletion import NOW, keys_of, log  # noqa: F401 - fixture

OLD, NEW = NOW - 2000 * DAY, NOW - DAY
CHANGES = ("os.rename", "os.remove", "os.truncate", "os.mkdir", "os.link")


@pytest.fixture
def make_folder(world_folder, tmp_path):
    """Writes declared tables of 40 calls and what belongs to them; `expired` calls and their part expired long ago."""

    def make(expired):
        out = tmp_path / "data"
        out.mkdir()
        calls = pq.read_table(world_folder / "calls.parquet").slice(0, 40)
        old = pa.array([place < expired for place in range(calls.num_rows)])
        start = pc.if_else(old, OLD, NEW).cast(calls["start"].type)
        calls = calls.set_column(calls.column_names.index("start"), "start", start)
        pq.write_table(calls, out / "calls.parquet")
        truth = pq.read_table(world_folder / "truth.parquet")
        pq.write_table(truth.filter(pc.is_in(truth["call"], calls["call"].combine_chunks())), out / "truth.parquet")
        table = pq.read_table(world_folder / "complaints.parquet").slice(0, 5)
        moments = pa.array([OLD if place < expired / 8 else NEW for place in range(table.num_rows)])
        known = moments.cast(pa.timestamp("ms", "UTC"))
        table = table.set_column(table.column_names.index("known_at"), "known_at", known)
        pq.write_table(table, out / "complaints.parquet")
        callers = pc.unique(calls["caller"].cast(pa.string()))
        pq.write_table(pa.table({"number": callers}), out / "numbers.parquet")
        declare(out, "switch of the test", "contract", ["training"], "2999-12-31")
        return out

    return make


def rows_of(folder):
    return {path.name: pq.read_table(path).to_pylist() for path in folder.glob("*.parquet")}


def unexpired(tables):
    """The rows that must remain, by another way than the code's."""
    calls = [call for call in tables["calls.parquet"] if call["start"] == NEW]
    remaining, people = {call["call"] for call in calls}, {call[end] for call in calls for end in ("caller", "callee")}
    return {
        "calls.parquet": calls,
        "truth.parquet": [row for row in tables["truth.parquet"] if row["call"] in remaining],
        "numbers.parquet": [row for row in tables["numbers.parquet"] if row["number"] in people],
        "complaints.parquet": [
            row for row in tables["complaints.parquet"] if row["known_at"].timestamp() * 1000 == NEW
        ],
    }


def test_a_folder_whose_calls_have_all_expired_becomes_empty(make_folder, log, command_json, run_command):  # noqa: F811
    folder = make_folder(40)
    before = rows_of(folder)
    result = command_json("privacy", "retention", "--data", folder, *keys_of(log))
    assert result["left"] == 0 and result["erased"] == sum(map(len, before.values()))
    assert {name: len(rows) for name, rows in rows_of(folder).items()} == dict.fromkeys(before, 0)
    assert {file["outcome"] for file in result["files"].values()} == {"erased"}
    again = command_json("privacy", "retention", "--data", folder, *keys_of(log))
    assert {file["outcome"] for file in again["files"].values()} == {"no rows"} and again["intent"] is None
    assert "nothing to do" in run_command("privacy", "retention", "--data", folder, *keys_of(log))[1]


@pytest.mark.source("L17", "P5", by="training/oversight/privacy/exports.py")
@pytest.mark.source("L17", by="serving/custody/retention.toml")
def test_calls_that_failed_authentication_outlive_the_others(make_folder, log, command_json):  # noqa: F811
    """The time of calls is over after 60 days, that of calls held for tracing is not; an expired call is not held."""
    folder = make_folder(0)
    calls = pq.read_table(folder / "calls.parquet")
    words = pa.array(["failed" if place % 4 == 0 else "A" for place in range(calls.num_rows)]).dictionary_encode()
    ages = [61 if place == 0 else 50 for place in range(calls.num_rows)]
    start = pa.array([now_ms() - age * DAY + place for place, age in enumerate(ages)]).cast(calls["start"].type)
    for name, column in (("attestation", words), ("start", start)):
        calls = calls.set_column(calls.column_names.index(name), name, column.cast(calls.schema.field(name).type))
    pq.write_table(calls, folder / "calls.parquet")
    traced = next(call["caller"] for call in calls.to_pylist() if call["attestation"] != "failed")
    current = calls.to_pylist()[1:]
    wanted = [call for call in current if call["attestation"] == "failed" or call["caller"] == traced]
    hold = ("privacy", "hold", "--data", folder, "--purpose", "case 7", "--person", "p1", traced)
    facts = [command_json(*hold, *keys_of(log)) for _ in range(2)]
    assert [(fact["held"], fact["added"]) for fact in facts] == [(len(wanted), len(wanted)), (len(wanted), 0)]
    entries = [payload for _, payload in payloads(log, "access")]
    assert (entries[0]["act"], entries[0]["count"], entries[0]["purpose"]) == (HOLD, len(wanted), "case 7")
    later, place, signed_log = now_ms() + 50 * DAY, Places(data=folder), SignedLog(log, small.KEY)
    retention_run.erase_expired(place, signed_log, later)
    rows = rows_of(folder)
    assert rows["calls.parquet"] == [] and rows["held.parquet"] == wanted
    carried_out(tables.plan_deletion(folder, traced, read_retention(), later))
    assert rows_of(folder)["held.parquet"] == wanted, "a request for deletion removed rows below their floor"
    declare(folder, "switch of the test", "contract", ["export"], "2999-12-31", change=True)
    days = [f"{(EPOCH + timedelta(milliseconds=now_ms() - shift * DAY)):%Y-%m-%d}" for shift in (51, 49)]
    assert calls_between(folder, *days, table="held").num_rows == len(wanted)
    retention_run.erase_expired(place, signed_log, now_ms() + 316 * DAY)
    assert rows_of(folder)["held.parquet"] == []


def test_rows_that_have_not_expired_are_told_from_empty_tables(make_folder, log, command_json):  # noqa: F811
    folder = make_folder(0)
    before = {path.name: sha256(path) for path in folder.iterdir()}
    result = command_json("privacy", "retention", "--data", folder, *keys_of(log))
    assert {file["outcome"] for file in result["files"].values()} == {"nothing expired"}
    assert {path.name: sha256(path) for path in folder.iterdir()} == before
    assert [payload["stage"] for _, payload in payloads(log, "retention")] == ["result"]


def test_a_run_without_a_place_is_refused(log, run_command, tmp_path):  # noqa: F811
    code, _, err = run_command("privacy", "retention", *keys_of(log))
    assert code == 2 and "expected --data, --state, --store, --verdicts or --registers" in err
    code, _, err = run_command("privacy", "retention", "--data", tmp_path / "typo", *keys_of(log))
    assert code == 1 and "typo: not found" in err and not list(payloads(log, "retention"))


def test_a_file_that_another_process_changes_meanwhile_is_not_replaced(make_folder, log, monkeypatch):  # noqa: F811
    folder = make_folder(20)
    before = rows_of(folder)
    enter = SignedLog.append

    def change_and_enter(*words):
        pq.write_table(pq.read_table(folder / "truth.parquet"), folder / "truth.parquet", compression="none")
        return enter(*words)

    with monkeypatch.context() as patched:
        patched.setattr(SignedLog, "append", change_and_enter)
        with pytest.raises(ValueError, match=r"truth\.parquet: was changed by another process"):
            retention_run.erase_expired(Places(data=folder), SignedLog(log, small.KEY), NOW)
    assert rows_of(folder) == before and not list(folder.glob(".*"))
    result = retention_run.erase_expired(Places(data=folder), SignedLog(log, small.KEY), NOW)
    assert rows_of(folder) == unexpired(before) and not open_intents(log, "retention")
    finished = {entry.index: payload for entry, payload in payloads(log, "retention")}[result["finished"][0]]
    assert {name: file["outcome"] for name, file in finished["files"].items()} == {
        name: "changed since" if name == "truth.parquet" else "unchanged" for name in before
    }


def test_an_interrupted_run_is_an_open_duty_and_its_case_store_must_be_named_again(everything, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(case_erasure, "erase_before", raising(OSError("the disk is full")))
        with pytest.raises(OSError, match="the disk is full"):
            run_on(everything)
    scope = AuditScope((), everything / "audit", (), None)
    [duty] = [duty for duty in report(scope)["duties"] if duty["name"] == "erased daily"]
    assert duty["holds"] is False and "the run of entry 0 was interrupted" in duty["result"]
    with pytest.raises(ValueError, match=r"entry 0 of the audit log: .* expected --store"):
        retention_run.erase_expired(Places(data=everything / "data"), SignedLog(everything / "audit", small.KEY), NOW)
    assert run_on(everything)["finished"] == [1]
    [duty] = [duty for duty in report(scope)["duties"] if duty["name"] == "erased daily"]
    assert duty["holds"]


def was_killed(step, run):
    """Calls `run` in a process that is killed before its change number `step` on the disk."""
    process = multiprocessing.get_context("fork").Process(target=kill_at, args=(step, run))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def kill_at(step, run):
    steps = itertools.count(1)

    def change():
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event, args):
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            change()

    def before_and_after(function):
        def changed(*words, **options):
            change()
            result = function(*words, **options)
            change()
            return result

        return changed

    pq.ParquetWriter.write_table = before_and_after(pq.ParquetWriter.write_table)
    pq.ParquetWriter.close = before_and_after(pq.ParquetWriter.close)
    for name in ("erase_before", "erase_subject"):
        setattr(case_erasure, name, before_and_after(getattr(case_erasure, name)))
    sys.addaudithook(heard)
    run()


@pytest.fixture
def everything(make_folder, tmp_path):
    """A folder with what expires: tables, a register, a closed journal, and a case store."""
    make_folder(20)
    (tmp_path / "registers").mkdir()
    person = real_bundle.NUMBER_KEY.token("number", "x")
    consents = [{"callee": person, "principal": "firm", "valid_from": end - DAY, "valid_to": end} for end in (OLD, NEW)]
    write_registers(real_bundle.make_registers(consents=consents), tmp_path / "registers")
    (tmp_path / "state").mkdir()
    for number in (7, 8):
        (tmp_path / "state" / f"cases-{number:08d}.log").write_bytes(b"x")
        os.utime(tmp_path / "state" / f"cases-{number:08d}.log", (0, 0))
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    fill(store, tmp_path / "live", example_record(1, at=OLD), example_record(2, at=NEW))
    store.close()
    write_key(small.KEY, tmp_path / "signing.key")
    return tmp_path


def run_on(folder):
    store, registers = f"sqlite:///{folder}/cases.db", [folder / "registers"]
    places = Places(data=folder / "data", states=(folder / "state",), store=store, registers=registers)
    return retention_run.erase_expired(places, SignedLog(folder / "audit", small.KEY), NOW)


def erasable_files(folder):
    files = [*(folder / "data").glob("*.parquet"), *(folder / "registers").glob("*.jsonl")]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def check_kill(folder, before, original, left):
    """Checks a folder after a kill: what was erased is in the log, the rest is as it was. Returns the changed files."""
    has_log = (folder / "audit/log.pub").exists()
    entries = [payload for _, payload in payloads(folder / "audit", "retention")] if has_log else []
    intents = [payload for payload in entries if payload["stage"] == "intent"]
    entered = {summary["sha256_after"] for intent in intents for summary in intent["files"].values()}
    now = erasable_files(folder)
    changed = {name for name in before if now[name] != before[name]}
    assert {now[name] for name in changed} <= entered
    assert (folder / "state/cases-00000007.log").exists() or "" in entered
    assert all(rows in (original[name], left[name]) for name, rows in rows_of(folder / "data").items())
    return changed


def check_finished(folder, left, due):
    """Checks that all is erased and nothing else, and that the log has each erased row once."""
    assert rows_of(folder / "data") == left
    assert Registers.read(folder / "registers").columns["consents"]["valid_to"] == [NEW]
    assert not (folder / "state/cases-00000007.log").exists() and (folder / "state/cases-00000008.log").exists()
    assert not list(folder.rglob(".*"))
    entries = {entry.index: payload for entry, payload in payloads(folder / "audit", "retention")}
    results = [payload for payload in entries.values() if payload["stage"] == "result"]
    plans = [index for index, payload in entries.items() if payload["stage"] == "intent"]
    assert sorted(result["intent"] for result in results if result["intent"] is not None) == plans
    for name, rows in due.items():
        files = [file for result in results for key, file in result["files"].items() if key.endswith(name)]
        assert sum(file["erased"] for file in files) == rows, name
    assert verify(folder / "audit").faults == ()


@pytest.mark.system
@pytest.mark.source("P5", by="training/oversight/privacy/retention_run.py")
def test_a_run_that_is_killed_at_any_step_loses_nothing_and_is_finished_by_the_next(everything, tmp_path_factory):
    original, before = rows_of(everything / "data"), erasable_files(everything)
    left = unexpired(original)
    due = {name: len(rows) - len(left[name]) for name, rows in original.items()} | {"consents.jsonl": 1, "cases": 1}
    base, partly = tmp_path_factory.mktemp("killed"), 0
    for step in itertools.count(1):
        folder = base / str(step)
        shutil.copytree(everything, folder)
        killed = was_killed(step, lambda folder=folder: run_on(folder))
        if killed:
            changed = check_kill(folder, before, original, left)
            partly += 0 < len(changed) < len(before)
            if changed:  # and the next run is killed, too
                was_killed(step % 20, lambda folder=folder: run_on(folder))
            run_on(folder)
        check_finished(folder, left, due)
        if not killed:
            break
        shutil.rmtree(folder)
    assert step > 20 and partly > 2
