"""The service survives hostile and clumsy clients: large, slow, frequent, partial and invalid requests."""

import contextlib
import gc
import json
import logging
import random
import re
import socket
import sys
import threading
import time
from collections import deque
from itertools import pairwise

import pytest

from callsieve.serving.http import connections, endpoint, schema, server
from callsieve.serving.http.api_keys import ApiKeys
from callsieve.serving.http.endpoint import CallHead
from callsieve.serving.live.gc_pauses import look_at_young_objects, shorten_pauses
from tests.serving.http.test_schema import ODD_BODIES
from tests.support import real_bundle
from tests.support.errors import raising
from tests.support.http_service import NUMBER, call_json, send_request

HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def post(key, body, *lines, path=schema.SCORE, version="1.1"):
    """Returns the bytes of a request."""
    head = [f"POST {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {key}", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers_to(service, *pieces, count=1):
    """Sends requests in pieces; returns the answers and whether the connection stays open."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01 if piece is not pieces[-1] else 0)
        file = connection.makefile("rb")
        answers = [read_answer(file) for _ in range(count)]
        try:
            connection.sendall(HEALTH)
            return answers, connection.recv(1) != b""
        except ConnectionError:
            return answers, False


def read_answer(file):
    """Returns status, headers without the date, and the JSON body; of a verdict only its keys, as values differ."""
    status, headers = int(file.readline().split()[1]), []
    while (line := file.readline()) != b"\r\n":
        headers.append(line)
    size = next(int(line.split()[1]) for line in headers if line.lower().startswith(b"content-length"))
    body = json.loads(file.read(size))
    stable = sorted(line for line in headers if not re.match(b"date|content-length", line, re.IGNORECASE))
    return status, stable, sorted(body) if "action" in body else body


@pytest.mark.parametrize("case", ["good", "bad body", "unknown key", "no scope", "long body", "no body", "observe"])
def test_a_request_in_pieces_is_answered_like_a_whole_one(service, keys, case):
    key = {"unknown key": "cs_x", "no scope": keys["report"]}.get(case, keys["score"])
    body = {"bad body": b"{", "long body": b" " * (schema.MAX_BODY + 1), "no body": b""}.get(case, call_json())
    request = post(key, body, path=schema.OBSERVE if case == "observe" else schema.SCORE)
    head = len(request) - len(body)
    whole = answers_to(service, request)
    for cuts in ([10], [head - 2], [head], [head + 1], [10, head - 2, len(request) - 1]):
        if cuts[-1] < len(request):
            pieces = [request[begin:end] for begin, end in pairwise([0, *cuts, len(request)])]
            assert answers_to(service, *pieces) == whole
    assert whole[1] == (case not in ("unknown key", "long body"))
    codes = {"bad body": 400, "no body": 400, "unknown key": 401, "no scope": 403, "long body": 413}
    assert whole[0][0][0] == codes.get(case, 200)


@pytest.mark.parametrize("seed", range(4))
def test_requests_on_one_connection_are_answered_like_each_on_its_own(service, keys, seed):
    """A connection remembers heads, so equal and nearly equal heads follow one another, in whole and in pieces."""
    draw, call = random.Random(seed), call_json()
    score = post(keys["score"], call)
    chunked = post(keys["score"], b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    short = call.replace(NUMBER.encode(), b"110")  # as many bytes less as the chunks add
    kinds = {
        "same": score,
        "other body": post(keys["score"], call.replace(b"139", b"137")),
        "bad body": post(keys["score"], b"{" * len(call)),
        "longer body": post(keys["score"], call + b" "),
        "no body": post(keys["score"], b""),
        "request as body": post(keys["report"], score),
        "chunked": chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(call), call),
        "shorter chunks": chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(short), short),
        "line ends before": b"\r\n\r\n" + score,
        "observe": post(keys["score"], call, path=schema.OBSERVE),
        "no scope": post(keys["report"], call),
        "other path": HEALTH,
        "upgrade": post(keys["score"], call, "Connection: Upgrade", "Upgrade: h2c"),
    }
    alone = {name: answers_to(service, request)[0][0] for name, request in kinds.items()}
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = connection.makefile("rb")
        for name in ("same", *draw.choices(list(kinds), k=60)):
            request = kinds[name]
            head = request.index(b"Content-Length") if b"Content-Length" in request else 1
            cut = draw.choice([0, 0, head, request.find(b"\r\n\r\n", head) + 4, draw.randrange(len(request))])
            for piece in filter(None, (request[:cut], request[cut:])):
                connection.sendall(piece)
                time.sleep(0.002)
            assert read_answer(file) == alone[name], name


def test_bytes_between_requests_are_not_remembered_as_a_head(service, keys):
    refused, score = post(keys["report"], b"x" * 30), post(keys["score"], call_json())
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        file = connection.makefile("rb")
        for piece, status in ((refused[:-10], 403), (refused[-10:] + score, 200)):
            connection.sendall(piece)
            assert read_answer(file)[0] == status
        connection.sendall(refused[-10:] + score)
        assert file.readline().startswith(b"HTTP/1.1 400")


def test_a_head_that_came_before_is_not_parsed_again_and_its_key_can_be_withdrawn(make_service, keys, monkeypatch):
    heads = []
    monkeypatch.setattr(connections, "CallHead", lambda *a, **k: heads.append(CallHead(*a, **k)) or heads[-1])
    with make_service() as running, socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        file = connection.makefile("rb")
        for _ in range(10):
            connection.sendall(post(keys["score"], call_json()))
            assert read_answer(file)[0] == 200
        assert len(heads) == 1
        running.service.keys = ApiKeys([])
        connection.sendall(post(keys["score"], call_json()))
        assert read_answer(file)[0] == 401


def test_pipelined_requests_are_answered_in_order(service, keys):
    score = post(keys["score"], call_json())
    answers, is_open = answers_to(service, HEALTH + score + score + HEALTH + score[:-5], score[-5:] + score, count=6)
    assert [status for status, _, _ in answers] == [200] * 6
    assert ["ok" in body for _, _, body in answers] == [True, False, False, True, False, False]
    assert is_open


@pytest.mark.parametrize("kind", ["short", "slow", "with a body"])
def test_every_pipelined_request_is_answered(service, keys, kind):
    status = HEALTH.replace(schema.LIVE.encode(), schema.STATUS.encode())[:-2]
    status += f"Authorization: Bearer {keys['admin']}\r\n\r\n".encode()
    request = {"slow": status, "with a body": post(keys["score"], b"{", path=schema.REPORT)}.get(kind, HEALTH)
    many = 2000 if kind == "short" else 200
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        sending = threading.Thread(target=connection.sendall, args=(request * many,))
        sending.start()
        file = connection.makefile("rb")
        codes = {read_answer(file)[0] for _ in range(many)}
        sending.join()
    assert codes == ({403} if kind == "with a body" else {200})


def test_connection_options_of_http_are_followed(service, keys):
    ordinary = answers_to(service, post(keys["score"], call_json()))
    (answer,), is_open = answers_to(service, post(keys["score"], call_json(), "Connection: close"))
    assert (answer[0], answer[2], is_open) == (200, ordinary[0][0][2], False)
    (answer,), is_open = answers_to(service, post(keys["score"], call_json(), version="1.0"))
    assert (answer[0], is_open) == (200, False)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(post(keys["score"], call_json(), "Expect: 100-continue"))
        assert connection.recv(25).startswith(b"HTTP/1.1 ")
    assert answers_to(service, post(keys["score"], call_json(), path=f"{schema.SCORE}?x=1")) == ordinary
    for extra in ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA", "Upgrade: h2c"):
        upgrade = post(keys["score"], call_json(), extra)
        assert answers_to(service, upgrade[:-5], upgrade[-5:] + upgrade, count=2) == (ordinary[0] * 2, True)
    status, _, _ = answers_to(service, post(keys["score"], call_json()).replace(b"POST", b"PUT", 1))[0][0]
    assert status == 405


@pytest.mark.source("L37", by="serving/http/endpoint.py")
def test_a_slow_body_is_refused_and_delays_no_other_client(make_service, keys, monkeypatch):
    monkeypatch.setattr(endpoint, "BODY_SECONDS", 0.3)
    with make_service() as service:
        head = post(keys["score"], b"").replace(b"Content-Length: 0", b"Content-Length: 100")
        slow = []
        for start in (b"", b'{"start":') * 10:
            slow.append(socket.create_connection(("127.0.0.1", service.port)))
            slow[-1].sendall(head + start)
            slow[-1].settimeout(20)
        assert service.post(schema.SCORE, call_json(), keys["score"])[0] == 200
        for client in slow:
            answer = client.makefile("rb").read()  # to the end: the service closes the connection
            assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within" in answer
            client.close()
        connection = service.connect()
        for _ in range(3):  # a client that pauses between requests is not slow
            assert send_request(connection, "POST", schema.SCORE, keys["score"], call_json())[0] == 200
            time.sleep(0.4)
        connection.close()


def test_an_idle_connection_is_closed(make_service, keys, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 0.5)
    with make_service() as service, socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        file = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(post(keys["score"], call_json()))
            assert read_answer(file)[0] == 200
            time.sleep(0.25)
        assert connection.recv(1) == b""
        assert service.get(schema.LIVE)[0] == 200


def test_bodies_are_bounded(service, keys):
    connection = service.connect()
    for size in (schema.MAX_BODY, schema.MAX_BODY + 1):
        code, answer = service.post(schema.SCORE, b" " * size, keys["score"])
        assert code == (400 if size == schema.MAX_BODY else 413)
        assert len(answer) < 200
    with contextlib.suppress(ConnectionError):  # the service may close the connection before it has read all of this
        assert service.post(schema.SCORE, b" " * 10_000_000, keys["score"])[0] == 413
    connection.putrequest("POST", schema.SCORE)
    connection.putheader("Authorization", f"Bearer {keys['score']}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(5):
        connection.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
    assert connection.getresponse().status == 413
    connection.close()
    assert service.post(schema.SCORE, call_json(), keys["score"])[0] == 200


def test_bytes_that_are_not_http_are_refused_and_logged_once_a_minute(make_service, caplog):
    """Clients without a key can send any amount of them: the log must not grow with each."""
    with make_service() as service:
        upgrade = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        for lines in (b"13800138000\r\n\r\n", upgrade):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
                    connection.sendall(lines)
                    assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 200")
    assert len(caplog.records) <= 3 and "1380013" not in caplog.text


def test_errors_that_clients_cause_are_logged_once_a_minute_by_exception():
    """A client that goes away before its answer fails a request of uvicorn, with a trace each time."""
    repeats, passed = server.RepeatFilter(), []
    for error in (RuntimeError(), RuntimeError(), OSError(), None, None):
        line = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "Exception in ASGI application\n", (), None)
        line.exc_info = None if error is None else (type(error), error, None)
        passed.append(repeats.filter(line))
    assert passed == [True, False, True, True, False]


def test_an_invalid_chunk_is_refused_once(service, keys):
    head = post(keys["score"], b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head + b"no size\r\n")
        answers = connection.makefile("rb").read()
    assert answers.startswith(b"HTTP/1.1 400") and answers.count(b"HTTP/1.1") == 1


def test_no_number_is_in_an_answer_or_in_the_log(make_service, keys, caplog, monkeypatch, capfd):
    caplog.set_level(logging.DEBUG)

    fail = raising(RuntimeError(NUMBER))
    with make_service() as service:
        answers = []
        for key in (keys["all"], NUMBER, ""):
            for path in (schema.SCORE, schema.OBSERVE, schema.REPORT, f"/{NUMBER}", f"/v1/explain?case={NUMBER}"):
                answers += [service.post(path, body, key) for body in ODD_BODIES]
            answers.append(service.get(f"/v1/explain?case={NUMBER}", key))
            answers.append(service.get(f"/v1/explain?{NUMBER}=1", key))
        for broken in (b"GET 13800138000\r\n\r\n", b"13800138000 / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", service.port)) as client:
                client.sendall(broken)
                answers.append((400, client.recv(4000)))
        live = service.service.live
        monkeypatch.setattr(live, "end", fail)
        monkeypatch.setattr(live, "attempt", fail)
        monkeypatch.setattr(live, "add_complaint", fail)
        complaint = {"reporter": NUMBER, "number": NUMBER, "at": real_bundle.START, "category": "fraud"}
        failed = [service.post(path, call_json(), keys["all"]) for path in (schema.SCORE, schema.OBSERVE)]
        failed.append(service.post(schema.REPORT, json.dumps(complaint).encode(), keys["all"]))
        monkeypatch.undo()
    assert failed == [(500, b'{"error":"the service failed"}')] * 3
    assert {code for code, _ in answers} == {400, 401, 404, 405}
    output = caplog.text + "".join(capfd.readouterr()) + "".join(repr(record.__dict__) for record in caplog.records)
    assert "a request to /v1/score failed: RuntimeError errors.py:" in output
    for text in (output, *(answer.decode("latin-1") for _, answer in answers)):
        assert "0138000" not in re.sub(r"[\s-]", "", text)


def test_few_young_objects_exist_while_old_ones_are_replaced():
    """A full memory: each answer replaces an old one."""
    remembered = deque(([number] for number in range(20_000)), maxlen=20_000)
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        shorten_pauses()
        for number in range(10_000):
            remembered.append([number])
            look_at_young_objects()
        young = sum(type(value) is list for generation in (0, 1) for value in gc.get_objects(generation))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
    assert young < 200


def test_requests_leave_no_objects_that_only_a_full_collection_frees(make_service, keys):
    """The service never makes a full collection (`gc_pauses.shorten_pauses`): it would grow."""

    def send_all_kinds(service):
        for number in range(20):
            with contextlib.closing(service.connect()) as connection:
                requests = ((schema.SCORE, attempt(number)), (schema.OBSERVE, b'{"x":'), ("/nothing", b""))
                for path, body in requests:
                    send_request(connection, "POST", path, keys["all"], body)
                for path in (schema.PAGE, schema.STATUS, schema.METRICS, schema.LIVE):
                    send_request(connection, "GET", path, keys["all"])
                send_request(connection, "GET", schema.STATUS, "wrong")
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")  # and hangs up

    def attempt(number):
        return json.dumps({"start": time.time(), "caller": f"+86138{number:08}", "callee": NUMBER}).encode()

    with make_service() as service:
        send_all_kinds(service)
        time.sleep(0.1)
        gc.collect()
        gc.disable()
        try:
            send_all_kinds(service)
            time.sleep(0.1)
            uncollected = gc.collect()
        finally:
            gc.enable()
    assert uncollected < 40, "less than one object for each two connections"
