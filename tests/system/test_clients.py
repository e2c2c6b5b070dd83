"""What clients may do to a service: send too much, too slowly, too often, or what nobody may read."""

import contextlib
import gc
import json
import logging
import re
import socket
import sys
import time
from collections import deque

import pytest

from callsieve.serving.http import protocol, schema, wire
from callsieve.serving.live.gc_pauses import look_at_young_objects, shorten_pauses
from tests.serving.http.test_schema import SAID
from tests.support import http_service, real_bundle
from tests.support.http_service import NUMBER, call_json, send_request

HEAD = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(protocol, "PATIENCE", 0.3)


@pytest.mark.source("L37", by="serving/http/protocol.py")
@pytest.mark.usefixtures("impatient")
def test_a_slow_client_is_hung_up_on_and_delays_nobody(inside, keys):
    with inside() as service:
        slow = []
        for sent in (b"", b"POST /v1", HEAD[:40], HEAD, HEAD + b'{"start":', b"\x00" * 10) * 5:
            slow.append(socket.create_connection(("127.0.0.1", service.port)))
            slow[-1].sendall(sent.replace(b"%b", keys["score"].encode()))
            slow[-1].settimeout(20)
        assert service.post(wire.SCORE, call_json(), keys["score"])[0] == 200
        for each in slow:
            while each.recv(1000):
                pass  # it may be told why
            each.close()
        connection = service.connect()
        for _ in range(3):  # one that asks now and then is not slow
            assert send_request(connection, "POST", wire.SCORE, keys["score"], call_json())[0] == 200
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
        assert service.post(wire.SCORE, call_json(), keys["score"])[0] == 200


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
    assert running.post(wire.SCORE, call_json(), keys["score"])[0] == 200


def test_a_key_has_a_rate(tmp_path):
    http_service.write_service_files(tmp_path / "s")
    slow = http_service.add_key(tmp_path / "s" / "api.keys", "slow", ["score"], rate=3)
    with http_service.ServiceProcess(tmp_path / "s") as service:
        codes = [service.post(wire.SCORE, call_json(), slow)[0] for _ in range(8)]
    assert codes[:3] == [200] * 3
    assert 429 in codes


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
        said = {"reporter": NUMBER, "number": NUMBER, "at": real_bundle.START, "category": "fraud"}
        failed = [service.post(path, call_json(), keys["all"]) for path in (wire.SCORE, wire.OBSERVE)]
        failed.append(service.post(schema.REPORT, json.dumps(said).encode(), keys["all"]))
        monkeypatch.undo()
    assert failed == [(500, b'{"error":"the service failed"}')] * 3
    assert {code for code, _ in answers} == {400, 401, 404, 405}
    written = caplog.text + "".join(capfd.readouterr()) + "".join(repr(record.__dict__) for record in caplog.records)
    assert "a request failed: RuntimeError" in written
    for text in (written, *(answer.decode("latin-1") for _, answer in answers)):
        assert "0138000" not in re.sub(r"[\s-]", "", text)


def test_young_objects_stay_few_once_as_many_are_freed_as_are_made():
    """What is remembered is full: each answer takes the place of an old one."""
    remembered = deque(([each] for each in range(20_000)), maxlen=20_000)
    before = gc.get_threshold(), sys.getswitchinterval()
    try:
        shorten_pauses()
        for each in range(10_000):
            remembered.append([each])
            look_at_young_objects()
        young = sum(type(one) is list for generation in (0, 1) for one in gc.get_objects(generation))
    finally:
        gc.unfreeze()
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
    assert young < 200


def test_what_requests_leave_is_freed_without_a_look_at_all_objects(inside, keys):
    """Else a service that never takes that look (`pauses.shorten_pauses`) would grow."""

    def ask_in_every_way(service):
        for each in range(20):
            with contextlib.closing(service.connect()) as connection:
                for path, body in ((wire.SCORE, attempt(each)), (wire.OBSERVE, b'{"x":'), ("/nothing", b"")):
                    send_request(connection, "POST", path, keys["all"], body)
                for path in (schema.PAGE, schema.STATUS, schema.METRICS, schema.LIVE):
                    send_request(connection, "GET", path, keys["all"])
                send_request(connection, "GET", schema.STATUS, "wrong")
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
