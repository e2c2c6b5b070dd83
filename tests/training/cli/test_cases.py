"""The commands `cases`: from a verdict of a running service to the notice for the caller."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from callsieve.serving import Scorer, read_policy
from callsieve.serving.bundle.signing import SIGNING_KEY
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.feed import import_verdicts
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.http.connections import Connection
from callsieve.serving.live.cleared_callers import EVERY, FILE, read_cleared
from callsieve.serving.live.journal import Journal
from callsieve.serving.live.verdict_log import VERDICTS, floats_to_letters, record_to_line
from callsieve.training.cli import case_commands as cases
from callsieve.training.oversight.log.audit_log import payloads
from tests.serving.cases.test_store import example_record, fill
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.keys import write_key
from tests.support.waiting import wait_until
from tests.system.test_privacy import numbers_in, texts_in

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service over HTTP in its own process, and its verdicts of a hundred calls or more; the last is blocked.

    A later verdict on a call abstains if other calls came more than a minute after it.
    """
    folder = tmp_path_factory.mktemp("service")
    keys = http_service.write_service_files(folder, policy='certified = "block"\nwatch = "label"\n')
    write_key(small.KEY, folder / SIGNING_KEY)
    with http_service.ServiceProcess(folder) as service:
        verdicts = []
        for call in real_bundle.calls(300):
            verdicts.append((call, score(service, call, keys["all"])))
            if len(verdicts) > 100 and verdicts[-1][1]["action"] == "block":
                break
        yield service, folder, keys["all"], verdicts


def score(service, call, key, **more):
    body = {"start": call.start, "caller": call.caller, "callee": call.callee, "attestation": call.attestation} | more
    code, answer = service.post("/v1/score", json.dumps(body).encode(), key)
    assert code == 200, answer
    return json.loads(answer)


def test_an_overturned_verdict_clears_its_caller_in_a_running_service(running, command_json, run_command, tmp_path):
    service, folder, key, verdicts = running
    state, log = folder / "state", folder / "audit"
    store = ("--store", f"sqlite:///{folder}/cases.db", "--state", state)
    call, first = verdicts[-1]
    case = first["case"]
    wait_until(lambda: run_command("cases", "show", case, *store)[0] == 0)  # the journal writes four times a second
    shown = command_json("cases", "show", case, *store)
    shown_reasons, first_reasons = (
        [(reason["feature"], reason["value"], reason["contribution"]) for reason in verdict["reasons"]]
        for verdict in (shown, first)
    )
    assert shown_reasons == first_reasons
    assert shown["policy"] == "test" and all(shown[name] == first[name] for name in ("raw", "score", "model"))
    assert shown["caller"] == real_bundle.key_calls([call])[0].caller
    files = ("--bundle", folder / "bundle", "--policy", folder / "policy.toml")
    again = command_json("cases", "replay", case, *files, *store)
    assert again["differences"] == []
    assert {"raw", "score", "reasons", "action", "model"} <= set(again["equal"])
    assert "upheld" not in run_command("cases", "notice", case, "--lang", "en", *store)[1]

    appeal = command_json("cases", "appeal", case, "--ground", "delivery", "--note", "I bring parcels", *store)
    assert appeal["due"] - appeal["at"] == 24 * 3_600_000
    assert [entry["case"] for entry in command_json("cases", "list", *store)["appeals"]] == [case]
    assert "open appeals (1, in 1 groups)" in run_command("cases", "list", *store)[1]
    assert score(service, call, key)["action"] == "block"  # an appeal changes nothing
    decision = ("overturned", "--person", "reviewer-1", "--why", "a courier with many doors")
    decided = command_json("cases", "decide", case, *decision, *store)
    assert (decided["state"], decided["entry"]) == ("overturned", 0)
    wait_until(lambda: score(service, call, key)["action"] == "pass")
    assert score(service, call, key)["status"] == "cleared"
    # Clearance holds for this caller alone, and not for its number on another subscriber's line.
    other, verdict = next((o, v) for o, v in verdicts if v["action"] == "label" and o.caller != call.caller)
    assert (score(service, other, key)["case"], score(service, other, key)["status"]) == (verdict["case"], "behind")
    assert score(service, call, key, network_caller="13900139000", start=call.start + 0.001)["action"] != "pass"
    text = run_command("cases", "notice", case, "--lang", "zh", *store)[1]
    notice = command_json("cases", "notice", case, "--lang", "zh", *store)
    assert notice == {"case": case, "language": "zh", "notice": text}
    assert "您的电话恢复正常" in text and "a courier with many doors" in text
    ((_, payload),) = payloads(log, "decision")
    assert payload == {"case": case, "outcome": "overturned", "person": "reviewer-1",
                       "why": "a courier with many doors", "state": "overturned"}  # fmt: skip
    assert command_json("cases", "exclusions", "--out", tmp_path, *store[:2]) == {"excluded": 1, "findings": 1}
    ended = ("end-clearance", case, "--person", "reviewer-2", "--why", "the number was sold")
    command_json("cases", *ended, *store[:2])
    assert score(service, call, key)["action"] == "pass"  # the store was opened without --state
    assert run_command("cases", "list", *store)[0] == 0
    wait_until(lambda: score(service, call, key)["action"] != "pass")
    assert "the number was sold" in run_command("cases", "notice", case, "--lang", "en", *store)[1]
    assert [payload["outcome"] for _, payload in payloads(log, "decision")] == ["overturned", "clearance ended"]


@pytest.mark.source("P14", by="serving/cases/store.py")
def test_one_reviewer_cannot_clear_a_group_that_appeals_together(running, command_json, run_command):
    """One person cannot clear the numbers of one trunk: the service keeps its verdicts."""
    service, folder, key, verdicts = running
    store = ("--store", f"sqlite:///{folder}/cases.db", "--state", folder / "state")
    ring = {}
    for call, verdict in verdicts:
        if verdict["action"] != "pass" and call.caller not in ring:
            again = {"trunk": "gateway", "start": verdicts[-1][0].start + 0.01 + len(ring) / 1000}
            verdict_of_trunk = score(service, call, key, **again)
            if verdict_of_trunk["action"] != "pass":
                ring[call.caller] = call, again, verdict_of_trunk
    assert len(ring) >= read_case_rules().together.crowd
    cases_of_ring = [verdict["case"] for _, _, verdict in ring.values()]
    for case in cases_of_ring:
        wait_until(lambda case=case: run_command("cases", "show", case, *store)[0] == 0)
        command_json("cases", "appeal", case, "--ground", "business", "--note", "we are honest", *store)
    waiting = command_json("cases", "list", *store)["appeals"]
    assert {appeal["needs"] for appeal in waiting} == {read_case_rules().together.persons} and len(waiting) == len(ring)
    decision = ("overturned", "--person", "tired", "--why", "looks fine", "--audit", folder / "audit")
    for case in cases_of_ring:
        assert command_json("cases", "decide", case, *decision, *store)["state"] == "open"
    assert run_command("cases", "list", *store)[0] == 0
    time.sleep(5 * EVERY)  # by now the scorer has read a new file of cleared callers, if any
    for call, again, verdict in ring.values():
        now = score(service, call, key, **again)
        assert (now["action"], now["case"], now["status"]) == (verdict["action"], verdict["case"], "scored")


def test_every_verdict_except_pass_has_a_record(running, tmp_path):
    service, folder, key, verdicts = running
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    call = verdicts[-1][0]
    by_rule = score(service, call, key, network_caller="13900139000", start=call.start + 0.002)
    wanted = {by_rule["case"], *(verdict["case"] for _, verdict in verdicts if verdict["action"] != "pass")}
    seen = set()

    def all_imported():
        # A second reader of the same folder: files that the first reader deleted were already read.
        import_verdicts(store, folder / "state")
        with store.reading() as connection:
            seen.update(row[0] for row in connection.exec_driver_sql('SELECT "case" FROM callsieve_cases'))
        return wanted <= seen

    wait_until(all_imported)
    assert not seen & {verdict["case"] for _, verdict in verdicts if verdict["action"] == "pass"}
    # Scored again with the facts that the network saw, each verdict is the same bit for bit.
    scorer = Scorer.load(folder / "bundle", trusted=small.TRUSTED, policy=read_policy(folder / "policy.toml"))
    records = [store.find(case, 0).record for case in seen]
    assert {rescore(record, scorer).differences for record in records} == {()}
    assert any(record.rules for record in records)
    altered = replace(records[0], raw=floats_to_letters([1.0]), policy="another")
    assert [line.partition(":")[0] for line in rescore(altered, scorer).differences] == ["policy", "raw"]
    store.close()


def test_a_failing_store_is_an_error_of_one_line(run_command, monkeypatch, tmp_path):
    monkeypatch.setattr(CaseStore, "find", raising(OperationalError("SELECT secret", {}, OSError("disk"))))
    code, out, err = run_command("cases", "show", "1" * 16, "--store", f"sqlite:///{tmp_path}/cases.db")
    assert (code, out, err) == (1, "", "callsieve: case store: the database failed: OperationalError\n")


def test_text_output_of_decisions(run_command, tmp_path):
    store = ("--store", f"sqlite:///{tmp_path}/cases.db", "--state", tmp_path / "state")
    cases_store = CaseStore(store[1], read_case_rules())
    ring = [example_record(n, trunk="e1.gateway") for n in range(1, 1 + read_case_rules().together.crowd)]
    fill(cases_store, tmp_path / "state", example_record(99), *ring)
    cases_store.close()
    for record in (example_record(99), *ring):
        assert run_command("cases", "appeal", record.case, "--ground", "business", *store)[0] == 0
    decision = ("upheld", "--person", "reviewer-1", "--why", "asked them", *store)
    assert (
        run_command("cases", "decide", example_record(99).case, *decision)[1]
        == "appeal 1: upheld; entry 0 of the audit log\n"
    )
    text = run_command("cases", "decide", ring[0].case, "overturned", *decision[1:])[1]
    assert "still open; 2 reviewers must agree on this group" in text
    again = run_command(
        "cases", "end-clearance", example_record(99).case, "--person", "reviewer-1", "--why", "sold", *store
    )
    assert again[0] == 1 and again[2].count("\n") == 1  # only a cleared caller can be listed again


def test_replay_with_another_bundle_exits_with_1(run_command, tmp_path):
    store = ("--store", f"sqlite:///{tmp_path}/cases.db")
    cases_store = CaseStore(store[1], read_case_rules())
    fill(cases_store, tmp_path / "state", example_record(1))
    cases_store.close()
    http_service.write_service_files(tmp_path / "service")
    bundle = ("--bundle", tmp_path / "service" / "bundle")
    code, out, _ = run_command("cases", "replay", example_record(1).case, *bundle, *store)
    assert code == 1 and "differs  catalogue" in out and "differs  model" in out


def test_watch_imports_verdicts_and_ends_at_ctrl_c(run_command, monkeypatch, tmp_path):
    state, store = tmp_path / "state", ("--store", f"sqlite:///{tmp_path}/cases.db")
    state.mkdir()
    journal, rounds = Journal(state, VERDICTS).start(), []

    def sleep(_seconds):
        if rounds:
            journal.close()
            raise KeyboardInterrupt
        rounds.append(journal.add(record_to_line(example_record(1))))
        journal.flush()

    monkeypatch.setattr(cases, "time", SimpleNamespace(sleep=sleep, time=time.time))
    assert run_command("cases", "watch", "--state", state, *store)[0] == 130
    assert len(rounds) == 1 and read_cleared(state / FILE) == {}
    assert run_command("cases", "notice", example_record(1).case, *store)[0] == 0


def test_serve_listens_on_the_given_address(command_text, monkeypatch, tmp_path):
    config = {}
    monkeypatch.setattr("uvicorn.Server.run", lambda self: config.update(vars(self.config)))
    http_service.write_service_files(tmp_path)
    state, store = tmp_path / "state", f"sqlite:///{tmp_path}/cases.db"
    state.mkdir(exist_ok=True)
    words = ("--state", state, "--keys", tmp_path / "api.keys", "--store", store, "--port", 7)
    command_text("cases", "serve", *words)
    assert (config["host"], config["port"], config["access_log"]) == ("127.0.0.1", 7, False)
    assert config["http"].func is Connection  # it bounds the size of a head, and the time for it
    assert "/v1/appeals" in {route.path for route in config["app"]._app.routes}


@pytest.mark.source("P8", by="serving/cases/store.py")
def test_no_file_of_an_appeal_has_a_number(running):
    """Checks live state, store, audit log and output of the service; runs last."""
    _, folder, _, verdicts = running
    dialled = {re.sub(r"\D", "", text)[-10:] for call, _ in verdicts for text in (call.caller, call.callee)}
    wanted = {text for text in dialled if len(text) == 10}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert {"cases.db", "cleared", "log.jsonl", "service.log"} <= {path.name for path in paths}
    for path in paths:
        for text in texts_in(path):
            assert not numbers_in(text, wanted, 10), path.name
