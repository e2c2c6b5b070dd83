"""The commands `cases`: from a verdict of a running service to the notice for the caller."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from callsieve.serving.bundle.signing import SIGNING_KEY
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.feed import import_verdicts
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.live.cleared_callers import EVERY, FILE, STATUS, read_cleared
from callsieve.serving.live.journal import Journal
from callsieve.serving.live.verdict_log import VERDICTS, floats_to_letters, record_to_line
from callsieve.serving.rules.policy import read_policy
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.cli import cases
from callsieve.training.log.audit_log import payloads
from tests.serving.cases.test_store import example_record, fill
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.waiting import wait_until
from tests.system.test_privacy import numbers_in, texts_in
from tests.training.cli.test_audit import write_key


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service over HTTP in its own process, and its verdicts of 120 calls."""
    folder = tmp_path_factory.mktemp("service")
    keys = http_service.write_service_files(folder, policy='certified = "block"\nwatch = "label"\n')
    write_key(small.KEY, folder / SIGNING_KEY)
    with http_service.ServiceProcess(folder) as service:
        verdicts = [(one, score(service, one, keys["all"])) for one in real_bundle.calls(120)]
        yield service, folder, keys["all"], verdicts


def score(service, one, key, **more):
    body = {"start": one.start, "caller": one.caller, "callee": one.callee, "attestation": one.attestation} | more
    code, answer = service.post("/v1/score", json.dumps(body).encode(), key)
    assert code == 200, answer
    return json.loads(answer)


def test_from_a_verdict_to_a_cleared_caller_in_a_running_service(running, command_json, run_command, tmp_path):
    service, folder, key, verdicts = running
    state, log = folder / "state", folder / "audit"
    store = ("--store", f"sqlite:///{folder}/cases.db", "--state", state)
    one, first = next((one, said) for one, said in verdicts if said["action"] == "block")
    case = first["case"]
    wait_until(lambda: run_command("cases", "show", case, *store)[0] == 0)  # the journal writes four times a second
    shown = command_json("cases", "show", case, *store)
    assert [(r["feature"], r["value"], r["contribution"]) for r in shown["reasons"]] == [
        (r["feature"], r["value"], r["contribution"]) for r in first["reasons"]
    ]
    assert (shown["raw"], shown["score"], shown["model"], shown["policy"]) == (
        first["raw"], first["score"], first["model"], "test")  # fmt: skip
    assert shown["caller"] == real_bundle.key_calls([one])[0].caller
    again = command_json(
        "cases", "replay", case, "--bundle", folder / "bundle", "--policy", folder / "policy.toml", *store
    )
    assert again["differences"] == []
    assert {"raw", "score", "reasons", "action", "model"} <= set(again["equal"])
    assert "upheld" not in run_command("cases", "notice", case, "--language", "en", *store)[1]

    asked = command_json("cases", "appeal", case, "--ground", "delivery", "--words", "I bring parcels", *store)
    assert asked["due"] - asked["at"] == 24 * 3_600_000
    assert [one["case"] for one in command_json("cases", "list", *store)["appeals"]] == [case]
    assert "1 open appeals in 1 groups" in run_command("cases", "list", *store)[1]
    assert score(service, one, key)["action"] == "block"  # an appeal changes nothing
    decision = ("--outcome", "overturned", "--person", "reviewer-1", "--why", "a courier with many doors")
    made = command_json("cases", "decide", case, *decision, *store, "--audit", log)
    assert made["state"] == "overturned"
    wait_until(lambda: score(service, one, key)["action"] == "pass")
    assert score(service, one, key)["status"] == STATUS
    # Nobody else is passed, nor whoever shows that number on another one's line.
    other, said = next((o, s) for o, s in verdicts if s["action"] == "label" and o.caller != one.caller)
    assert (score(service, other, key)["case"], score(service, other, key)["status"]) == (said["case"], "ok")
    assert score(service, one, key, network_caller="13900139000", start=one.start + 0.001)["action"] != "pass"
    text = run_command("cases", "notice", case, "--language", "zh", *store)[1]
    assert command_json("cases", "notice", case, "--language", "zh", *store) == {
        "case": case,
        "language": "zh",
        "notice": text,
    }
    assert "您的电话恢复正常" in text and "a courier with many doors" in text
    [(_, payload)] = list(payloads(log, "decision"))
    assert payload == {"case": case, "outcome": "overturned", "person": "reviewer-1",
                       "why": "a courier with many doors", "state": "overturned"}  # fmt: skip
    assert command_json("cases", "exclusions", "--out", tmp_path, *store[:2]) == {"excluded": 1, "findings": 1}
    command_json(
        "cases", "relist", case, "--person", "reviewer-2", "--why", "the number was sold", *store[:2], "--audit", log
    )
    assert score(service, one, key)["action"] == "pass"  # the store was opened without --state
    assert run_command("cases", "watch", "--once", *store)[0] == 0
    wait_until(lambda: score(service, one, key)["action"] == "block")
    assert "the number was sold" in run_command("cases", "notice", case, "--language", "en", *store)[1]
    assert [payload["outcome"] for _, payload in payloads(log, "decision")] == ["overturned", "relisted"]


@pytest.mark.source("P14", by="serving/cases/review_order.py")
def test_a_ring_that_appeals_at_once_is_not_cleared_by_one_person(running, command_json, run_command):
    """One person cannot clear the numbers of one trunk: the service keeps its verdicts."""
    service, folder, key, verdicts = running
    store = ("--store", f"sqlite:///{folder}/cases.db", "--state", folder / "state")
    ring = {}
    for one, said in verdicts:
        if said["action"] != "pass" and one.caller not in ring:
            again = {"trunk": "gateway", "start": one.start + 0.002}
            found = score(service, one, key, **again)
            if found["action"] != "pass":
                ring[one.caller] = one, again, found
    assert len(ring) >= read_case_rules().large_group
    for _, _, found in ring.values():
        wait_until(lambda case=found["case"]: run_command("cases", "show", case, *store)[0] == 0)
        command_json("cases", "appeal", found["case"], "--ground", "business", "--words", "we are honest", *store)
    waiting = command_json("cases", "list", *store)["appeals"]
    assert {one["needs"] for one in waiting} == {read_case_rules().reviewers} and len(waiting) == len(ring)
    decided = ("--outcome", "overturned", "--person", "tired", "--why", "looks fine")
    for _, _, found in ring.values():
        assert (
            command_json("cases", "decide", found["case"], *decided, *store, "--audit", folder / "audit")["state"]
            == "open"
        )
    assert run_command("cases", "watch", "--once", *store)[0] == 0
    time.sleep(5 * EVERY)  # the scorer has looked at the file of cleared callers, if there is a new one
    for one, again, found in ring.values():
        now = score(service, one, key, **again)
        assert (now["action"], now["case"], now["status"]) == (found["action"], found["case"], "ok")


def test_every_verdict_except_pass_has_a_record(running, tmp_path):
    _, folder, _, verdicts = running
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    wanted = {said["case"] for _, said in verdicts if said["action"] != "pass"}
    seen = set()

    def all_there():
        # A second reader of the same folder: those that the first one deleted were read by it.
        import_verdicts(store, folder / "state")
        with store.reading() as connection:
            seen.update(row[0] for row in connection.exec_driver_sql('SELECT "case" FROM callsieve_cases'))
        return wanted <= seen

    wait_until(all_there)
    assert not seen & {said["case"] for _, said in verdicts if said["action"] == "pass"}
    # Each of them is made again bit for bit, with the facts that the network saw.
    scorer = Scorer.load(folder / "bundle", trusted=small.TRUSTED, policy=read_policy(folder / "policy.toml"))
    found = [store.find(case, 0).record for case in seen]
    assert {rescore(one, scorer).differences for one in found} == {()}
    assert any(one.rules for one in found)
    altered = replace(found[0], raw=floats_to_letters([1.0]), policy="another")
    assert [line.partition(":")[0] for line in rescore(altered, scorer).differences] == ["policy", "raw"]
    store.close()


def test_faults_are_one_line(run_command, tmp_path):
    store = ("--store", f"sqlite:///{tmp_path}/cases.db")
    for words, said in (
        (("show", "f" * 16), "not known"),
        (("show", "13800138000"), "16 digits"),
        (("appeal", "f" * 16, "--ground", "because"), "ground must be one of delivery"),
        (("decide", "f" * 16, "--outcome", "so", "--person", "a", "--why", "b"), "outcome must be"),
        (("decide", "f" * 16, "--outcome", "upheld", "--person", "13800138000", "--why", "because"), "person must be"),
        (("notice", "f" * 16, "--language", "fr"), "not known"),
        (("list", "--rules", tmp_path / "none.toml"), "none.toml"),
    ):
        code, out, err = run_command("cases", *words, *store)
        assert (code, out) == (1, "")
        assert said in err and err.count("\n") == 1 and "13800138000" not in err


def test_a_failing_store_is_one_line(run_command, monkeypatch, tmp_path):
    def gone(*_):
        raise OperationalError("SELECT secret", {}, OSError("disk"))

    monkeypatch.setattr(CaseStore, "find", gone)
    code, out, err = run_command("cases", "show", "1" * 16, "--store", f"sqlite:///{tmp_path}/cases.db")
    assert (code, out, err) == (1, "", "callsieve: case store: the database failed: OperationalError\n")


def test_text_output_of_decisions(run_command, tmp_path):
    store = ("--store", f"sqlite:///{tmp_path}/cases.db", "--state", tmp_path / "state")
    held = CaseStore(store[1], read_case_rules())
    ring = [example_record(n, trunk="e1.gateway") for n in range(1, 1 + read_case_rules().large_group)]
    fill(held, tmp_path / "state", example_record(99), *ring)
    held.close()
    for one in (example_record(99), *ring):
        assert run_command("cases", "appeal", one.case, "--ground", "business", *store)[0] == 0
    said = ("--outcome", "upheld", "--person", "reviewer-1", "--why", "asked them", *store)
    assert run_command("cases", "decide", example_record(99).case, *said)[1] == "appeal 1: upheld\n"
    told = run_command("cases", "decide", ring[0].case, "--outcome", "overturned", *said[2:])[1]
    assert "still open; 2 reviewers must agree on this group" in told
    again = run_command("cases", "relist", example_record(99).case, "--person", "reviewer-1", "--why", "sold", *store)
    assert again[0] == 1 and again[2].count("\n") == 1  # who was never cleared is not judged again


def test_replay_with_another_bundle_exits_with_1(run_command, tmp_path):
    store = ("--store", f"sqlite:///{tmp_path}/cases.db")
    held = CaseStore(store[1], read_case_rules())
    fill(held, tmp_path / "state", example_record(1))
    held.close()
    http_service.write_service_files(tmp_path / "service")
    code, out, _ = run_command(
        "cases", "replay", example_record(1).case, "--bundle", tmp_path / "service" / "bundle", *store
    )
    assert code == 1 and "differs  catalogue" in out and "differs  model" in out


def test_watch_imports_verdicts_and_ends_at_ctrl_c(run_command, monkeypatch, tmp_path):
    state, store = tmp_path / "state", ("--store", f"sqlite:///{tmp_path}/cases.db")
    state.mkdir()
    journal, rounds = Journal(state, VERDICTS), []

    def meanwhile(_seconds):
        if rounds:
            journal.close()
            raise KeyboardInterrupt
        rounds.append(journal.add(record_to_line(example_record(1))))
        journal.flush()

    monkeypatch.setattr(cases, "time", SimpleNamespace(sleep=meanwhile, time=time.time))
    assert run_command("cases", "watch", "--state", state, *store)[0] == 130
    assert len(rounds) == 1 and read_cleared(state / FILE) == {}
    assert run_command("cases", "notice", example_record(1).case, *store)[0] == 0


def test_serve_listens_on_the_given_address(run_command, monkeypatch, tmp_path):
    served = {}
    monkeypatch.setattr("uvicorn.Server.run", lambda self: served.update(vars(self.config)))
    http_service.write_service_files(tmp_path)
    keys, state = tmp_path / "api.keys", tmp_path / "state"
    state.mkdir(exist_ok=True)
    at = ("cases", "serve", "--state", state, "--keys", keys, "--store", f"sqlite:///{tmp_path}/cases.db", "--port", 7)
    code, _, err = run_command(*at)
    assert code == 0, err
    assert (served["host"], served["port"], served["access_log"]) == ("127.0.0.1", 7, False)
    assert served["http"] == "h11"  # it bounds the size of a head
    assert "/v1/appeals" in {route.path for route in served["app"].routes}


@pytest.mark.source("P8", by="serving/cases/store.py")
def test_no_file_of_an_appeal_has_a_number(running):
    """Checks live state, store, audit log and output of the service; runs last."""
    _, folder, _, verdicts = running
    dialled = {re.sub(r"\D", "", text)[-10:] for one, _ in verdicts for text in (one.caller, one.callee)}
    wanted = {text for text in dialled if len(text) == 10}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert {"cases.db", "unlisted", "log.jsonl", "service.log"} <= {path.name for path in paths}
    for path in paths:
        for text in texts_in(path):
            assert not numbers_in(text, wanted, 10), path.name
