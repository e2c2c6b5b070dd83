"""What an auditor asks: the register of processing is what is there, a broken duty is told, and nothing is changed."""

import hashlib
import shutil
import time

import pyarrow.parquet as pq
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.http.api_keys import SCOPES, add_key, read_keys
from callsieve.training.governance.compliance import DUTIES, AuditScope, report
from callsieve.training.log.audit_log import LOG, append
from callsieve.training.log.tickets import EXPORT, REIDENTIFY
from callsieve.training.privacy.deletion import calls_fingerprint
from callsieve.training.privacy.rewriting import rewrite
from tests.serving.http.test_app import PATHS
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.training.privacy.test_deletion import aged, days_of, folder, keys_of, log  # noqa: F401 - fixtures


def hashes(*folders):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for each in folders for path in each.rglob("*.*")}


def broken(scope):
    return {one["name"] for one in report(scope)["duties"] if one["holds"] is False}


@pytest.mark.source("L33", by="training/governance/compliance.py")
def test_the_register_of_processing_is_read_from_what_is_there(folder, log, command_json, tmp_path):  # noqa: F811
    real_bundle.NUMBER_KEY.write(tmp_path / "number.key")
    append(log, "retention", {"erased": 0}, small.KEY)
    ticket = {"key": "k1", "by": "risk"}
    append(log, "access", {"act": EXPORT, "what": "a", "count": 700, "purpose": "court order", "person": "operations",
                           "tickets": [ticket], "source": str(folder)}, small.KEY)  # fmt: skip
    before = hashes(folder, log)
    words = ("govern", "compliance", "--data", folder, "--audit", log, "--key", tmp_path / "number.key")
    found = command_json(*words)
    assert hashes(folder, log) == before, "an auditor changes nothing"
    [row] = found["processing"]
    assert row["declared"]["purposes"] == ["training", "export"] and row["declared"]["basis"] == "contract"
    assert row["kept_days"]["calls"] == 60 and row["kept_days"]["complaints"] == 400 and "truth" not in row["kept_days"]
    assert row["given"] == [{"person": "operations", "act": EXPORT, "purpose": "court order", "count": 700}]
    assert found["holds"] and {one["holds"] for one in found["duties"]} == {True}


def test_accesses_and_deletions_stand_with_the_folder_that_they_are_of(folder, log, run_command, tmp_path):  # noqa: F811
    other = shutil.copytree(folder, tmp_path / "other")
    rewrite(other / "calls.parquet", lambda table: table.slice(0, 90))
    first, last = days_of(other)
    words = ("--first", first, "--last", last, "--purpose", "a sample", "--person", "me", *keys_of(log))
    assert run_command("privacy", "export", "--data", other, *words, "--out", tmp_path / "out.parquet")[0] == 0
    append(log, "access", {"act": REIDENTIFY, "what": "a", "count": 1, "purpose": "p", "person": "risk",
                           "tickets": [{"key": "k1"}, {"key": "k2"}]}, small.KEY)  # fmt: skip
    state = calls_fingerprint(other)
    append(log, "deletion", {"calls_before": state, "calls_after": "ab"}, small.KEY)
    append(log, "deletion", {"calls_before": "ab", "calls_after": state}, small.KEY)
    found = report(AuditScope((folder, other), log, (), None))
    mine, others = found["processing"]
    assert (mine["given"], mine["deletions"], others["deletions"]) == ([], 0, 2)
    assert others["given"] == [{"person": "me", "act": EXPORT, "purpose": "a sample", "count": 90}]
    beside = {"person": "risk", "act": REIDENTIFY, "purpose": "p", "count": 1}
    assert found["given_beside"] == [beside]
    alone = report(AuditScope((folder,), log, (), None))
    assert alone["given_beside"] == [*others["given"], beside], "nothing that was given is left out"


def test_each_broken_duty_is_told_and_the_command_fails(folder, log, run_command, tmp_path):  # noqa: F811
    key = tmp_path / "number.key"
    real_bundle.NUMBER_KEY.write(key)
    append(log, "retention", {"erased": 0}, small.KEY)
    scope = AuditScope((folder,), log, (key,), None)
    assert broken(scope) == set()
    # Two days later the last erasure is too old; the rows themselves are not past their time yet.
    late = report(scope, round(time.time() * 1000) + 2 * DAY)
    assert [one["name"] for one in late["duties"] if one["holds"] is False] == ["erased daily"]
    key.chmod(0o644)
    assert broken(scope) == {"keys private"}
    key.chmod(0o600)
    key.rename(folder / "number.key")
    assert broken(AuditScope((folder,), log, (folder / "number.key",), None)) == {"keys private"}
    scope = AuditScope((folder,), log, (), None)
    refused = {"act": REIDENTIFY, "what": "a", "count": 1, "purpose": "p", "person": "me", "tickets": []}
    append(log, "access", refused | {"refused": "got 0"}, small.KEY)
    assert broken(scope) == set(), "what was refused was not done"
    append(log, "access", refused | {"tickets": [{"key": "k1"}, {"key": "k1"}]}, small.KEY)
    assert broken(scope) == {"agreed by others"}
    rewrite(folder / "calls.parquet", lambda table: aged(table, 50 * DAY))
    pq.write_table(pq.read_table(folder / "truth.parquet"), folder / "unheard.parquet")
    found = report(scope)
    [late] = [one["result"] for one in found["duties"] if one["name"] == "in time"]
    assert "calls.parquet: " in late and "unheard.parquet: no rule" in late
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(text.replace("2999-12-31", "2025-12-31"))
    lines = (log / LOG).read_bytes()
    (log / LOG).write_bytes(lines.replace(b'"kind":"retention"', b'"kind":"erasure"', 1))
    assert broken(scope) >= {"declared", "in time", "log unchanged"}
    code, out, _ = run_command("govern", "compliance", "--data", folder, "--audit", log)
    assert code == 1 and "BROKEN" in out
    assert {one["holds"] for one in report(AuditScope((), None, (), None))["duties"]} == {None}
    assert len(DUTIES) == 5


@pytest.mark.source("L33", by="serving/http/api_keys.py")
def test_an_auditor_reads_what_a_service_tells_of_itself_and_can_do_nothing(tmp_path):
    key = add_key(tmp_path / "keys", "auditor", ["audit"])
    assert read_keys(tmp_path / "keys").holder(f"Bearer {key}".encode()).scopes == {"audit"} < set(SCOPES)
    readable = {path for path, right in PATHS.items() if "audit" in right}
    assert readable and {method for method, _ in readable} == {"GET"}


def test_calls_that_nobody_declared_break_a_duty_and_simulated_ones_none(tmp_path):
    assert broken(AuditScope((tmp_path,), None, (), None)) == {"declared"}
    (tmp_path / "world.json").touch()
    found = report(AuditScope((tmp_path,), None, (), None))["duties"]
    [late] = [one for one in found if one["name"] == "in time"]
    assert late["holds"] and late["result"].endswith("simulated, without retention")
