"""The service over HTTP, as a real process: what may be asked, by whom, and what is answered."""

import asyncio
import contextlib
import dataclasses
import gc
import gzip
import itertools
import json
import logging
import re
import socket
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest
from callsieve.features.intake import Intake
from callsieve.features.records import CALL_COLUMNS, Call
from callsieve.serving import app, protocol, schema, server, wire
from callsieve.serving.access import read_keys
from callsieve.serving.events import read_reports
from callsieve.serving.live import Live
from callsieve.serving.measured import metrics, status
from callsieve.serving.policy import Policy
from callsieve.serving.reasons import Reason
from callsieve.serving.swap import Swap
from callsieve.serving.verdict import Verdict
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import catalogued
import kamailios
import services
import smallmodels as small
from services import SCOPES, over
from test_kamailio import everything_reached
from test_live import PATIENT, attempt_of, events
from test_wire import calls as drawn_calls
from test_wire import columns, verdicts

NUMBER = "+8613800138000"
STRICT = Policy("test", {"certified": "block", "watch": "screen"}, appeal="appeals office")
PATHS = {
    ("POST", wire.SCORE): "score",
    ("POST", wire.OBSERVE): "score",
    ("POST", schema.REPORT): "report",
    ("GET", schema.EXPLAIN): "explain",
    ("GET", schema.STATUS): "admin,audit",
    ("POST", schema.RELOAD): "admin",
    ("GET", schema.METRICS): "admin,audit",
}
OPEN = (schema.LIVE, schema.READY, schema.OPENAPI, schema.PAGE)


@pytest.fixture(scope="module")
def judge(service_folder, keys):
    assert keys
    judge = Swap(trusted=small.TRUSTED, policy=STRICT)
    judge.load(service_folder / "bundle")
    return judge


@pytest.fixture
def inside(service_folder, judge, tmp_path):
    """Makes a service in this process."""

    def make(**options):
        options = {"deadline": PATIENT, **options}
        begin = lambda: Live(judge, Intake(catalogued.NUMBER_KEY), tmp_path / "state", **options)
        return services.Inside(service_folder, begin, judge)

    return make


def body(**fields):
    return json.dumps({"start": catalogued.START, "caller": NUMBER, "callee": "13900139000"} | fields).encode()


def test_events_over_http_give_the_verdicts_of_live(running, keys, judge, tmp_path):
    live = Live(judge, Intake(catalogued.NUMBER_KEY), tmp_path / "state", deadline=PATIENT)
    connection = running.connect()
    for kind, call in events(catalogued.calls(60)):
        if kind:
            live.end(call)
            assert over(connection, "POST", wire.OBSERVE, keys["score"], wire.call_to_json(call)) == (200, b"{}")
        else:
            asked = wire.call_to_json(attempt_of(call))
            code, answer = over(connection, "POST", wire.SCORE, keys["score"], asked)
            assert code == 200
            verdict = wire.verdict_from_json(answer)
            assert repr(verdict) == repr(live.attempt(attempt_of(call)))
            code, answer = over(connection, "GET", f"{schema.EXPLAIN}?case={verdict.case}", keys["explain"])
            assert code == 200
            assert repr(wire.verdict_from_json(answer)) == repr(live.explain(verdict.case))
    live.close()
    connection.close()


@pytest.mark.source("L29", by="serving/access.py")
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_each_path_needs_its_scope(running, keys, method, path):
    asked = {"GET": running.get, "POST": lambda path, key: running.post(path, b"{}", key)}[method]
    for scope in SCOPES:
        code, answer = asked(path, keys[scope])
        if scope in PATHS[method, path].split(","):
            assert code in (200, 400)
        else:
            needed = PATHS[method, path].replace(",", " or ").encode()
            assert (code, answer) == (403, b'{"error":"the key lacks the scope %s"}' % needed)
    for key in ("", "x", keys["all"][:-1]):
        assert asked(path, key)[0] == 401


def test_what_needs_no_key(running):
    for path in OPEN:
        assert running.get(path)[0] == 200
    assert running.get("/v2/score")[0] == 404
    assert running.get(wire.SCORE)[0] == 405


@pytest.fixture
def unstarted(service_folder, judge, keys, tmp_path):
    """A service that nobody has started, and how it is asked: no socket, no loop of its own."""
    assert keys
    begin = lambda: Live(judge, Intake(catalogued.NUMBER_KEY), tmp_path / "state", deadline=PATIENT)
    service = app.Service(begin, judge, service_folder / "bundle", read_keys(service_folder / "api.keys"))
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
    code, verdict = unstarted.asked("POST", wire.SCORE, body(), keys["score"])
    assert (code, verdict["action"], verdict["status"]) == (200, "pass", "no score: the service is starting")
    assert unstarted.asked("POST", wire.OBSERVE, body(), keys["score"]) == (503, {"error": "the service is starting"})
    assert unstarted.asked("GET", schema.READY) == (503, {"ok": False, "why": "the service is starting"})
    assert unstarted.asked("GET", schema.OPENAPI) == (200, schema.openapi())


def test_a_service_without_its_bundle_starts_all_the_same(unstarted, keys, tmp_path, caplog):
    unstarted.judge, unstarted.bundle = Swap(trusted=small.TRUSTED), tmp_path / "nothing"
    unstarted.start()
    deadline = time.monotonic() + 20
    while unstarted.live is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "bundle refused, calls pass: " in caplog.text
    code, answer = unstarted.asked("POST", schema.RELOAD, b"", keys["admin"])
    assert code == 409 and answer["error"].startswith("refused, the last good bundle stays: ")


def test_what_is_late_ahead_or_unknown(unstarted, keys):
    unstarted.live = unstarted._begin()
    unstarted.beat = time.monotonic() - 2 * PATIENT
    assert unstarted.asked("POST", wire.SCORE, body(), keys["score"])[1]["action"] == "pass"
    assert unstarted.live.counts["shed"] == 1
    code, answer = unstarted.asked("POST", wire.OBSERVE, body(start=time.time() + 3600), keys["score"])
    assert code == 409 and "after now" in answer["error"]
    unknown = unstarted.asked("GET", f"{schema.EXPLAIN}?case={'0' * 16}", key=keys["explain"])
    assert unknown == (404, {"error": "no verdict of this case is remembered"})


def test_a_key_that_asks_too_often_is_told_its_rate(unstarted, tmp_path):
    key = services.add_key(tmp_path / "api.keys", "slow", ["score"], rate=1)
    unstarted.keys = read_keys(tmp_path / "api.keys")
    codes = [unstarted.asked("POST", wire.SCORE, body(), key) for _ in range(2)]
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
        deadline = time.monotonic() + 20
        while not (service.live or service.failure):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        service.stop()

    monkeypatch.setattr(server, "configured", lambda service, *_: SimpleNamespace(run=lambda: run(service)))
    monkeypatch.setattr(server, "shorten_pauses", lambda: None)
    monkeypatch.setattr("callsieve.features.native.library", lambda: None)
    (tmp_path / "state-00000001.snapshot").write_bytes(b"none")
    serve = lambda **more: server.serve(
        service_folder / "bundle", Swap(trusted=small.TRUSTED, policy=STRICT), catalogued.NUMBER_KEY,
        service_folder / "api.keys", tmp_path, **more,
    )  # fmt: skip
    serve(calls=100, numbers=100)
    assert "the kernel was not built as C" in caplog.text and "what was known before is lost: " in caplog.text
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        serve(calls=0)


def test_a_report_is_kept(running, keys, service_folder):
    said = {"reporter": "13900139000", "number": NUMBER, "at": catalogued.START, "category": "fraud", "mode": "robot"}
    assert running.post(schema.REPORT, json.dumps(said).encode(), keys["report"]) == (200, b"{}")
    for odd in ({"category": "138 0013"}, {"at": 1e11}, {"number": ""}, {"more": 1}, {"at": None}):
        code, answer = running.post(schema.REPORT, json.dumps(said | odd).encode(), keys["report"])
        assert code == (409 if odd.get("at") else 400)
        assert b"report: " in answer
    deadline = time.monotonic() + 10
    while not list(read_reports(service_folder / "state")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (kept,) = read_reports(service_folder / "state")
    assert kept["number"] == Intake(catalogued.NUMBER_KEY).token("number", NUMBER)
    assert (kept["category"], kept["mode"]) == ("fraud", "robot")


def test_a_bundle_is_put_in_service_and_a_broken_one_is_not(tmp_path):
    keys = services.files(tmp_path / "s")
    with services.Process(tmp_path / "s") as service:
        first = service.status(keys["admin"])["model"]
        (tmp_path / "s" / "bundle").rename(tmp_path / "before")
        catalogued.write(tmp_path / "s" / "bundle", epoch=6)
        assert json.loads(service.post(schema.RELOAD, b"", keys["admin"])[1])["epoch"] == 6
        second = service.status(keys["admin"])["model"]
        assert (first["epoch"], second["epoch"]) == (5, 6)
        (tmp_path / "s" / "bundle").rename(tmp_path / "good")
        (tmp_path / "before").rename(tmp_path / "s" / "bundle")
        code, answer = service.post(schema.RELOAD, b"", keys["admin"])
        assert code == 409
        assert b"epoch" in answer
        assert service.status(keys["admin"])["model"] == second
        assert service.get(schema.READY)[0] == 200


def test_without_a_bundle_it_lives_and_is_not_ready(tmp_path):
    keys = services.files(tmp_path / "s")
    (tmp_path / "s" / "bundle").rename(tmp_path / "gone")
    with services.Process(tmp_path / "s", ready=False) as service:
        code, answer = service.get(schema.READY)
        assert code == 503
        assert not json.loads(answer)["ok"]
        code, answer = service.post(wire.SCORE, body(), keys["score"])
        assert code == 200
        assert wire.verdict_from_json(answer).action == "pass"
        assert service.status(keys["admin"])["model"] is None


def test_a_folder_in_use_ends_the_second_process_in_one_line(running, service_folder):
    second = services.Process(service_folder)
    assert second.process.wait(30) == 1
    assert "another process serves from this folder" in running.said()


def test_figures_for_prometheus(running, keys):
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(running.get(schema.METRICS, keys["admin"])[1].decode())
        for sample in family.samples
    }
    status = running.status(keys["admin"])
    assert told["callsieve_ready",] == 1
    assert told["callsieve_verdict_seconds_count",] == sum(status["latency"]["counts"])
    assert told["callsieve_events_total", "attempts"] == status["counts"]["attempts"]
    assert told["callsieve_verdicts_total", "pass"] == status["actions"]["pass"]
    assert told["callsieve_history_calls",] == status["state"]["history_calls"]
    assert told["process_open_fds",] > 0


def test_bodies_are_bounded(running, keys):
    connection = running.connect()
    for size in (wire.MAX_BODY, wire.MAX_BODY + 1):
        code, answer = running.post(wire.SCORE, b" " * size, keys["score"])
        assert code == (400 if size == wire.MAX_BODY else 413)
        assert len(answer) < 200
    with contextlib.suppress(ConnectionError):  # it hangs up before it has heard all of this
        assert running.post(wire.SCORE, b" " * 10_000_000, keys["score"])[0] == 413
    connection.putrequest("POST", wire.SCORE)
    connection.putheader("Authorization", f"Bearer {keys['score']}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(5):
        connection.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
    assert connection.getresponse().status == 413
    connection.close()
    assert running.post(wire.SCORE, body(), keys["score"])[0] == 200


def test_a_key_has_a_rate(tmp_path):
    services.files(tmp_path / "s")
    slow = services.add_key(tmp_path / "s" / "api.keys", "slow", ["score"], rate=3)
    with services.Process(tmp_path / "s") as service:
        codes = [service.post(wire.SCORE, body(), slow)[0] for _ in range(8)]
    assert codes[:3] == [200] * 3
    assert 429 in codes


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(protocol, "PATIENCE", 0.3)


HEAD = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.source("L37", by="serving/protocol.py")
@pytest.mark.usefixtures("impatient")
def test_a_slow_client_is_hung_up_on_and_delays_nobody(inside, keys):
    with inside() as service:
        slow = []
        for sent in (b"", b"POST /v1", HEAD[:40], HEAD, HEAD + b'{"start":', b"\x00" * 10) * 5:
            slow.append(socket.create_connection(("127.0.0.1", service.port)))
            slow[-1].sendall(sent.replace(b"%b", keys["score"].encode()))
            slow[-1].settimeout(20)
        assert service.post(wire.SCORE, body(), keys["score"])[0] == 200
        for each in slow:
            while each.recv(1000):
                pass  # it may be told why
            each.close()
        connection = service.connect()
        for _ in range(3):  # one that asks now and then is not slow
            assert over(connection, "POST", wire.SCORE, keys["score"], body())[0] == 200
            time.sleep(0.4)
        connection.close()


def test_a_head_without_end_is_cut(inside, keys):
    with inside() as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        client.sendall(b"GET /health/live HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(20_000):
                client.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
        client.close()
        assert service.post(wire.SCORE, body(), keys["score"])[0] == 200


def test_a_snapshot_is_made_while_calls_come_in(inside, keys):
    with inside(journal_bytes=20_000) as service:
        live, connection, codes = service.service.live, service.connect(), []
        deadline = time.monotonic() + 30
        for call in itertools.cycle(catalogued.calls(300)):
            codes.append(over(connection, "POST", wire.SCORE, keys["score"], wire.call_to_json(call))[0])
            if live.saved != [0, 0]:
                break
            assert time.monotonic() < deadline
        connection.close()
    assert live.saved[1] == 0
    assert set(codes) == {200}


def test_a_late_loop_sheds_attempts(inside, keys):
    with inside(deadline=0.5) as service:
        service.service.beat = -1e9
        blocked = threading.Event()
        service.server.servers[0].get_loop().call_soon_threadsafe(lambda: (blocked.set(), time.sleep(1.5)))
        blocked.wait(10)
        told = []
        ask = lambda: told.append(service.post(wire.SCORE, body(), keys["score"]))
        asking = [threading.Thread(target=ask) for _ in range(5)]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
        assert [code for code, _ in told] == [200] * 5
        assert {json.loads(answer)["action"] for _, answer in told} == {"pass"}


SAID = [
    b"", b"{", b"[]", NUMBER.encode(), b"\xff" * 50, body(caller=13800138000), body(outcome=NUMBER), body(talk=NUMBER),
    body(more=NUMBER), body(caller=NUMBER * 50), body(start=-13800138000), body(start=NUMBER), b"[" * 9000,
    b'"%b"' % NUMBER.encode(), body(attestation=NUMBER), body(ring=True), body(caller=None), gzip.compress(body()),
]  # fmt: skip


def test_no_number_is_in_an_answer_or_in_the_log(inside, keys, caplog, monkeypatch, capfd):
    caplog.set_level(logging.DEBUG)

    def fault(*_):
        raise RuntimeError(NUMBER)

    with inside() as service:
        answers = []
        for key in (keys["all"], NUMBER, ""):
            for path in (wire.SCORE, wire.OBSERVE, schema.REPORT, f"/{NUMBER}", f"/v1/explain?case={NUMBER}"):
                answers += [service.post(path, said, key) for said in SAID]
            answers.append(service.get(f"/v1/explain?case={NUMBER}", key))
            answers.append(service.get(f"/v1/explain?{NUMBER}=1", key))
        for broken in (b"GET 13800138000\r\n\r\n", b"13800138000 / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", service.port)) as client:
                client.sendall(broken)
                answers.append((400, client.recv(4000)))
        live = service.service.live
        monkeypatch.setattr(live, "end", fault)
        monkeypatch.setattr(live, "attempt", fault)
        monkeypatch.setattr(live, "report", fault)
        said = {"reporter": NUMBER, "number": NUMBER, "at": catalogued.START, "category": "fraud"}
        failed = [service.post(path, body(), keys["all"]) for path in (wire.SCORE, wire.OBSERVE)]
        failed.append(service.post(schema.REPORT, json.dumps(said).encode(), keys["all"]))
        monkeypatch.undo()
    assert failed == [(500, b'{"error":"the service failed"}')] * 3
    assert {code for code, _ in answers} == {400, 401, 404, 405}
    written = caplog.text + "".join(capfd.readouterr()) + "".join(repr(record.__dict__) for record in caplog.records)
    assert "a request failed: RuntimeError" in written
    for text in (written, *(answer.decode("latin-1") for _, answer in answers)):
        assert "0138000" not in re.sub(r"[\s-]", "", text)


bodies = st.binary(max_size=100) | columns.map(lambda value: json.dumps(value).encode())
spoilt = st.builds(
    lambda call, name, value: json.dumps(json.loads(wire.call_to_json(call)) | {name: value}).encode(),
    drawn_calls,
    st.sampled_from(CALL_COLUMNS) | st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.lists(st.integers(), max_size=2),
)


def outcome(read, given_body):
    try:
        return repr(read(given_body))
    except ValueError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("name", ["reporter", "number"])
def test_a_report_of_texts_that_nobody_can_read_is_refused(name):
    said = {"reporter": NUMBER, "number": NUMBER, "at": 1.0, "category": "fraud", name: "138\x00"}
    with pytest.raises(ValueError, match="reporter and number must be printable texts"):
        schema.read_report(json.dumps(said).encode())


@given(bodies | spoilt | drawn_calls.map(wire.call_to_json))
def test_a_body_is_read_as_the_wire_reads_it(said):
    assert outcome(schema.read_call, said) == outcome(wire.call_from_json, said)


@pytest.mark.parametrize("said", [
    b'{"start":1,"caller":"a","callee":"b","caller":"c"}', b'{"start" : 1,"caller":"a","callee":"b","caller" :"c"}',
    b'{"start":1,"caller":"a\\u0000","callee":"b"}', b'{"start":1e400,"caller":"a","callee":"b"}',
    b'{"start":1,"caller":"a","callee":"b","trunk":"\\":"}', b'{"start":1,"caller":"\\ud800","callee":"b"}',
    b' {"start":1,"caller":"a","callee":"b"} ', b'{"start":1,"caller":"a","callee":"b"}x',
    b'\xef\xbb\xbf{"start":1,"caller":"a","callee":"b"}', b'{"start":true,"caller":"a","callee":"b"}',
    b'{"start":18446744073709551616,"caller":"a","callee":"b"}', b'{"start":-0.0,"caller":"a","callee":"b"}',
    b" " * 17_000 + b'{"start":1,"caller":"a","callee":"b"}', *SAID,
])  # fmt: skip
def test_odd_bodies_are_read_as_the_wire_reads_them(said):
    assert outcome(schema.read_call, said) == outcome(wire.call_from_json, said)


@given(verdicts)
def test_a_verdict_is_written_as_the_wire_reads_it(verdict):
    read = wire.verdict_from_json(msgspec.json.encode(verdict))
    assert repr(read) == repr(wire.verdict_from_json(wire.verdict_to_json(verdict)))


def test_the_document_is_of_the_fields_of_the_wire():
    names = lambda kind: [field.name for field in msgspec.structs.fields(kind)]
    assert names(schema.CallIn) == list(CALL_COLUMNS) == [field.name for field in dataclasses.fields(Call)]
    assert names(schema.VerdictOut) == [field.name for field in dataclasses.fields(Verdict)]
    assert names(schema.ReasonOut) == [field.name for field in dataclasses.fields(Reason)]


def test_the_page_may_run_its_own_script_and_nothing_else(running):
    connection = running.connect()
    connection.request("GET", schema.PAGE)
    answer = connection.getresponse()
    policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    connection.close()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert not re.search(r"\son\w+=|style=", page)
    assert app._policy(page) == policy


def test_kamailio_asks_the_service(tmp_path):
    """The route script beside a real service: a block, a label, and what became of the call."""
    keys = services.files(tmp_path / "s", 'certified = "block"\nwatch = "label"\n', **everything_reached())
    phone = kamailios.Phone()
    with services.Process(tmp_path / "s") as service:
        defines = {"SCORER": f'"{service.url}"', "API_KEY": f'"{keys["score"]}"', "DEADLINE": 1000}
        with kamailios.Kamailio("http.cfg", phone.port, tmp_path, **defines) as proxy:
            caller = kamailios.Caller(proxy.port)
            assert caller.call(NUMBER, "+8613900139000")[1].startswith(b"SIP/2.0 603 Network Blocked")
            assert caller.call("+862887654321", "+8613900139000")[1].startswith(b"SIP/2.0 200")
            deadline = time.monotonic() + 10
            while service.status(keys["admin"])["counts"]["ends"] < 1:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            caller.socket.close()
        status = service.status(keys["admin"])
    phone.close()
    assert (status["counts"]["attempts"], status["counts"]["faults"]) == (2, 0)
    assert status["actions"] == {"block": 1, "label": 1}
    assert any(b"confidence=" in message for message in phone.got)


def test_what_requests_leave_is_freed_without_a_look_at_all_objects(inside, keys):
    """Else a service that never takes that look (`pauses.shorten_pauses`) would grow."""

    def ask_in_every_way(service):
        for each in range(20):
            with contextlib.closing(service.connect()) as connection:
                for path, body in ((wire.SCORE, attempt(each)), (wire.OBSERVE, b'{"x":'), ("/nothing", b"")):
                    over(connection, "POST", path, keys["all"], body)
                for path in (schema.PAGE, schema.STATUS, schema.METRICS, schema.LIVE):
                    over(connection, "GET", path, keys["all"])
                over(connection, "GET", schema.STATUS, "wrong")
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(b"POST /v1/score HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")  # and hangs up

    def attempt(each):
        return json.dumps({"start": time.time(), "caller": f"+86138{each:08}", "callee": NUMBER}).encode()

    with inside() as service:
        ask_in_every_way(service)
        time.sleep(0.1)
        gc.collect()
        gc.disable()
        try:
            ask_in_every_way(service)
            time.sleep(0.1)
            left = gc.collect()
        finally:
            gc.enable()
    assert left < 40, "less than one object for each two connections"


def test_a_head_without_a_body_is_not_held_back(running):
    """An answer's head waits for its body, to go in one packet with it; that of HEAD has none, nor has 100."""
    with contextlib.closing(running.connect(timeout=5)) as connection:
        connection.request("HEAD", schema.LIVE)
        assert connection.getresponse().status == 200
    ask = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    both = b"HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(both)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 2 or not answers.endswith(b"}"):
            answers += connection.recv(4096)
        connection.sendall(ask)
        assert connection.recv(4096).startswith((b"HTTP/1.1 100", b"HTTP/1.1 401"))
