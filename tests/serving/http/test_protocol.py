"""HTTP as it comes over a socket: what comes whole is answered at once, and as what comes in pieces is."""

import contextlib
import json
import re
import socket
import threading
import time
from collections import deque
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest

from callsieve.features.intake.intake import Intake
from callsieve.serving.http import protocol, request_queue, schema, wire
from callsieve.serving.live.live import Live
from callsieve.serving.live.swap import Swap
from callsieve.serving.rules.policy import Policy
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.waiting import wait_until

CALL = json.dumps({"start": real_bundle.START, "caller": "+8613800138000", "callee": "13900139000"}).encode()
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def service(service_folder, keys):
    """A service in this process."""
    assert keys
    judge = Swap(trusted=small.TRUSTED, policy=Policy("test", {}))
    judge.load(service_folder / "bundle")
    begin = lambda: Live(
        judge, Intake(real_bundle.NUMBER_KEY), service_folder / "state", deadline=10, **http_service.CAPACITY
    )
    with http_service.ServiceThread(service_folder, begin, judge) as service:
        yield service


@pytest.fixture
def at_once(monkeypatch):
    """Counts what is answered at once."""
    done, answer = [], protocol.Protocol._answer
    monkeypatch.setattr(protocol.Protocol, "_answer", lambda self, asked: done.append(1) or answer(self, asked))
    return done


def asking(key, body, *more, path=wire.SCORE, version="1.1"):
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {key}", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers_to(service, *pieces, count=1):
    """What is answered to a request in pieces, and whether the connection stays open."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01 if piece is not pieces[-1] else 0)
        file = connection.makefile("rb")
        found = [one_answer(file) for _ in range(count)]
        try:
            connection.sendall(HEALTH)
            return found, connection.recv(1) != b""
        except ConnectionError:
            return found, False


def one_answer(file):
    """Status, headers but for the date, and the body; of a verdict its names alone, for the next one tells more."""
    status, headers = int(file.readline().split()[1]), []
    while (line := file.readline()) != b"\r\n":
        headers.append(line)
    size = next(int(line.split()[1]) for line in headers if line.lower().startswith(b"content-length"))
    body = file.read(size)
    kept = sorted(line for line in headers if not re.match(b"date|content-length", line, re.IGNORECASE))
    said = json.loads(body)
    return status, kept, sorted(said) if "action" in said else said


@pytest.mark.parametrize("case", ["good", "bad body", "unknown key", "no scope", "long body", "no body", "observe"])
def test_a_request_in_pieces_is_answered_as_a_whole_one(service, keys, at_once, case):
    key = {"unknown key": "cs_x", "no scope": keys["report"]}.get(case, keys["score"])
    body = {"bad body": b"{", "long body": b" " * (wire.MAX_BODY + 1), "no body": b""}.get(case, CALL)
    request = asking(key, body, path=wire.OBSERVE if case == "observe" else wire.SCORE)
    head = len(request) - len(body)
    whole = answers_to(service, request)
    assert len(at_once) == 1
    for cuts in ([10], [head - 2], [head], [head + 1], [10, head - 2, len(request) - 1]):
        if cuts[-1] < len(request):
            places = [0, *cuts, len(request)]
            pieces = [request[begin:end] for begin, end in pairwise(places)]
            assert answers_to(service, *pieces) == whole
    open_after = case not in ("unknown key", "long body")
    assert whole[1] == open_after
    assert whole[0][0][0] == {
        "bad body": 400,
        "no body": 400,
        "unknown key": 401,
        "no scope": 403,
        "long body": 413,
    }.get(case, 200)


def test_requests_one_after_the_other_are_answered_in_their_order(service, keys, at_once):
    ask = asking(keys["score"], CALL)
    found, is_open = answers_to(service, HEALTH + ask + ask + HEALTH + ask[:-5], ask[-5:] + ask, count=6)
    assert [status for status, _, _ in found] == [200] * 6
    assert ["ok" in said for _, _, said in found] == [True, False, False, True, False, False]
    assert is_open
    found, _ = answers_to(service, ask + ask + HEALTH, ask, count=4)
    assert ["ok" in said for _, _, said in found] == [False, False, True, False]
    assert at_once


def test_who_asks_again_at_once_waits_for_those_who_came_before():
    waiting, looks, told = request_queue.Turns(), deque(), []

    def asking(name, again):
        def take_turn():
            told.append(name)
            if again:
                looks.append(partial(waiting.wait, asking(f"{name}'", False), loop))  # what the next look finds

        return SimpleNamespace(take_turn=take_turn)

    loop = SimpleNamespace(call_soon=lambda work, *given: looks.append(partial(work, *given)))
    for name in "abcdef":
        waiting.wait(asking(name, True), loop)
    looks.popleft()()
    assert len(told) == request_queue.FEW
    while looks:
        looks.popleft()()
    assert told == ["a", "b", "c", "d", "e", "f", "a'", "b'", "c'", "d'", "e'", "f'"]


@pytest.mark.parametrize("leaves", ["client", "server"])
def test_a_question_that_waits_for_its_turn_is_heard_whoever_leaves(service, keys, monkeypatch, leaves):
    held, take_turn = [], protocol.Protocol.take_turn
    monkeypatch.setattr(request_queue.Turns, "wait", lambda _self, one, loop: held.append((one, loop)))
    before = service.service.live.counts["attempts"]
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(asking(keys["score"], CALL))
        wait_until(lambda: held)
        ((one, loop),) = held
        if leaves == "server":
            loop.call_soon_threadsafe(one.shutdown)
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    if leaves == "client":
        wait_until(lambda: one not in one.connections)
        loop.call_soon_threadsafe(take_turn, one)
    wait_until(lambda: service.service.live.counts["attempts"] == before + 1)


def test_what_asks_for_more_than_an_answer_goes_the_long_way(service, keys, at_once):
    ordinary = answers_to(service, asking(keys["score"], CALL))
    del at_once[:]
    (answer,), is_open = answers_to(service, asking(keys["score"], CALL, "Connection: close"))
    assert (answer[0], answer[2], is_open) == (200, ordinary[0][0][2], False)
    (answer,), is_open = answers_to(service, asking(keys["score"], CALL, version="1.0"))
    assert (answer[0], is_open) == (200, False)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(asking(keys["score"], CALL, "Expect: 100-continue"))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert answers_to(service, asking(keys["score"], CALL, path=f"{wire.SCORE}?x=1")) == ordinary
    status, _, _ = answers_to(service, asking(keys["score"], CALL).replace(b"POST", b"PUT", 1))[0][0]
    assert status == 405
    assert not at_once


def test_who_waits_for_a_long_answer_is_not_hung_up_on(service, keys, monkeypatch):
    monkeypatch.setattr(protocol, "PATIENCE", 0.05)
    monkeypatch.setattr(service.service.live, "explain", lambda _case: time.sleep(0.3))
    assert service.get(f"{schema.EXPLAIN}?case={16 * '0'}", keys["explain"])[0] == 404


@pytest.mark.parametrize("last", [b"", b"no request\r\n\r\n"])
def test_who_takes_no_answer_is_hung_up_on(service, monkeypatch, last):
    """Also when all is said, and the rest waits to be taken."""
    monkeypatch.setattr(protocol, "PATIENCE", 0.3)
    wait_until(lambda: not service.server.server_state.connections)
    ended, lost = threading.Event(), protocol.Protocol.connection_lost
    monkeypatch.setattr(protocol.Protocol, "connection_lost", lambda self, why: (lost(self, why), ended.set()))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 900 + last)
        assert ended.wait(30)


@pytest.mark.parametrize("kind", ["short", "slow", "with a body", "cut"])
def test_all_that_is_asked_in_one_piece_is_answered(service, keys, at_once, kind):
    """However much that is: a limit is there for one head, not for those of many questions."""
    ask = {"slow": f"GET {schema.STATUS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys['admin']}\r\n\r\n".encode(),
           "with a body": asking(keys["score"], b"{", path=schema.REPORT)}.get(kind, HEALTH)  # fmt: skip
    many = 6000 if ask is HEALTH else 1000
    pieces = (
        [ask * many]
        if kind != "cut"
        else [(ask * many)[begin : begin + 65_521] for begin in range(0, many * len(ask), 65_521)]
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        sending = threading.Thread(target=lambda: [connection.sendall(piece) for piece in pieces])
        sending.start()
        file = connection.makefile("rb")
        found = {one_answer(file)[0] for _ in range(many)}
        sending.join()
    assert found == ({403} if kind == "with a body" else {200}) and not at_once


def test_a_client_that_only_asks_fills_no_memory(service, monkeypatch):
    """What waits is bytes: all else that a question takes is made when its turn is near."""
    most, begun = [], protocol.Protocol.on_response_complete
    monkeypatch.setattr(
        protocol.Protocol, "on_response_complete", lambda self: most.append(len(self.pipeline)) or begun(self)
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        file = connection.makefile("rb")
        sending = threading.Thread(target=connection.sendall, args=(b"GET /x HTTP/1.1\r\n\r\n" * 20_000,))
        sending.start()
        assert all(one_answer(file)[0] == 404 for _ in range(20_000))
        sending.join()
    assert 0 < max(most) < 2000


def test_a_long_head_is_cut_and_one_within_bounds_is_not(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        file = connection.makefile("rb")
        for size in (protocol.HEAD - 1000, 8 * protocol.HEAD):
            connection.sendall(HEALTH[:-2] + b"X-More: " + b"x" * size + b"\r\n\r\n")
            if size < protocol.HEAD:
                assert one_answer(file)[0] == 200
        with contextlib.suppress(ConnectionError):
            assert file.read() == b""


def test_what_is_no_http_is_counted_and_told_once_a_minute(service, keys, caplog):
    """Who has no key can send as much of it as they like: no log may grow by each."""
    before = service.service.answers[400]
    for lines in (b"13800138000\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
                connection.sendall(lines)
                assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 200")
    assert service.service.answers[400] == before + 20
    assert (
        f'callsieve_http_answers_total{{code="400"}} {before + 20}'
        in service.get(schema.METRICS, keys["admin"])[1].decode()
    )
    assert len(caplog.records) <= 3 and "1380013" not in caplog.text


def test_a_body_that_is_none_after_a_head_is_refused_once(service, keys):
    head = asking(keys["score"], b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head + b"no size\r\n")
        answers = connection.makefile("rb").read()
    assert answers.startswith(b"HTTP/1.1 400") and answers.count(b"HTTP/1.1") == 1


def test_a_connection_that_was_answered_at_once_is_closed_when_it_is_idle(service, keys, at_once, monkeypatch):
    monkeypatch.setattr(protocol, "PATIENCE", 0.2)
    monkeypatch.setattr(service.server.config, "timeout_keep_alive", 0.5)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        file = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(asking(keys["score"], CALL))
            assert one_answer(file)[0] == 200
            time.sleep(0.25)  # longer than a request may take, and not idle
        assert connection.recv(1) == b""
    assert len(at_once) == 3
    assert service.get(schema.LIVE)[0] == 200
