"""A service in this process: during its start, when it is late or busy, and without its bundle or kernel."""

import asyncio
import dataclasses
import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from callsieve.features.online.feeds import ANSWERED_ONLY, COMPLETE, NO_ROUTES, FeedShares
from callsieve.serving.http import app, schema, server
from callsieve.serving.http.answers import status_of
from callsieve.serving.http.api_keys import read_keys
from callsieve.serving.http.call_requests import Limited
from callsieve.serving.http.endpoint import CallEndpoint
from callsieve.serving.http.metrics import metrics
from callsieve.serving.http.openapi import openapi
from callsieve.serving.live.memory import Limits
from callsieve.serving.live.swap import Swap
from tests.support import http_service, live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import LONG_DEADLINE, STRICT_POLICY, call_json, call_to_json, send_request
from tests.support.waiting import wait_until


@pytest.fixture
def unstarted(service_folder, blocking_bundle, keys, tmp_path):
    """A service that is not started, with a `request` function that calls its application without a socket."""
    assert keys
    begin = lambda: live_states.begin(blocking_bundle, tmp_path / "state")
    service = app.Service(begin, blocking_bundle, service_folder / "bundle", read_keys(service_folder / "api.keys"))
    application = app.application(service)

    def request(method, path, body=b"", key="", waited=0.0):
        path, _, query = path.partition("?")
        messages, headers = [], [(b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        scope["arrived"] = time.monotonic() - waited

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        asyncio.run(application(scope, receive, send))
        return messages[0]["status"], [json.loads(line) for line in messages[1]["body"].splitlines()]

    def request_one(method, path, body=b"", key="", waited=0.0):
        code, (answer,) = request(method, path, body, key, waited)
        return code, answer

    service.request, service.request_lines = request_one, request
    yield service
    service.stop()


def test_a_starting_service_passes_calls_and_states_that_it_is_starting(unstarted, keys):
    code, verdict = unstarted.request("POST", schema.SCORE, call_json(), keys["score"])
    assert (code, verdict["action"], verdict["status"]) == (200, "pass", "starting")
    starting = (503, {"error": "the service is starting"})
    assert unstarted.request("POST", schema.OBSERVE, call_json(), keys["score"]) == starting
    assert unstarted.request("GET", schema.READY) == (
        503,
        {"ok": False, "status": "starting", "why": "not scored: the service is starting"},
    )
    assert unstarted.request("GET", schema.OPENAPI) == (200, openapi())


def test_a_service_without_its_bundle_starts(unstarted, keys, tmp_path, caplog):
    unstarted.scorers, unstarted.bundle = Swap(trusted=small.TRUSTED), tmp_path / "nothing"
    unstarted.start()
    wait_until(lambda: unstarted.live)
    assert "bundle refused, calls pass: " in caplog.text
    code, answer = unstarted.request("POST", schema.RELOAD, b"", keys["admin"])
    assert code == 409 and answer["error"].startswith("bundle refused, the last good one stays in service: ")


def test_late_attempts_pass_and_future_calls_and_unknown_cases_are_refused(unstarted, keys):
    unstarted.live = unstarted._open_live()
    late = unstarted.request("POST", schema.SCORE, call_json(), keys["score"], waited=2 * LONG_DEADLINE)
    assert (late[1]["action"], late[1]["status"]) == ("pass", "deadline")
    assert unstarted.live.counts["shed"] == 1
    ahead = call_json(start=time.time() + 3600)
    refusals = [unstarted.request("POST", path, ahead, keys["score"]) for path in (schema.OBSERVE, schema.SCORE)]
    assert refusals[0] == refusals[1] and refusals[0][0] == 409 and "in the future" in refusals[0][1]["error"]
    assert (unstarted.live.counts["ahead"], unstarted.live.counts["attempts"]) == (2, 1)
    unknown = unstarted.request("GET", f"{schema.EXPLAIN}?case={'0' * 16}", key=keys["explain"])
    assert unknown == (404, {"error": "this case is neither in memory nor in the journal"})


def test_a_batch_is_answered_line_by_line_like_single_calls(unstarted, keys, blocking_bundle, tmp_path):
    unstarted.live = unstarted._open_live()
    plain = live_states.begin(blocking_bundle, tmp_path / "plain")
    calls = real_bundle.calls(20)
    attempts = [dataclasses.replace(call, ring=None, talk=None, outcome="unknown", recorded=None) for call in calls]
    lines = [call_to_json(call) for call in attempts]
    lines[3:3] = [b"{", b"", call_json(start=time.time() + 3600)]
    code, answers = unstarted.request_lines("POST", schema.BATCH, b"\n".join(lines) + b"\n", keys["score"])
    assert code == 200 and len(answers) == 23
    refused = [answer["error"] for answer in answers[3:6]]
    assert ["JSON" in refused[0], "JSON" in refused[1], "in the future" in refused[2]] == [True] * 3
    assert all(answer.keys() == {"error"} for answer in answers[3:6])
    verdicts = [http_service.verdict_from_json(json.dumps(answer)) for answer in answers[:3] + answers[6:]]
    assert [repr(verdict) for verdict in verdicts] == [repr(plain.attempt(call)) for call in attempts]
    plain.close()


def test_a_batch_is_bounded_in_lines_bytes_requests_and_number(unstarted, keys, tmp_path):
    refuse = lambda body, key=keys["score"]: unstarted.request("POST", schema.BATCH, body, key)
    many = b"\n" * schema.MAX_LINES
    assert refuse(many + b"{}") == (413, {"error": "a batch must have at most 1000 lines"})
    assert unstarted.request_lines("POST", schema.BATCH, many, keys["score"])[0] == 200
    assert refuse(b" " * (schema.MAX_BATCH + 1)) == (413, {"error": "a body must have at most 1048576 bytes"})
    unstarted.batches = app.BATCHES
    assert refuse(b"{}") == (503, {"error": "4 batches are in work"})
    unstarted.batches = 0
    slow = http_service.add_key(tmp_path / "api.keys", "slow", ["score"], rate=10)
    unstarted.keys = read_keys(tmp_path / "api.keys")
    assert refuse(b"\n" * 11, slow) == (429, {"error": "more than 10 requests a second"})
    assert unstarted.request_lines("POST", schema.BATCH, b"\n" * 9, slow)[0] == 200
    assert unstarted.batches == 0


def test_a_batch_lets_other_requests_through(unstarted, keys):
    """Two batches at once alternate line by line, so a call that rings waits for one line, not for a batch."""
    order = []
    unstarted.live = unstarted._open_live()
    attempt = unstarted.live.attempt
    unstarted.live.attempt = lambda call, since: (order.append(call.caller), attempt(call, since))[1]
    bodies = [b"\n".join([call_json(caller=name)] * 5) for name in ("1", "2")]

    async def run():
        await asyncio.gather(*(app._score_batch(unstarted, {"holder": holder}, receive(body)) for body in bodies))

    def receive(body):
        async def once():
            return {"type": "http.request", "body": body}

        return once

    holder = unstarted.keys.holder(f"Bearer {keys['score']}".encode())
    asyncio.run(run())
    assert order == ["1", "2"] * 5


def test_a_key_above_its_request_rate_is_refused(unstarted, tmp_path):
    key = http_service.add_key(tmp_path / "api.keys", "slow", ["score"], rate=1)
    unstarted.keys = read_keys(tmp_path / "api.keys")
    codes = [unstarted.request("POST", schema.SCORE, call_json(), key) for _ in range(2)]
    assert codes[1] == (429, {"error": "more than 1 requests a second"})


def test_health_checks_are_answered_when_as_many_requests_as_allowed_are_in_work():
    gate = asyncio.Event()

    async def work(scope, _receive, send):
        if scope["path"] == schema.SCORE:
            await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run():
        limited = Limited(work, (schema.LIVE, schema.READY), most=2)

        async def status(path):
            messages = []

            async def send(message):
                messages.append(message)

            await limited({"type": "http", "path": path}, None, send)
            return messages[0]["status"]

        busy = [asyncio.create_task(status(schema.SCORE)) for _ in range(2)]
        await asyncio.sleep(0)
        during = [await status(path) for path in (schema.SCORE, schema.LIVE, schema.READY, schema.METRICS)]
        during.append(await call_status(limited))
        gate.set()
        done = [await task for task in busy]
        calls = [call_status(limited) for _ in range(3)]
        return during, done, await status(schema.SCORE), await asyncio.gather(*calls), await call_status(limited)

    async def call_status(limited):
        """Starts a request about a call, which needs no ASGI; returns the status of its answer."""
        codes = asyncio.Queue()
        limited.start(
            SimpleNamespace(send=lambda code, _body: codes.put_nowait(code), answer=lambda: codes.put_nowait(200))
        )
        return await codes.get()

    assert asyncio.run(run()) == ([503, 200, 200, 503, 503], [200, 200], 200, [200, 200, 503], 200)


def test_a_request_about_a_call_that_fails_leaves_those_behind_it_to_be_answered():
    answered = []

    def fail():
        raise OSError("the connection failed")

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: answered.append(context["exception"]))
        limited = Limited(None, (), most=3)
        for answer in (fail, lambda: answered.append("second"), lambda: answered.append("third")):
            limited.start(SimpleNamespace(answer=answer))
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert [str(item) for item in answered] == ["the connection failed", "second", "third"]


@pytest.mark.system
def test_a_call_that_arrives_whole_needs_no_asgi_and_is_scored_though_its_client_has_gone(
    make_service, keys, monkeypatch
):
    async def fail(*_):
        raise AssertionError

    def request(body):  # in one piece, unlike that of a client that sends the body after the head
        head = f"POST {schema.SCORE} HTTP/1.1\r\nAuthorization: Bearer {keys['score']}\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    monkeypatch.setattr(CallEndpoint, "__call__", fail)
    with make_service() as service:
        live = service.service.live
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request(call_json()))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        service.server.servers[0].get_loop().call_soon_threadsafe(time.sleep, 0.2)
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request(call_json(callee="13900139001")))
        wait_until(lambda: live.counts["attempts"] == 2)


def test_a_service_without_a_bundle_has_metrics_and_a_status():
    judge = Swap(trusted=small.TRUSTED)
    families = text_string_to_metric_families(metrics(None, judge, {503: 2}).decode())
    values = {sample.name: sample.value for family in families for sample in family.samples}
    values = {name: value for name, value in values.items() if name.startswith("callsieve_")}
    assert values == {"callsieve_ready": 0.0, "callsieve_bundle_refused": 0.0, "callsieve_http_answers_total": 2.0}
    content = status_of(None, judge, 1.0)
    assert (content.model, content.refusal, content.certificates) == (None, judge.refusal, [])
    assert "counts" not in msgspec.to_builtins(content)


def test_the_status_has_the_certificates_of_each_feed(tmp_path):
    bands = real_bundle.card().thresholds
    real_bundle.write_bundle(tmp_path / "bundle", feeds={NO_ROUTES: bands, ANSWERED_ONLY: bands})
    judge = live_states.loaded(tmp_path / "bundle")
    listed = [(band.feed, band.band) for band in status_of(None, judge, 1.0).certificates]
    assert listed == [(feed, name) for feed in (COMPLETE, ANSWERED_ONLY, NO_ROUTES) for name in ("certified", "watch")]


@pytest.mark.parametrize(("source", "simulated"), [("truth", True), ("labels", False)])
def test_the_status_says_whether_the_model_learnt_from_simulated_calls(tmp_path, source, simulated):
    real_bundle.write_bundle(tmp_path / "bundle", training={"learn_from": source})
    assert status_of(None, live_states.loaded(tmp_path / "bundle"), 1.0).model.simulated is simulated


@pytest.mark.parametrize("pinned", ["", NO_ROUTES])
def test_the_status_and_the_metrics_name_the_feed_and_whether_it_is_pinned(tmp_path, pinned):
    real_bundle.write_bundle(tmp_path / "bundle")
    swap = live_states.loaded(tmp_path / "bundle", feed=pinned)
    live = live_states.begin(swap, tmp_path / "state")
    recognised = live.memory.history.memory_feed
    before = status_of(live, swap, 1.0).feed
    assert (before.recognised, before.changes, before.shares) == (COMPLETE, 0, None)
    recognised.name, recognised.changes = ANSWERED_ONLY, 1
    recognised.shares = FeedShares(0.0, 0.9, 0.9, 0.9)
    after = status_of(live, swap, 1.0).feed
    assert (after.name, after.pinned, after.recognised, after.changes) == (
        pinned or ANSWERED_ONLY,
        bool(pinned),
        ANSWERED_ONLY,
        1,
    )
    assert after.shares["unanswered"] == 0.0 and after.shares["ring"] == 0.9
    text = metrics(live, swap, {}).decode()
    live.close()
    assert f'callsieve_feed{{feed="{after.name}",pinned="{str(after.pinned).lower()}"}} 1.0' in text
    assert "callsieve_feed_changes_total 1.0" in text


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
    serve(limits=Limits(100, 100))
    assert "a snapshot of earlier processes was refused: " in caplog.text
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        serve(limits=Limits(calls=0))


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
