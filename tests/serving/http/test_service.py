"""A service in this process: as it starts, when it is late or busy, and when what it needs is not there."""

import asyncio
import itertools
import json
import threading
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callsieve.features.intake.intake import Intake
from callsieve.serving.http import app, schema, server
from callsieve.serving.http.api_keys import read_keys
from callsieve.serving.http.metrics import metrics, status
from callsieve.serving.live.live import Live
from callsieve.serving.live.swap import Swap
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import CAPACITY, LONG_DEADLINE, STRICT_POLICY, call_json, call_to_json, send_request
from tests.support.waiting import wait_until


@pytest.fixture
def unstarted(service_folder, blocking_bundle, keys, tmp_path):
    """A service that nobody has started, and how it is asked: no socket, no loop of its own."""
    assert keys
    begin = lambda: Live(
        blocking_bundle, Intake(real_bundle.NUMBER_KEY), tmp_path / "state", deadline=LONG_DEADLINE, **CAPACITY
    )
    service = app.Service(begin, blocking_bundle, service_folder / "bundle", read_keys(service_folder / "api.keys"))
    application = app.application(service)

    def asked(method, path, body=b"", key=""):
        path, _, query = path.partition("?")
        told, headers = [], [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            told.append(message)

        asyncio.run(application(scope, receive, send))
        return told[0]["status"], json.loads(told[1]["body"])

    service.asked = asked
    yield service
    service.stop()


def test_a_service_that_starts_says_so_and_lets_calls_pass(unstarted, keys):
    code, verdict = unstarted.asked("POST", schema.SCORE, call_json(), keys["score"])
    assert (code, verdict["action"], verdict["status"]) == (200, "pass", "no score: the service is starting")
    assert unstarted.asked("POST", schema.OBSERVE, call_json(), keys["score"]) == (
        503,
        {"error": "the service is starting"},
    )
    assert unstarted.asked("GET", schema.READY) == (503, {"ok": False, "why": "the service is starting"})
    assert unstarted.asked("GET", schema.OPENAPI) == (200, schema.openapi())


def test_a_service_without_its_bundle_starts_all_the_same(unstarted, keys, tmp_path, caplog):
    unstarted.judge, unstarted.bundle = Swap(trusted=small.TRUSTED), tmp_path / "nothing"
    unstarted.start()
    wait_until(lambda: unstarted.live)
    assert "bundle refused, calls pass: " in caplog.text
    code, answer = unstarted.asked("POST", schema.RELOAD, b"", keys["admin"])
    assert code == 409 and answer["error"].startswith("refused, the last good bundle stays: ")


def test_what_is_late_ahead_or_unknown(unstarted, keys):
    unstarted.live = unstarted._open_live()
    unstarted.waiting_since = time.monotonic() - 2 * LONG_DEADLINE
    assert unstarted.asked("POST", schema.SCORE, call_json(), keys["score"])[1]["action"] == "pass"
    assert unstarted.live.counts["shed"] == 1
    code, answer = unstarted.asked("POST", schema.OBSERVE, call_json(start=time.time() + 3600), keys["score"])
    assert code == 409 and "after now" in answer["error"]
    unknown = unstarted.asked("GET", f"{schema.EXPLAIN}?case={'0' * 16}", key=keys["explain"])
    assert unknown == (404, {"error": "no verdict of this case is remembered"})


def test_a_key_that_asks_too_often_is_told_its_rate(unstarted, tmp_path):
    key = http_service.add_key(tmp_path / "api.keys", "slow", ["score"], rate=1)
    unstarted.keys = read_keys(tmp_path / "api.keys")
    codes = [unstarted.asked("POST", schema.SCORE, call_json(), key) for _ in range(2)]
    assert codes[1] == (429, {"error": "more than 1 requests a second"})


def test_figures_of_a_service_that_has_nothing_yet():
    judge = Swap(trusted=small.TRUSTED)
    families = text_string_to_metric_families(metrics(None, judge, {503: 2}).decode())
    told = {sample.name: sample.value for family in families for sample in family.samples}
    told = {name: value for name, value in told.items() if name.startswith("callsieve_")}
    assert told == {"callsieve_ready": 0.0, "callsieve_http_answers_total": 2.0}
    assert status(None, judge) == {"model": None, "refusal": judge.refusal, "certificates": []}


def test_what_is_slow_or_lost_is_told_and_a_failure_is_raised(service_folder, keys, tmp_path, monkeypatch, caplog):
    assert keys

    def run(service):
        service.start()
        wait_until(lambda: service.live or service.failure)
        service.stop()

    monkeypatch.setattr(server, "application", lambda service: service)
    monkeypatch.setattr(server, "configured", lambda service, *_: SimpleNamespace(run=lambda: run(service)))
    monkeypatch.setattr(server, "shorten_pauses", lambda: None)
    monkeypatch.setattr("callsieve.features.codegen.compiled_library.library", lambda: None)
    (tmp_path / "state-00000001.snapshot").write_bytes(b"none")
    serve = lambda **more: server.serve(
        service_folder / "bundle", Swap(trusted=small.TRUSTED, policy=STRICT_POLICY), real_bundle.NUMBER_KEY,
        service_folder / "api.keys", tmp_path, **more,
    )  # fmt: skip
    serve(calls=100, numbers=100)
    assert "the kernel was not built as C" in caplog.text and "the state of earlier processes is lost: " in caplog.text
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        serve(calls=0)


def test_a_snapshot_is_made_while_calls_come_in(make_service, keys):
    with make_service(journal_bytes=20_000) as service:
        live, connection, codes = service.service.live, service.connect(), []
        deadline = time.monotonic() + 30
        for call in itertools.cycle(real_bundle.calls(300)):
            codes.append(send_request(connection, "POST", schema.SCORE, keys["score"], call_to_json(call))[0])
            if live.memory.saved != [0, 0]:
                break
            assert time.monotonic() < deadline
        connection.close()
    assert live.memory.saved[1] == 0
    assert set(codes) == {200}


def test_a_late_loop_sheds_attempts(make_service, keys):
    with make_service(deadline=0.5) as service:
        blocked = threading.Event()
        service.server.servers[0].get_loop().call_soon_threadsafe(lambda: (blocked.set(), time.sleep(1.5)))
        blocked.wait(10)
        told = []
        ask = lambda: told.append(service.post(schema.SCORE, call_json(), keys["score"]))
        asking = [threading.Thread(target=ask) for _ in range(5)]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
        assert [code for code, _ in told] == [200] * 5
        assert {json.loads(answer)["action"] for _, answer in told} == {"pass"}
