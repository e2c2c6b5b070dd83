"""The HTTP service for cases: appeals, decisions under the name of the API key, and updates of the scorers."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from callsieve.serving.cases.case_app import APPEAL, APPEALS, CASE, DECIDE, SYNC_INTERVAL, CaseService, case_application
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.http.access_log import read_accesses
from callsieve.serving.http.api_keys import add_key, read_keys
from callsieve.serving.http.server import configured
from callsieve.serving.live.cleared_callers import FILE, read_cleared
from callsieve.serving.live.journal import Journal
from callsieve.serving.live.verdict_log import VERDICTS, record_to_line
from callsieve.training.oversight.log.audit_log import payloads
from tests.serving.cases.test_store import NOW, example_record
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.http_service import ServiceClient, free_port
from tests.support.keys import write_key
from tests.support.waiting import wait_until

ID = f"{1:016x}"


@pytest.fixture
def desk(tmp_path):
    """A case service in a thread: its API keys, state folder, log entries, and client functions."""
    keys = {name: add_key(tmp_path / "api.keys", name, scopes) for name, scopes in
            {"desk": ["appeal"], "reviewer-1": ["decide"], "scorer": ["score"]}.items()}  # fmt: skip
    state, logged = tmp_path / "state", []
    state.mkdir()
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    service = CaseService(store, [state], read_keys(tmp_path / "api.keys"), lambda: NOW, logged.append)
    server = configured(case_application(service), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    client = ServiceClient()
    wait_until(lambda: server.started)
    client.port = server.servers[0].sockets[0].getsockname()[1]
    yield SimpleNamespace(keys=keys, state=state, logged=logged, get=client.get, post=client.post)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    store.close()


def write_verdict(state, record):
    journal = Journal(state, VERDICTS).start()
    journal.add(record_to_line(record))
    journal.close()


def test_an_appeal_is_decided_over_http(desk):
    write_verdict(desk.state, example_record(1))
    wait_until(lambda: desk.get(f"{CASE}?case={ID}", desk.keys["desk"])[0] == 200)  # it reads new verdicts by itself
    answer = json.loads(desk.get(f"{CASE}?case={ID}", desk.keys["desk"])[1])
    assert answer["appeals"] == [] and ID in answer["notice"]["zh"] and "e1." not in json.dumps(answer)
    code, body = desk.post(APPEAL, json.dumps({"case": ID, "ground": "delivery"}).encode(), desk.keys["desk"])
    assert (code, json.loads(body)["state"]) == (200, "open")
    code, body = desk.get(APPEALS, desk.keys["reviewer-1"])
    assert [appeal["case"] for appeal in json.loads(body)["appeals"]] == [ID]
    assert read_cleared(desk.state / FILE) == {}
    decision = {"case": ID, "outcome": "overturned", "why": "she brings parcels"}
    code, body = desk.post(DECIDE, json.dumps(decision).encode(), desk.keys["reviewer-1"])
    assert (code, json.loads(body)) == (200, {"case": ID, "state": "overturned", "needs": 1})
    assert list(read_cleared(desk.state / FILE)) == ["e1.caller1"]  # published before the response
    assert desk.logged == [decision | {"person": "reviewer-1", "state": "overturned"}]
    code, body = desk.post(DECIDE, json.dumps(decision).encode(), desk.keys["reviewer-1"])
    assert code == 409 and "reviewer-1 decided: overturned" in json.loads(body)["error"]


@pytest.mark.system
def test_an_update_is_retried_after_a_failure_that_is_logged_once(desk, monkeypatch, caplog):
    monkeypatch.setattr(CaseService, "sync", raising(OSError("postgresql://somebody:secret@db")))
    wait_until(lambda: "scorers are not updated: OSError" in caplog.text)
    time.sleep(4 * SYNC_INTERVAL)
    assert caplog.text.count("scorers are not updated") == 1  # not with each attempt
    monkeypatch.undo()
    (desk.state / FILE).unlink(missing_ok=True)
    wait_until((desk.state / FILE).exists)
    assert "secret" not in caplog.text


def test_a_decision_is_logged_even_if_scorers_cannot_be_updated(desk, monkeypatch):
    write_verdict(desk.state, example_record(1))
    wait_until(lambda: desk.get(f"{CASE}?case={ID}", desk.keys["desk"])[0] == 200)
    assert desk.post(APPEAL, json.dumps({"case": ID, "ground": "delivery"}).encode(), desk.keys["desk"])[0] == 200
    monkeypatch.setattr(CaseService, "sync", raising(OSError("no such folder")))
    decision = {"case": ID, "outcome": "overturned", "why": "she brings parcels"}
    assert desk.post(DECIDE, json.dumps(decision).encode(), desk.keys["reviewer-1"])[0] == 500
    assert desk.logged == [decision | {"person": "reviewer-1", "state": "overturned"}]
    monkeypatch.undo()
    cleared = desk.state / FILE
    wait_until(lambda: cleared.exists() and list(read_cleared(cleared)) == ["e1.caller1"])


def test_requests_need_their_scope_and_a_valid_body(desk):
    for path, method, right in ((f"{CASE}?case={ID}", desk.get, "desk"), (APPEAL, desk.post, "desk"),
                                (APPEALS, desk.get, "reviewer-1"), (DECIDE, desk.post, "reviewer-1")):  # fmt: skip
        content = (b"{}",) if method is desk.post else ()
        codes = {name: method(path, *content, key)[0] for name, key in desk.keys.items()}
        assert {name for name, code in codes.items() if code != 403} == {right}
        assert method(path, *content, "cs_unknown")[0] == 401
    for path, name, body in ((APPEAL, "desk", b"[]"), (APPEAL, "desk", b'{"case": "1", "more": "2"}'),
                             (DECIDE, "reviewer-1", b"\xff"), (APPEAL, "desk", b'{"case": 13800138000}')):  # fmt: skip
        code, answer = desk.post(path, body, desk.keys[name])
        assert code == 400 and b"13800138000" not in answer
    words = {"case": ID, "words": "call 13800138000"}
    code, answer = desk.post(APPEAL, json.dumps(words).encode(), desk.keys["desk"])
    assert code == 409 and b"13800138000" not in answer
    assert desk.get("/nothing", desk.keys["desk"])[0] == 404
    assert desk.get(f"{CASE}?case=13800138000", desk.keys["desk"])[0] == 409


@pytest.mark.system
def test_the_command_serves_appeals_and_decisions(tmp_path):
    """The process imports verdicts, takes appeals and decisions, and records the person of each access and decision."""
    state, log = tmp_path / "state", tmp_path / "audit"
    state.mkdir()
    write_verdict(state, example_record(1, at=round(time.time() * 1000)))
    write_key(small.KEY, tmp_path / "signing.key")
    keys = {name: add_key(tmp_path / "api.keys", name, [scope]) for name, scope in
            {"desk": "appeal", "reviewer-1": "decide"}.items()}  # fmt: skip
    client = ServiceClient()
    client.port = free_port()
    words = ["--state", state, "--keys", tmp_path / "api.keys", "--store", f"sqlite:///{tmp_path}/cases.db",
             "--audit", log, "--signing-key", tmp_path / "signing.key", "--port", client.port,
             "--json"]  # fmt: skip
    command = [sys.executable, "-m", "callsieve.training", "cases", "serve", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: reached(client, keys["desk"]))
        decision = {"case": ID, "outcome": "overturned", "why": "she brings parcels"}
        assert client.post(APPEAL, json.dumps({"case": ID, "ground": "delivery"}).encode(), keys["desk"])[0] == 200
        assert client.post(DECIDE, json.dumps(decision).encode(), keys["reviewer-1"])[0] == 200
        process.terminate()
        lines = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
    assert [line["message"].partition(":")[0] for line in lines] == ["start", "stop"]
    assert {line["level"] for line in lines} == {"info"}
    assert list(read_cleared(state / FILE)) == ["e1.caller1"]
    assert [payload for _, payload in payloads(log, "decision")] == [
        decision | {"person": "reviewer-1", "state": "overturned"}
    ]
    assert {access.who for access in read_accesses(state)} == {"desk", "reviewer-1"}


def reached(client, key):
    with contextlib.suppress(OSError):
        return client.get(f"{CASE}?case={ID}", key)[0] == 200
