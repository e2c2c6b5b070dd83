"""A service in this process: during its start, when it is late or busy, and without its bundle or kernel."""

import asyncio
import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callsieve.features.intake.intake import Intake
from callsieve.features.online.feeds import ANSWERED_ONLY, COMPLETE, NO_ROUTES
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
    """A service that is not started, with a `request` function that calls its application without a socket."""
    assert keys
    intake, options = Intake(real_bundle.NUMBER_KEY), {"deadline": LONG_DEADLINE, **CAPACITY}
    begin = lambda: Live(blocking_bundle, intake, tmp_path / "state", **options)
    service = app.Service(begin, blocking_bundle, service_folder / "bundle", read_keys(service_folder / "api.keys"))
    application = app.application(service)

    def request(method, path, body=b"", key=""):
        path, _, query = path.partition("?")
        messages, headers = [], [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        asyncio.run(application(scope, receive, send))
        return messages[0]["status"], json.loads(messages[1]["body"])

    service.request = request
    yield service
    service.stop()


def test_a_starting_service_passes_calls_and_states_that_it_is_starting(unstarted, keys):
    code, verdict = unstarted.request("POST", schema.SCORE, call_json(), keys["score"])
    assert (code, verdict["action"], verdict["status"]) == (200, "pass", "no score: the service is starting")
    starting = (503, {"error": "the service is starting"})
    assert unstarted.request("POST", schema.OBSERVE, call_json(), keys["score"]) == starting
    assert unstarted.request("GET", schema.READY) == (503, {"ok": False, "why": "the service is starting"})
    assert unstarted.request("GET", schema.OPENAPI) == (200, schema.openapi())


def test_a_service_without_its_bundle_starts(unstarted, keys, tmp_path, caplog):
    unstarted.judge, unstarted.bundle = Swap(trusted=small.TRUSTED), tmp_path / "nothing"
    unstarted.start()
    wait_until(lambda: unstarted.live)
    assert "bundle refused, calls pass: " in caplog.text
    code, answer = unstarted.request("POST", schema.RELOAD, b"", keys["admin"])
    assert code == 409 and answer["error"].startswith("bundle refused, the last good one stays in service: ")


def test_late_attempts_pass_and_future_calls_and_unknown_cases_are_refused(unstarted, keys):
    unstarted.live = unstarted._open_live()
    unstarted.waiting_since = time.monotonic() - 2 * LONG_DEADLINE
    assert unstarted.request("POST", schema.SCORE, call_json(), keys["score"])[1]["action"] == "pass"
    assert unstarted.live.counts["shed"] == 1
    code, answer = unstarted.request("POST", schema.OBSERVE, call_json(start=time.time() + 3600), keys["score"])
    assert code == 409 and "in the future" in answer["error"]
    unknown = unstarted.request("GET", f"{schema.EXPLAIN}?case={'0' * 16}", key=keys["explain"])
    assert unknown == (404, {"error": "this case is not in memory any more"})


def test_a_key_above_its_request_rate_is_refused(unstarted, tmp_path):
    key = http_service.add_key(tmp_path / "api.keys", "slow", ["score"], rate=1)
    unstarted.keys = read_keys(tmp_path / "api.keys")
    codes = [unstarted.request("POST", schema.SCORE, call_json(), key) for _ in range(2)]
    assert codes[1] == (429, {"error": "more than 1 requests a second"})


def test_a_service_without_a_bundle_has_metrics_and_a_status():
    judge = Swap(trusted=small.TRUSTED)
    families = text_string_to_metric_families(metrics(None, judge, {503: 2}).decode())
    values = {sample.name: sample.value for family in families for sample in family.samples}
    values = {name: value for name, value in values.items() if name.startswith("callsieve_")}
    assert values == {"callsieve_ready": 0.0, "callsieve_http_answers_total": 2.0}
    assert status(None, judge) == {"model": None, "refusal": judge.refusal, "certificates": []}


def test_the_status_has_the_certificates_of_each_feed(tmp_path):
    bands = real_bundle.card().thresholds
    real_bundle.write_bundle(tmp_path / "bundle", feeds={NO_ROUTES: bands, ANSWERED_ONLY: bands})
    judge = Swap(trusted=small.TRUSTED)
    judge.load(tmp_path / "bundle")
    listed = [(band["feed"], band["band"]) for band in status(None, judge)["certificates"]]
    assert listed == [(feed, name) for feed in (COMPLETE, ANSWERED_ONLY, NO_ROUTES) for name in ("certified", "watch")]


def test_a_slow_kernel_and_lost_state_are_logged_and_a_failure_is_raised(
    service_folder, keys, tmp_path, monkeypatch, caplog
):
    assert keys

    def run(service):
        service.start()
        wait_until(lambda: service.live or service.failure)
        service.stop()

    monkeypatch.setattr(server, "application", lambda service: service)
    monkeypatch.setattr(server, "configured", lambda service, *_: SimpleNamespace(run=lambda: run(service)))
    monkeypatch.setattr(server, "shorten_pauses", lambda: None)
    (tmp_path / "state-00000001.snapshot").write_bytes(b"none")
    serve = lambda **more: server.serve(
        service_folder / "bundle", Swap(trusted=small.TRUSTED, policy=STRICT_POLICY), real_bundle.NUMBER_KEY,
        service_folder / "api.keys", tmp_path, **more,
    )  # fmt: skip
    serve(calls=100, numbers=100)
    assert "the state of earlier processes is lost: " in caplog.text
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        serve(calls=0)


@pytest.mark.system
def test_a_snapshot_is_written_while_calls_arrive(make_service, keys):
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


@pytest.mark.system
def test_a_late_loop_sheds_attempts(make_service, keys):
    with make_service(deadline=0.5) as service:
        blocked = threading.Event()
        service.server.servers[0].get_loop().call_soon_threadsafe(lambda: (blocked.set(), time.sleep(1.5)))
        blocked.wait(10)
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: service.post(schema.SCORE, call_json(), keys["score"]), range(5)))
        assert [code for code, _ in answers] == [200] * 5
        assert {json.loads(answer)["action"] for _, answer in answers} == {"pass"}
