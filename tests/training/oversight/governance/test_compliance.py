"""The compliance command: it reads the register of processing, lists broken duties and changes nothing."""

import hashlib
import shutil
import time

import pyarrow.parquet as pq
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.http.api_keys import SCOPES, add_key, read_keys
from callsieve.training.oversight.governance.compliance import DUTIES, AuditScope, assessment, report
from callsieve.training.oversight.log.audit_log import LOG, append
from callsieve.training.oversight.log.tickets import EXPORT, REIDENTIFY
from callsieve.training.oversight.privacy.rewriting import rewrite
from callsieve.training.oversight.privacy.states import calls_fingerprint
from tests.serving.http.test_app import PATHS
from tests.support import small_bundle as small
from tests.support.simulated import mark_simulated
from tests.training.oversight.privacy.test_deletion import days_of, folder, key, keys_of, log, make_older  # noqa: F401 - fixtures


def hashes(*folders):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for root in folders for path in root.rglob("*.*")}


def broken(scope):
    return {duty["name"] for duty in report(scope)["duties"] if duty["holds"] is False}


@pytest.mark.source("L33", by="training/oversight/governance/compliance.py")
def test_the_register_of_processing_has_declarations_and_accesses(folder, log, key, command_json, tmp_path):  # noqa: F811
    append(log, "retention", {"erased": 0}, small.KEY)
    ticket = {"key": "k1", "by": "risk"}
    append(log, "access", {"act": EXPORT, "what": "a", "count": 700, "purpose": "court order", "person": "operations",
                           "tickets": [ticket], "source": str(folder)}, small.KEY)  # fmt: skip
    before = hashes(folder, log)
    words = ("govern", "compliance", "--data", folder, "--audit", log, "--key", key)
    answer = command_json(*words, "--assessment", tmp_path / "pia.md")
    assert hashes(folder, log) == before, "an auditor changes nothing"
    text = (tmp_path / "pia.md").read_text(encoding="utf-8")
    assert "| 合法性基础 | contract |" in text and "court order，700条" in text and "算法备案" in text
    assert text.count("| 符合 |") == len(answer["duties"]) and text.count("【待填】") > 15
    [row] = answer["processing"]
    assert row["declared"]["purposes"] == ["training", "export"] and row["declared"]["basis"] == "contract"
    assert row["kept_days"]["calls"] == 60 and row["kept_days"]["complaints"] == 400 and "truth" not in row["kept_days"]
    assert row["given"] == [{"person": "operations", "act": EXPORT, "purpose": "court order", "count": 700}]
    assert answer["holds"] and {duty["holds"] for duty in answer["duties"]} == {True}


def test_accesses_and_deletions_are_listed_under_their_folder(folder, log, run_command, tmp_path):  # noqa: F811
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
    answer = report(AuditScope((folder, other), log, (), None))
    ours, theirs = answer["processing"]
    assert (ours["given"], ours["deletions"], theirs["deletions"]) == ([], 0, 2)
    assert theirs["given"] == [{"person": "me", "act": EXPORT, "purpose": "a sample", "count": 90}]
    unplaced = {"person": "risk", "act": REIDENTIFY, "purpose": "p", "count": 1}
    assert answer["given_beside"] == [unplaced]
    alone = report(AuditScope((folder,), log, (), None))
    assert alone["given_beside"] == [*theirs["given"], unplaced], "an access outside the folders is listed too"


def test_an_impact_assessment_shows_foreign_text_as_text():
    declared = {"source": "<img src=x> | [a](b)", "basis": "b", "purposes": ["training"], "until": "2027-01-01"}
    row = {"folder": "x", "declared": declared, "kept_days": {}, "models": [], "given": [], "deletions": 0}
    duty = {"name": "declared", "row": "L42", "holds": False, "result": "a|b"}
    text = assessment({"at": "2026-11-30", "processing": [row], "duties": [duty]})
    assert "<img" not in text and "[a](" not in text
    assert "| declared | L42 | **不符合** | a\\|b |" in text


@pytest.mark.source("L33", "L41", by="training/oversight/governance/compliance.py")
def test_every_broken_duty_is_listed_and_the_command_fails(folder, log, key, run_command):  # noqa: F811
    append(log, "retention", {"erased": 0}, small.KEY)
    scope = AuditScope((folder,), log, (key,), None)
    assert broken(scope) == set()
    # Two days later the last erasure is too old; the rows are not expired yet.
    late = report(scope, round(time.time() * 1000) + 2 * DAY)
    assert [duty["name"] for duty in late["duties"] if duty["holds"] is False] == ["erased daily"]
    key.chmod(0o644)
    assert broken(scope) == {"keys private"}
    key.chmod(0o600)
    key.rename(folder / "number.key")
    assert broken(AuditScope((folder,), log, (folder / "number.key",), None)) == {"keys private"}
    scope = AuditScope((folder,), log, (), None)
    refused = {"act": REIDENTIFY, "what": "a", "count": 1, "purpose": "p", "person": "me", "tickets": []}
    append(log, "access", refused | {"refused": "got 0"}, small.KEY)
    assert broken(scope) == set(), "a refused access breaks no duty"
    append(log, "access", refused | {"tickets": [{"key": "k1"}, {"key": "k1"}]}, small.KEY)
    assert broken(scope) == {"agreed by others"}
    append(log, "deletion", {"stage": "intent"}, small.KEY)
    assert broken(scope) == {"agreed by others", "deletions finished"}
    rewrite(folder / "calls.parquet", lambda table: make_older(table, 50 * DAY))
    pq.write_table(pq.read_table(folder / "truth.parquet"), folder / "unheard.parquet")
    answer = report(scope)
    [late] = [duty["result"] for duty in answer["duties"] if duty["name"] == "in time"]
    assert "calls.parquet: " in late and "unheard.parquet: no rule" in late
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(text.replace("2999-12-31", "2025-12-31"))
    lines = (log / LOG).read_bytes()
    (log / LOG).write_bytes(lines.replace(b'"kind":"retention"', b'"kind":"erasure"', 1))
    assert broken(scope) >= {"declared", "in time", "log unchanged"}
    code, out, _ = run_command("govern", "compliance", "--data", folder, "--audit", log)
    assert code == 1 and "BROKEN" in out
    assert {duty["holds"] for duty in report(AuditScope((), None, (), None))["duties"]} == {None}
    assert len(DUTIES) == 6


@pytest.mark.source("L33", by="serving/http/api_keys.py")
def test_an_audit_key_only_reads(tmp_path):
    api_key = add_key(tmp_path / "keys", "auditor", ["audit"])
    assert read_keys(tmp_path / "keys").holder(f"Bearer {api_key}".encode()).scopes == {"audit"} < set(SCOPES)
    readable = {path for path, right in PATHS.items() if "audit" in right}
    assert readable and {method for method, _ in readable} == {"GET"}


def test_undeclared_calls_break_a_duty_and_simulated_calls_do_not(tmp_path):
    assert broken(AuditScope((tmp_path,), None, (), None)) == {"declared"}
    mark_simulated(tmp_path)
    duties = report(AuditScope((tmp_path,), None, (), None))["duties"]
    [late] = [duty for duty in duties if duty["name"] == "in time"]
    assert late["holds"] and late["result"].endswith("simulated, without retention")
