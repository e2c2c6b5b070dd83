"""Expired and deleted rows are erased; exports and re-identification need tickets of other people."""

import contextlib
import json
import multiprocessing
import os
import shutil
import time
from datetime import UTC, datetime
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from callsieve.features.files.dates import DAY
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.vector_files import TRAINING, write_vectors
from callsieve.serving.cases.erasure import erase_before, erase_subject
from callsieve.serving.cases.feed import publish_cleared
from callsieve.serving.cases.store import CaseError, CaseStore
from callsieve.serving.custody.expiry import expiry_filter, is_expired
from callsieve.serving.custody.purposes import PURPOSES, Declaration, declare, require_purpose
from callsieve.serving.custody.retention import RetentionRule, read_retention
from callsieve.serving.live.journal import seal
from callsieve.serving.live.verdict_log import record_to_line
from callsieve.training.data.dataset import read_dataset
from callsieve.training.data.exclusions import FILE as EXCLUSIONS_FILE
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.audit_log import SignedLog, append, log_id, payloads
from callsieve.training.oversight.log.tickets import EXPORT, REIDENTIFY, AccessControl, Act, sign_ticket
from callsieve.training.oversight.privacy import deletion, retention_run, service_state, tables
from callsieve.training.oversight.privacy.rewriting import rewrite
from callsieve.training.oversight.privacy.states import models_trained_on
from tests.serving.cases.test_store import example_record, fill
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.erasures import carried_out
from tests.support.errors import refused
from tests.support.keys import write_key
from tests.support.trainings import recorded_run

NOW = round(time.time() * 1000)
RULES = read_retention()
TABLES = ("calls", "truth", "complaints", "findings", "register_recycled", "register_consents")
NUMBER = "13912345678"
PERSON = Intake(real_bundle.NUMBER_KEY).token("number", NUMBER)


@pytest.fixture
def folder(world_folder, tmp_path):
    """The world as declared real calls, shifted so that its last call rang an hour ago."""
    out = tmp_path / "real"
    out.mkdir()
    tables = {name: pq.read_table(world_folder / f"{name}.parquet") for name in TABLES}
    # An eighth of the calls, spread over all callers and days.
    tables["calls"] = tables["calls"].filter(pc.equal(pc.bit_wise_and(pc.divide(tables["calls"]["start"], 1000), 7), 0))
    ids = tables["calls"]["call"].combine_chunks()
    tables["truth"] = tables["truth"].filter(pc.is_in(tables["truth"]["call"], value_set=ids))
    move = NOW - 3_600_000 - pc.max(tables["calls"]["start"]).as_py()
    for name in TABLES:
        table = tables[name]
        for column, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                moved = pc.add(table[field.name].cast(pa.timestamp("ms", "UTC")).cast(pa.int64()), move)
                table = table.set_column(column, field.name, moved.cast(pa.timestamp("ms", "UTC")))
            elif field.name in ("start", "recorded"):
                table = table.set_column(column, field.name, pc.add(table[field.name], move))
        pq.write_table(table, out / f"{name}.parquet")
    declare(out, "switch of the test", "contract", ["training", "export"], "2999-12-31")
    return out


@pytest.fixture
def log(tmp_path):
    """An audit log with its signing key, and the keys of the approvers of the gates as files."""
    write_key(small.KEY, tmp_path / "signing.key")
    for place, key in enumerate(recorded_run.APPROVERS):
        write_key(key, tmp_path / f"{place}.key")
    append(tmp_path / "audit", "policy", {"what": "begun"}, small.KEY)
    return tmp_path / "audit"


@pytest.fixture
def key(tmp_path):
    """The file of the key of all numbers."""
    real_bundle.NUMBER_KEY.write(tmp_path / "number.key")
    return tmp_path / "number.key"


def keys_of(log):
    return "--audit", log, "--signing-key", log.parent / "signing.key"


@pytest.mark.source("L42", "P4", by="serving/custody/purposes.py")
def test_a_folder_serves_only_the_declared_purposes(folder, world_folder, tmp_path, monkeypatch):
    assert require_purpose(world_folder, "training").simulated
    for purpose in PURPOSES:
        if purpose in ("training", "evaluation", "monitoring", "export"):  # training covers its job
            assert require_purpose(folder, purpose).limits
        else:
            with pytest.raises(ValueError, match=f"declared for training, export, not for {purpose}"):
                read_dataset(folder, purpose)
    with pytest.raises(FileExistsError):
        declare(folder, "again", "another basis", PURPOSES, "2999-12-31")
    text = (folder / "dataset.json").read_text()
    for old, new, says in (("2999-12-31", "2025-12-31", "the declaration expired after 2025-12-31"),
                           ("2999-12-31", "soon", "until: invalid RFC3339"), ("contract", "", "basis: expected a"),
                           ('"until"', '"to"', "unknown field `to`")):  # fmt: skip
        (folder / "dataset.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=says):
            require_purpose(folder, "training")
    (folder / "dataset.json").unlink()
    with monkeypatch.context() as patched:
        (tmp_path / "policy.toml").write_text('version = "strict"\nrequire_declaration = true\n[bands]\n')
        patched.setenv("CALLSIEVE_POLICY", str(tmp_path / "policy.toml"))
        with pytest.raises(ValueError, match="the policy requires one"):
            read_dataset(folder)
    with pytest.raises(ValueError, match="purpose must be one of"):
        require_purpose(folder, "curiosity")
    with pytest.raises(ValueError, match="'curiosity'"):
        declare(tmp_path, "a", "b", ["curiosity"], "2999-12-31")


@pytest.mark.source("P5", by="training/oversight/privacy/tables.py")
def test_readers_skip_expired_rows_and_the_retention_run_erases_exactly_these(folder, log, command_json):
    rows = read_keyed(folder / "calls.parquet").num_rows
    assert read_dataset(folder).calls.num_rows == rows
    old = rewrite(folder / "calls.parquet", lambda table: make_older(table, 50 * DAY))
    assert old.rows_before == old.rows_after == rows
    table = read_keyed(folder / "calls.parquet")
    expired = np.count_nonzero(table["start"].to_numpy() < NOW - RULES.of("calls").ceiling)
    assert 0 < expired < rows
    before = {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES}
    unexpired = read_dataset(folder)
    assert unexpired.calls.num_rows == unexpired.truth.num_rows == rows - expired
    assert unexpired.calls["start"].to_numpy().min() >= NOW - RULES.of("calls").ceiling
    assert all((folder / f"{name}.parquet").read_bytes() == data for name, data in before.items())

    report = command_json("privacy", "retention", "--data", folder, *keys_of(log))
    assert (report["erased"], report["left"]) == (2 * expired, 0)  # each call and its truth
    for name in ("calls", "truth"):
        entry = report["files"][f"{name}.parquet"]
        assert (entry["rows_before"], entry["rows_after"], entry["erased"]) == (rows, rows - expired, expired)
        assert entry["sha256_before"] != entry["sha256_after"]
    [(first, intent), (_, payload)] = payloads(log, "retention")
    assert (intent["stage"], payload["stage"], payload["intent"]) == ("intent", "result", first.index)
    assert payload["files"] == report["files"] and payload["calls_before"] != payload["calls_after"]
    after = read_dataset(folder)
    assert after.fingerprint == unexpired.fingerprint == payload["calls_after"]
    again = command_json("privacy", "retention", "--data", folder, *keys_of(log))
    assert again["erased"] == 0
    assert all(entry["sha256_before"] == entry["sha256_after"] for entry in again["files"].values())


def make_older(table, by):
    """Moves the calls of more than a week ago `by` milliseconds back."""
    start = table["start"].to_numpy()
    earlier = np.where(start < NOW - 7 * DAY, start - by, start)
    return table.set_column(table.column_names.index("start"), "start", pa.array(earlier))


@pytest.mark.source("L17", "P5", by="serving/custody/retention.py")
@settings(max_examples=40)
@given(st.lists(st.one_of(st.none(), st.integers(-200, 200)), max_size=30), st.integers(1, 100))
def test_rows_older_than_the_ceiling_are_expired(days, ceiling):
    rule = RetentionRule("valid_to", 0, ceiling * DAY)
    moments = [None if day is None else NOW - day * DAY for day in days]
    for column in (pa.array(moments, pa.int64()), pa.array(moments, pa.timestamp("ms", "UTC"))):
        due = is_expired(pa.table({"valid_to": column}), rule, NOW).to_pylist()
        assert due == [day is not None and day > ceiling for day in days]


def test_a_table_without_a_retention_rule_stops_the_run(folder, log, run_command):
    shutil.copyfile(folder / "complaints.parquet", folder / "secrets.parquet")
    before = (folder / "calls.parquet").read_bytes()
    code, out, err = run_command("privacy", "retention", "--data", folder, *keys_of(log))
    assert (code, out) == (1, "")
    assert "expected a rule for the table 'secrets'" in err
    assert (folder / "calls.parquet").read_bytes() == before


def test_expired_cases_and_journals_are_erased(tmp_path):
    store, state = CaseStore(f"sqlite:///{tmp_path}/cases.db"), tmp_path / "state"
    at = 1_772_500_000_000
    fill(store, state, example_record(1, at=at), example_record(2, at=at), example_record(3, at=at + 9 * DAY))
    store.appeal(f"{1:016x}", "other", "", at)
    store.appeal(f"{2:016x}", "other", "", at)
    store.decide(f"{2:016x}", "overturned", "reviewer-1", "a courier", at)
    assert erase_before(store, at + DAY) == {"decisions": 1, "appeals": 1, "cases": 1, "clearances": 0}
    assert store.find(f"{1:016x}", at).appeals  # the appeal is open
    assert set(store.cleared_callers(at)[1]) == {"e1.caller2"}  # the decision still holds
    late = at + store.rules.clearance + DAY
    assert publish_cleared(store, state, at) and "e1.caller2" in (state / "cleared").read_text()
    assert erase_before(store, late)["clearances"] == 1
    assert publish_cleared(store, state, late) and "e1.caller2" not in (state / "cleared").read_text()
    store.close()
    for number in (7, 8):
        (state / f"cases-{number:08d}.log").write_bytes(b"x")
    os.utime(state / "cases-00000007.log", (0, 0))
    assert [erasure.name for erasure in service_state.plan_expiry(state, RULES, NOW)] == ["cases-00000007.log"]


@pytest.mark.system
@pytest.mark.source("P6", by="training/oversight/privacy/tables.py")
def test_a_person_is_found_deleted_and_not_trained_on(folder, log, key, command_json, run_command):
    table = read_keyed(folder / "calls.parquet")
    call_counts = table["caller"].cast(pa.string()).value_counts()
    busiest = call_counts.field(0)[int(np.argmax(call_counts.field(1).to_numpy()))].as_py()
    for name in TABLES:  # that person becomes the busiest caller
        rewrite(folder / f"{name}.parquet", lambda table: replace_word(table, busiest, PERSON))
    consent = pq.read_table(folder / "register_consents.parquet").slice(0, 2)
    young = pa.array([NOW - DAY, NOW - 400 * DAY]).cast(pa.timestamp("ms", "UTC"))
    names = consent.column_names
    consent = consent.set_column(names.index("valid_to"), "valid_to", young)
    consent = consent.set_column(names.index("callee"), "callee", pa.array([PERSON, PERSON]).dictionary_encode())
    pq.write_table(consent, folder / "register_consents.parquet")
    frame = {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in TABLES}
    own = {name: [row for row in rows if PERSON in row.values()] for name, rows in frame.items()}
    assert len(own["calls"]) > 20

    request = lambda *words: command_json("privacy", *words, "--data", folder, "--key", key, stdin=f"{NUMBER}\n")
    counts = request("find")["files"]
    assert {name: counts[f"{name}.parquet"]["rows"] for name in TABLES} == {n: len(rows) for n, rows in own.items()}
    assert counts["register_consents.parquet"] == {"rows": 2, "kept": 1}
    before = fingerprint(read_keyed(folder / "calls.parquet").sort_by("start"))
    run = {"run": "r1", "model": "m1", "record": {"tag": {"data_sha256": before}, "dataset": {}}}
    source = json.dumps({"tags": {"source": str(folder)}})
    none = {"run": "r3", "model": "m3", "record": {"tag": {"data_sha256": "0"}, "dataset": {}}}
    other = {"run": "r2", "model": "m2", "record": none["record"] | {"dataset": {"calls": {"source": source}}}}
    for entry in (run, other, none):
        append(log, "run", entry, small.KEY)
    report = request("delete", "--why", "asked for it", *keys_of(log))
    assert [(entry["model"], entry["why"]) for entry in report["models"]] == [
        ("m1", "the same calls"), ("m2", "the same folder")]  # fmt: skip
    deleted = {row["call"] for row in own["calls"]}
    for name in set(TABLES) - {"register_consents"}:  # a consent must be kept
        assert PERSON not in words_in(folder / f"{name}.parquet"), name
    for name in TABLES:
        left = pq.read_table(folder / f"{name}.parquet").to_pylist()
        expected = [row for row in frame[name] if PERSON not in row.values() and row.get("call") not in deleted]
        if name == "register_consents":
            expected = [row for row in frame[name] if row["valid_to"].timestamp() * 1000 > NOW - 180 * DAY]
        assert left == expected, name
    [row] = pq.read_table(folder / EXCLUSIONS_FILE).to_pylist()
    assert (row["number"], row["why"]) == (PERSON, "deleted")
    assert places_of(NUMBER, folder, log) == places_of(PERSON, log) == set()
    # The audit log links the current calls to the calls that the model was trained on.
    now = fingerprint(read_keyed(folder / "calls.parquet").sort_by("start"))
    assert [entry["model"] for entry in models_trained_on(log, "elsewhere", now)] == ["m1"]
    assert request("find")["files"]["calls.parquet"]["rows"] == 0
    words = ("privacy", "delete", "--data", folder, "--key", key, "--why", "again", *keys_of(log))
    code, out, _ = run_command(*words, stdin=f"{NUMBER}\n")
    assert code == 0 and "model m1, run r1: trained on the same calls" in out and "of the audit log" in out
    code, _, err = run_command(*words, stdin="\n")
    assert (code, err) == (1, "callsieve: standard input: expected a telephone number on the first line\n")


def words_in(path):
    """All entries of the dictionaries of a table, including unused ones, because the file stores them."""
    columns = [column for column in pq.read_table(path).columns if pa.types.is_dictionary(column.type)]
    return {word for column in columns for chunk in column.chunks for word in chunk.dictionary.to_pylist()}


def replace_word(table, old, new):
    for place, field in enumerate(table.schema):
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(plain):
            column = table[field.name].cast(pa.string())
            table = table.set_column(place, field.name, pc.if_else(pc.equal(column, old), new, column).cast(field.type))
    return table


def test_a_deletion_erases_the_cases_of_a_person_and_not_the_decision(tmp_path):
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    at = 1_772_500_000_000
    fill(store, tmp_path / "state", example_record(1, at=at), example_record(2, caller="e1.other", at=at),
         example_record(3, caller="e1.caller1", at=at + 30 * DAY))  # fmt: skip
    store.appeal(f"{1:016x}", "other", "", at)
    store.decide(f"{1:016x}", "overturned", "reviewer-1", "a courier", at)
    counts = erase_subject(store, "e1.caller1", at + DAY)
    assert counts == {"decisions": 1, "appeals": 1, "cases": 1, "kept": 1, "newest": at + 30 * DAY}
    assert set(store.cleared_callers(at)[1]) == {"e1.caller1"}
    store.close()


def test_retention_and_deletion_apply_to_the_case_store(folder, log, key, command_json, tmp_path):
    """The commands erase expired cases and a person's cases; an expired case with an open appeal waits."""
    url, rule = f"sqlite:///{tmp_path}/cases.db", RULES.of("cases")
    past, settled = NOW - rule.ceiling - DAY, NOW - rule.floor - DAY
    store = CaseStore(url)
    records = [example_record(n, at=past) for n in (1, 2)]
    fill(store, tmp_path / "state", *records, example_record(3, PERSON, at=settled), example_record(4, at=settled))
    store.appeal(f"{1:016x}", "other", "", past)
    store.close()
    report = command_json("privacy", "retention", "--data", folder, "--store", url, *keys_of(log))["files"]["cases"]
    assert {name: report[name] for name in ("erased", "waiting", "past_their_time")} == {
        "erased": 1, "waiting": 1, "past_their_time": 0}  # fmt: skip
    words = ("--data", folder, "--key", key, "--why", "asked for it", "--store", url, *keys_of(log))
    counts = command_json("privacy", "delete", *words, stdin=f"{NUMBER}\n")["files"]["cases"]
    assert (counts["rows"], counts["cases"], counts["kept"]) == (1, 1, 0)
    store = CaseStore(url)
    for n in (1, 4):
        assert store.find(f"{n:016x}", NOW)
    for n in (2, 3):
        with pytest.raises(CaseError, match="not known"):
            store.find(f"{n:016x}", NOW)
    store.close()


def places_of(token, *roots):
    """Names of the files that contain a token, searched as bytes: free pages and logs of databases count."""
    return {path.name for root in roots for path in root.rglob("*")
            if path.is_file() and token.encode() in path.read_bytes()}  # fmt: skip


@pytest.mark.source("P6", by="training/oversight/privacy/deletion.py")
def test_the_answer_names_every_place_where_a_deleted_person_remains(
    folder, log, key, command_json, tmp_path, monkeypatch
):
    """Searches the case store, a scorer's newest journal and its file of cleared callers."""
    url, state, floor = f"sqlite:///{tmp_path}/cases.db", tmp_path / "state", RULES.of("cases").floor
    young, old = NOW - DAY, NOW - floor - DAY
    store = CaseStore(url)
    records = (example_record(1, PERSON, at=young), example_record(2, PERSON, at=old), example_record(3, at=old))
    fill(store, state, *records)
    newest = max(state.glob("cases-*.log"))
    torn = seal(record_to_line(example_record(4, PERSON, at=old)))[:-20]  # as a killed writer leaves it
    newest.write_bytes(newest.read_bytes() + torn)
    before = newest.read_bytes()
    (state / "forget").mkdir()
    leftovers = [folder / "calls.parquet.part", folder / ".complaints.parquet.new", state / ".cleared.0123abcd",
            state / "forget" / ".0123456789abcdef.0123abcd"]  # fmt: skip
    for path in leftovers:  # left by killed writers
        path.write_text(PERSON)
        os.utime(path, (NOW / 1000 - 3600,) * 2)
    (folder / "truth.parquet.part").write_text("of a running writer")

    words = ("--data", folder, "--key", key, "--why", "asked", "--store", url, "--state", state, *keys_of(log))
    delete = lambda: command_json("privacy", "delete", *words, stdin=f"{NUMBER}\n")
    report = delete()
    remaining = {entry["where"]: (entry["rows"], entry["until"]) for entry in report["stays"]}
    until = datetime.fromtimestamp((young + floor) / 1000, UTC).date().isoformat()
    assert remaining.pop("exclusions.parquet")[0] == 1
    assert remaining == {"cases": (1, until), f"state/{newest.name}": (1, until)}
    assert report["files"][f"state/{newest.name}"]["deleted"] == 2
    lines = newest.read_bytes().split(b"\n")
    assert [PERSON.encode() in line for line in lines] == [True, False, False, False]
    assert newest.stat().st_size == len(before) and lines[2] == before.split(b"\n")[2]  # other lines are unchanged
    assert places_of(PERSON, tmp_path) == {"exclusions.parquet", "cases.db", newest.name}
    assert (folder / "truth.parquet.part").exists() and not any(path.exists() for path in leftovers)
    # A cleared caller stays cleared, and the answer lists that too.
    store.appeal(f"{1:016x}", "other", "", NOW)
    store.decide(f"{1:016x}", "overturned", "reviewer-1", "a courier", NOW)
    publish_cleared(store, state, NOW)
    store.close()
    listed = {entry["where"] for entry in delete()["stays"]}
    assert listed == {"exclusions.parquet", "cases", f"state/{newest.name}", "clearances", "state/cleared"}
    # Past the floor the same command deletes the cases, and the decision still holds.
    monkeypatch.setattr("callsieve.training.cli.privacy_commands.now_ms", lambda: NOW + floor + DAY)
    assert {entry["where"] for entry in delete()["stays"]} == listed - {"cases", f"state/{newest.name}"}
    assert places_of(PERSON, tmp_path) == {"exclusions.parquet", "cases.db", "cleared"}


def gates_file(log):
    """Writes the gates of the tests, which name three approvers."""
    return recorded_run.write_gates(log.parent / "gates.toml")


def begun(log):
    """Adds an entry to a log, and returns the log's id."""
    append(log, "policy", {"what": "begun", "why": "none"}, small.KEY)
    return log_id(log)


def agreed(run_command, log, *act):
    """Writes an act and the tickets of all approvers for it; returns the options that name the tickets."""
    folder = log.parent / act[0]
    folder.mkdir()
    begun(log)
    audit = ("--audit", log) if act[0] == "reidentify" else ()
    assert run_command("privacy", "ticket", *act, "--out", folder / "act.json", *audit)[0] == 0
    tickets = [("--ticket", folder / f"{place}.json") for place in range(3)]
    for place, (_, ticket) in enumerate(tickets):
        paths = ("--signing-key", log.parent / f"{place}.key", "--out", ticket)
        assert run_command("privacy", "ticket", "agree", folder / "act.json", *paths)[0] == 0
    return tickets


def granted_accesses(log):
    """Payloads of the accesses that were not refused."""
    return [payload for _, payload in payloads(log, "access") if "refused" not in payload]


def days_of(folder):
    start = read_keyed(folder / "calls.parquet")["start"].to_numpy()
    return [datetime.fromtimestamp(moment / 1000, UTC).date().isoformat() for moment in (start.min(), start.max())]


@pytest.mark.source("P13", by="training/oversight/privacy/exports.py")
def test_an_export_of_many_records_needs_a_ticket(folder, log, command_error, run_command, command_json, tmp_path):
    first, last = days_of(folder)
    gates, out, act, ticket = gates_file(log), tmp_path / "out.parquet", tmp_path / "act.json", tmp_path / "ticket.json"
    order = ("--data", folder, "--first", first, "--last", last, "--purpose", "court order 7", "--person", "operations")
    words = ("privacy", "export", *order, "--out", out, *keys_of(log), "--gates", gates)
    assert "expected 1 tickets by different persons that the gates name, got 0" in command_error(*words)
    [(_, refusal)] = payloads(log, "access")
    assert (refusal["person"], refusal["purpose"], refusal["tickets"]) == ("operations", "court order 7", [])
    assert refusal["count"] == read_keyed(folder / "calls.parquet").num_rows and "got 0" in refusal["refused"]
    assert not out.exists()
    assert run_command("privacy", "ticket", "export", *order, "--out", act)[0] == 0
    agree = ("privacy", "ticket", "agree", act, "--signing-key")
    assert run_command(*agree, tmp_path / "signing.key", "--out", tmp_path / "own.json")[0] == 0
    code, _, err = run_command(*words, "--ticket", tmp_path / "own.json")  # the gates do not name this key
    assert code == 1 and not out.exists()
    code, _, err = run_command(*agree, tmp_path / "0.key", "--out", ticket, "--valid-days", "inf")
    assert (code, err) == (1, "callsieve: --valid-days: expected more than 0 and at most 36,500, got inf\n")
    assert run_command(*agree, tmp_path / "0.key", "--out", ticket)[0] == 0
    facts = command_json(*words, "--ticket", ticket)
    assert pq.read_table(out).num_rows == facts["rows"] == read_keyed(folder / "calls.parquet").num_rows
    [payload] = granted_accesses(log)
    assert (payload["person"], payload["purpose"], payload["count"]) == ("operations", "court order 7", facts["rows"])
    assert [agreement["by"] for agreement in payload["tickets"]] == ["risk"]
    again = ("--out", tmp_path / "second.parquet")
    code, _, err = run_command(*(again[1] if word is out else word for word in words), "--ticket", ticket)
    assert code == 1 and "this ticket was used already" in err
    # A ticket is valid for these calls only.
    rewrite(folder / "calls.parquet", lambda table: table.slice(1))
    code, _, err = run_command(*(again[1] if word is out else word for word in words), "--ticket", ticket)
    assert code == 1 and "statement: what must be" in err
    assert not again[1].exists()


@pytest.mark.source("L29", "P13", by="training/oversight/privacy/exports.py")
def test_small_exports_add_up_to_a_large_export(folder, log, command_error, run_command, tmp_path):
    rewrite(folder / "calls.parquet", lambda table: table.slice(0, 300))
    first, last = days_of(folder)
    words = ("privacy", "export", "--data", folder, "--first", first, "--last", last, "--purpose", "a sample",
             "--person", "me", *keys_of(log), "--out")  # fmt: skip
    assert run_command(*words, tmp_path / "1.parquet")[0] == 0
    exported = pq.read_table(tmp_path / "1.parquet").to_pylist()  # without words of other calls
    assert words_in(tmp_path / "1.parquet") <= {word for row in exported for word in row.values()}
    for place in (2, 3):  # a refused export does not count against the next export
        assert "expected 1 tickets" in command_error(*words, tmp_path / f"{place}.parquet")
    rewrite(folder / "calls.parquet", lambda table: table.slice(0, 199))
    assert run_command(*words, tmp_path / "4.parquet")[0] == 0


@pytest.fixture
def open_umask():
    """A process whose new files all users may read."""
    before = os.umask(0o022)
    yield
    assert os.umask(before) == 0o022, "a command changed the umask of the process"


@pytest.mark.source("P13", by="training/cli/disclosure_commands.py")
@pytest.mark.usefixtures("open_umask")
def test_exported_and_held_calls_are_the_users_alone(folder, log, command_json, tmp_path):
    rewrite(folder / "calls.parquet", lambda table: table.slice(0, 20))
    first, last = days_of(folder)
    request = ("--purpose", "a sample", "--person", "me", *keys_of(log))
    out = tmp_path / "out.parquet"
    command_json("privacy", "export", "--data", folder, "--first", first, "--last", last, *request, "--out", out)
    command_json("privacy", "hold", "--data", folder, *request)
    (tmp_path / "other").touch()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (out, folder / "held.parquet", tmp_path / "other")}
    assert modes == {"out.parquet": 0o600, "held.parquet": 0o600, "other": 0o644}


@pytest.mark.source("P9", by="training/oversight/log/tickets.py")
def test_reidentification_needs_two_tickets_of_others_and_is_logged(log, key, run_command):
    order = (PERSON, "--purpose", "court order 8", "--person", "risk")
    words = ("privacy", "reidentify", *order, "--key", key, *keys_of(log), "--gates", gates_file(log))
    tickets = agreed(run_command, log, "reidentify", *order)

    def attempt(*options):
        stdin = f"13800138000\n{NUMBER}\n"
        return run_command(*words, *(word for option in options for word in option), stdin=stdin)

    for chosen, says in (((), "got 0"), ((tickets[1],), "got 1"), ((tickets[1], tickets[1]), "approved already"),
                        ((tickets[0], tickets[1]), "risk does the act, and cannot agree to it as well")):  # fmt: skip
        code, out, err = attempt(*chosen)
        assert (code, out) == (1, "")
        assert says in err
    assert len(list(payloads(log, "access"))) == 4 and not granted_accesses(log)
    code, out, _ = attempt(tickets[1], tickets[2])
    assert (code, out) == (0, f"{PERSON}\t{NUMBER}\n")
    [payload] = granted_accesses(log)
    assert (payload["act"], payload["count"], len(payload["tickets"])) == (REIDENTIFY, 1, 2)
    assert NUMBER not in json.dumps(payload) and PERSON not in json.dumps(payload)


def _enter(begin, log, act, tickets):
    begin.wait()
    with contextlib.suppress(ValueError):
        AccessControl(SignedLog(log, small.KEY), recorded_run.gates(), tickets).enter(act)


@pytest.mark.system
@pytest.mark.parametrize(("act", "needed"), [(Act(REIDENTIFY, "a" * 64, 1, "why", "me"), 2),
                                             (Act(EXPORT, "a" * 64, 300, "why", "me"), 0)])  # fmt: skip
def test_only_one_of_many_processes_gets_an_access(log, tmp_path, act, needed):
    act = structs.replace(act, log=begun(log)) if needed else act
    tickets = [tmp_path / f"{place}.json" for place in range(needed)]
    for path, key in zip(tickets, recorded_run.APPROVERS, strict=False):
        sign_ticket(act, key, path)
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(20)
    processes = [context.Process(target=_enter, args=(begin, log, act, tickets)) for _ in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(granted_accesses(log)) == 1 and len(list(payloads(log, "access"))) == 20


def test_an_expired_ticket_is_refused(log, tmp_path):
    act = Act(REIDENTIFY, "a" * 64, 1, "why", "me", begun(log))
    for place, key in enumerate(recorded_run.APPROVERS[:2]):
        sign_ticket(act, key, tmp_path / f"{place}.json", days=-1.0)
    tickets = [tmp_path / "0.json", tmp_path / "1.json"]
    with pytest.raises(ValueError, match="this ticket is expired"):
        AccessControl(SignedLog(log, small.KEY), recorded_run.gates(), tickets).enter(act)
    with pytest.raises(ValueError, match="act must be one of"):
        sign_ticket(Act("anything", "a" * 64, 1, "why", "me"), small.KEY, tmp_path / "x.json")


def test_invalid_retention_rules_are_refused(tmp_path):
    whole = files("callsieve.serving.custody").joinpath("retention.toml").read_text(encoding="utf-8")
    path = tmp_path / "rules.toml"
    for old, new in (("ceiling = 60", "ceiling = -1"), ("floor = 400", "floor = 4000"),
                     ('follows = "calls"', 'follows = "truth"'),
                     ('moment = "start"', ""), ('version = "2026-11.5"', "")):  # fmt: skip
        path.write_text(whole.replace(old, new, 1))
        with refused(r"rules\.toml: "):
            read_retention(path)


def test_a_register_without_an_end_column_never_expires():
    table = pa.table({"number": ["a", "b"]})
    assert is_expired(table, RetentionRule("valid_to", 0, DAY), NOW).to_pylist() == [False, False]
    with pytest.raises(ValueError, match="expected a column 'start', got number"):
        is_expired(table, RetentionRule("start", 0, DAY), NOW)


def test_calls_that_are_all_expired_are_refused(tmp_path):
    declaration = Declaration("switch", "contract", ("training",), "2999-12-31", "2026-01-01")
    drop_expired = expiry_filter(declaration, tmp_path)
    with pytest.raises(ValueError, match=r"calls\.parquet: all 2 calls are older than 60 days"):
        drop_expired(pa.table({"start": [0, 1]}), "calls")
    assert drop_expired(pa.table({"start": pa.array([], pa.int64())}), "calls").num_rows == 0


def test_expired_calls_get_no_vectors(tmp_path):
    declare(tmp_path, "switch", "contract", [TRAINING], "2999-12-31")
    pq.write_table(pa.table({"start": pa.array([0, 1], pa.int64())}), tmp_path / "calls.parquet")
    with pytest.raises(ValueError, match=r"2 calls are older than 60 days, .* callsieve privacy retention"):
        file = CallFile(path=tmp_path / "calls.parquet", layout="keyed")
        write_vectors(file, tmp_path / "out", progress=lambda *_: None)


def test_rows_of_numbers_without_calls_are_erased(tmp_path):
    calls, numbers, truth = (tmp_path / f"{name}.parquet" for name in ("calls", "numbers", "truth"))
    pq.write_table(pa.table({"start": [NOW], "caller": ["a"], "callee": ["b"]}), calls)
    pq.write_table(pa.table({"number": ["a", "b", "c"]}), numbers)
    carried_out(tables.plan_expiry(tmp_path, RULES, NOW))
    assert pq.read_table(numbers)["number"].to_pylist() == ["a", "b"]
    pq.write_table(pa.table({"word": ["a"]}), truth)
    with pytest.raises(ValueError, match=r"truth\.parquet: expected a column 'call' or 'number'"):
        carried_out(tables.plan_expiry(tmp_path, RULES, NOW))
    assert not list(tmp_path.glob(".*")), "new versions of other tables remain"


def test_a_truth_table_without_its_calls_is_unchanged(tmp_path):
    pq.write_table(pa.table({"call": [1]}), tmp_path / "truth.parquet")
    [erasure] = tables.plan_expiry(tmp_path, RULES, NOW)
    assert not erasure.changes and erasure.summary["outcome"] == "no table calls"


def test_the_retention_run_erases_old_journals_of_a_scorer(log, command_json, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    for number in (7, 8):
        (state / f"cases-{number:08d}.log").write_bytes(b"x")
    os.utime(state / "cases-00000007.log", (0, 0))
    command_json("privacy", "retention", "--state", state, *keys_of(log))
    assert [path.name for path in state.iterdir()] == ["cases-00000008.log"]


def test_a_retention_run_that_leaves_expired_rows_ends_with_code_1(log, run_command, monkeypatch, tmp_path):
    files = {
        "calls.parquet": {"outcome": "erased", "rows_before": 9, "erased": 5, "past_their_time": 2},
        "cases-00000007.log": {"outcome": "erased", "bytes": 1},
    }
    report = {"files": files, "finished": [1], "intent": 2, "entry": 3, "left": 2}
    monkeypatch.setattr(retention_run, "erase_expired", lambda *_: report)
    code, out, _ = run_command("privacy", "retention", "--data", tmp_path, *keys_of(log))
    assert code == 1 and out.endswith(
        "result of an earlier, interrupted run: entry 1 of the audit log\n"
        "plan: entry 2, result: entry 3 of the audit log\n"
    )
    rows = [[word.strip() for word in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert rows == [["calls.parquet", "erased", "9", "5", "2"], ["cases-00000007.log", "erased", "", "", ""]]


def test_a_deletion_lists_the_scorers_that_forgot_the_number(log, key, run_command, monkeypatch, tmp_path):
    stays = {"where": "exclusions.parquet", "rows": 1, "why": "so it is", "until": "2036-01-01"}
    report = {"files": {}, "models": [], "scorers": {"a": 0.25}, "stays": [stays], "resumes": 2,
              "intent": 3, "entry": 4}  # fmt: skip
    monkeypatch.setattr(deletion, "delete_everywhere", lambda *_: report)
    words = ("--data", tmp_path, "--key", key, "--why", "asked", *keys_of(log))
    code, out, _ = run_command("privacy", "delete", *words, stdin=f"{NUMBER}\n")
    assert code == 0 and out.endswith(
        "scorer a: deleted the number within 0.2 s\nstays    exclusions.parquet: 1 rows: so it is, until 2036-01-01\n"
        "finished the interrupted deletion of entry 2 of the audit log\n"
        "plan: entry 3, result: entry 4 of the audit log\n"
    )
