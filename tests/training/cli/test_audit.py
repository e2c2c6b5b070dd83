"""The commands `model` and `audit`, from two runs to a champion and back, as text and as JSON."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict

import pytest

from callsieve.serving.bundle.signing import key_id, read_signing_key
from callsieve.training.oversight.log.audit_log import append, payloads
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.tracking.reproduce import Reproduction
from tests.support import small_bundle as small
from tests.support.keys import write_key
from tests.support.trainings import recorded_run

pytestmark = pytest.mark.system


@pytest.fixture
def folder(empty_store, tmp_path):
    """A folder with an MLflow store and a signing key."""
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    write_key(small.KEY, folder / "signing.key")
    return folder


def test_a_run_becomes_the_champion_by_two_approvals(run_command, folder):
    run = recorded_run.record_run(recorded_run.run_paths_in(folder), folder)["run"]
    code, out, _ = run_command("audit", "verify", "--in", folder)
    first, note, last = out.splitlines()
    assert (code, last) == (0, "3 entries, 1 runs compared with MLflow, 16 files in the folder with the log, 0 faults")
    assert first.startswith("not anchored: the holder of key ") and note.startswith("note: signing.key: ")
    files, approve = [], ("model", "approve", run, "--in", folder)
    for i, approver in enumerate(recorded_run.APPROVERS[:2]):
        key = write_key(approver, folder / f"{i}.key")
        code, out, _ = run_command(*approve, "--signing-key", key, "--out", folder / f"{i}.json")
        assert code == 0
        assert "passed  model_benign_error_bound must be at most 0.0001, got 9e-05" in out
        files += ["--approval", folder / f"{i}.json"]
    code, out, _ = run_command(*approve, "--signing-key", key, "--out", folder / "again.json", "--json")
    signed = json.loads((folder / "again.json").read_text())["statement"]
    assert json.loads(out)["statement"] == {name: word for name, word in signed.items() if name != "at"}
    code, _, err = run_command("model", "promote", run, *files[:2], "--in", folder)
    assert (code, err) == (1, "callsieve: approvals: expected 2 by different persons that the gates name, got 1\n")
    code, out, _ = run_command("model", "promote", run, *files, "--in", folder)
    assert (code, out) == (0, "model one, version 1: champion\n")
    code, _, err = run_command("model", "rollback", "--why", "complaints", *files, "--in", folder)
    assert code == 1 and "expected a champion before the current one" in err
    code, out, _ = run_command("audit", "show", "--in", folder, "--json")
    entries = json.loads(out)["entries"]
    assert [entry["kind"] for entry in entries] == ["gates", "touch", "run", "promotion"]
    assert entries[3]["by"].endswith("; approved by risk, legal") and entries[0]["by"].endswith("; owned by board")
    assert f"signer of the log, key {key_id(small.TRUSTED[0])}" in entries[1]["by"]
    code, out, _ = run_command("audit", "show", 3, "--in", folder)
    assert (code, json.loads(out)) == (0, entries[3])
    assert run_command("audit", "show", 9, "--in", folder)[0] == 1


def test_all_attempts_are_listed(command_text, command_json, folder):
    place = recorded_run.run_paths_in(folder)
    recorded_run.record_run(place, folder)
    recorded_run.record_run(
        place, folder / "two", metrics=recorded_run.PASSING_METRICS | {"model_catch_by_call_low": 0.1}
    )
    append(place.log, "gates", recorded_run.gates().to_json(), small.KEY)
    rows = command_json("audit", "attempts", "--in", folder)["attempts"]
    assert [(row["model"], row["result"]) for row in rows] == [
        ("one", "passes its gates"), ("two", "refused by a gate on model_catch_by_call_low"), ("", "no result"),
    ]  # fmt: skip
    assert rows[1]["refused"] == ["model_catch_by_call_low"]
    stated = [payload["gates"]["touches"] for _, payload in payloads(place.log, "run")]
    assert [row["uses"] for row in rows] == [*stated, 0]
    assert "refused by a gate" in command_text("audit", "attempts", "--in", folder)


def test_rollback_names_the_new_champion(run_command, monkeypatch, folder):
    facts = {"model": "one", "version": "1"}
    monkeypatch.setattr(
        "callsieve.training.oversight.audit.promote.rollback", lambda _place, _why, _files, _key, _tell: facts
    )
    words = ("--why", "complaints", "--approval", folder / "a.json", "--in", folder)
    code, out, _ = run_command("model", "rollback", *words)
    assert (code, out) == (0, "model one, version 1: champion\n")


def test_the_log_takes_notes_erases_payloads_and_proves_entries(run_command, folder):
    recorded_run.record_run(recorded_run.run_paths_in(folder), folder)
    policy = folder / "policy.toml"
    policy.write_text('version = "2"\n')
    words = ("block from band certified", "--why", "decision", "--file", policy, "--in", folder)
    assert run_command("audit", "note", "policy", *words)[:2] == (0, "entry 3: policy\n")
    words = ("calls of case 7", "--why", "appeal", "--in", folder)
    assert run_command("audit", "note", "access", *words)[:2] == (0, "entry 4: access\n")
    code, out, _ = run_command("audit", "erase", 4, "--why", "asked for", "--in", folder)
    assert (code, out) == (0, "entry 4: erased, entry 5\n")
    code, out, _ = run_command("audit", "verify", "--in", folder, "--json")
    assert code == 0 and json.loads(out)["erased"] == [4] and json.loads(out)["sound"]
    code, out, _ = run_command("audit", "prove", 3, "--since-size", 2, "--in", folder)
    assert code == 0 and set(json.loads(out)) == {"entry", "inclusion", "leaf", "head", "since", "consistency"}
    assert "entry" in run_command("audit", "show", "--in", folder)[1]


def test_verify_prints_one_fault_a_line_and_exits_with_1(run_command, folder):
    run = recorded_run.record_run(recorded_run.run_paths_in(folder), folder)["run"]
    shutil.copy(folder / "audit" / "head.json", folder / "old_head.json")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'")
    lines = (folder / "audit" / "log.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "audit" / "log.jsonl").write_bytes(lines[0] + lines[2])
    code, out, _ = run_command("audit", "verify", "--in", folder, "--head", folder / "old_head.json")
    assert code == 1
    first, *faults, _note, last = out.splitlines()
    assert first == "anchored in head old_head.json"
    assert faults == ["entry 1: missing: removed", f"run {run}, metric auc: logged as 0.97, now 0.99"]
    assert last == "2 entries, 1 runs compared with MLflow, 16 files in the folder with the log, 2 faults"
    code, out, _ = run_command("audit", "verify", "--in", folder, "--json")
    assert code == 1 and json.loads(out)["faults"][0] == {"where": "entry 1", "what": "missing: removed"}


@pytest.fixture
def run_copy(run_command, training_run, tmp_path):
    """A copy of a run's folder, and a function that verifies it against the original store."""
    original, copy = training_run[0], tmp_path / "copy"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("mlartifacts", "mlflow.db*", "tracking.json"))

    def verify():
        store = default_store(original)
        code, out, _ = run_command("audit", "verify", "--in", copy, "--tracking-uri", store, "--json")
        return code, json.loads(out)

    return copy, verify


def test_verify_compares_the_files_of_a_run_with_the_log(run_copy):
    folder, verify = run_copy
    code, payload = verify()
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    own = {name for name in files if name.startswith("audit/")}
    assert (code, payload["faults"], payload["copies"]) == (0, [], len(files - own))
    (folder / "report.html").unlink()
    for name in ("bundle/model.txt", "record/settings.json", "signer.pub"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    shutil.rmtree(folder / "tables")
    code, payload = verify()
    tables = [name for name in files if name.startswith("tables/")]
    missing = {f"copy {name}": "is gone" for name in ("report.html", *tables)}
    changed = {f"copy {name}" for name in ("bundle/model.txt", "record/settings.json", "signer.pub")}
    faults = {fault["where"]: fault["what"] for fault in payload["faults"]}
    assert code == 1 and faults.keys() == missing.keys() | changed and missing.items() <= faults.items()
    assert all(what.startswith("logged as ") for where, what in faults.items() if where in changed)


def test_verify_accepts_added_files_beside_the_record(run_copy):
    folder, verify = run_copy
    (folder / "notes.txt").write_text("a note")
    (folder / "world").mkdir()
    assert verify()[0] == 0


def test_verify_compares_a_folder_with_its_own_run(run_command, folder):
    place = recorded_run.run_paths_in(folder)
    for name in ("one", "two"):
        recorded_run.record_run(place, folder / name)
    words = ("audit", "verify", "--audit", folder / "audit", "--tracking-uri", place.uri)
    for name in ("one", "two"):
        assert run_command(*words, "--in", folder / name)[0] == 0
    (folder / "two" / "tables" / "slices.csv").write_text("slice,calls\ncourier,0\n")
    code, out, _ = run_command(*words, "--in", folder / "two")
    assert code == 1 and "\ncopy tables/slices.csv: logged as '" in out


def test_an_approver_key_is_written_once(command_error, run_command, folder):
    code, out, _ = run_command("model", "approver-key", folder / "mine.key")
    public = read_signing_key(folder / "mine.key").public_key().public_bytes_raw().hex()
    assert code == 0 and out.startswith(f'"mine" = "{public}"  # key ')
    assert command_error("model", "approver-key", folder / "mine.key").count("\n") == 1


def test_replay_of_a_run_folder_reproduces_its_model(command_text, training_run, world_folder):
    out = command_text("model", "replay", training_run[0], "--data", world_folder)
    assert out.splitlines()[-1] == f"model {training_run[1]['model']['id']}: reproduced byte for byte"
    assert "equal    model.txt" in out and "of the headline" in out


def test_a_replay_that_differs_exits_with_1(run_command, monkeypatch):
    reproduction = Reproduction("one", False, False, ["model.txt"], ["dataset truth"])
    monkeypatch.setattr("callsieve.training.tracking.reproduce.reproduce", lambda *_, **_more: reproduction)
    code, out, _ = run_command("model", "replay", "run")
    lines = ["equal    model.txt", "differs  dataset truth", "model one: not reproduced byte for byte"]
    assert (code, out.splitlines()) == (1, lines)
    code, out, _ = run_command("model", "replay", "run", "--json")
    assert (code, json.loads(out)) == (1, asdict(reproduction))
    reproduction = Reproduction("one", False, True, ["model.txt"], ["metric auc: recorded 1, measured 0.5"])
    code, out, _ = run_command("model", "replay", "run")
    assert (code, out.splitlines()[-1]) == (1, "model one: reproduced byte for byte; 1 other differences")
