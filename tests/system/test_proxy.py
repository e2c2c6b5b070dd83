"""Two real processes behind a real HAProxy with the shipped configuration: who gets which call, and who dies."""

import http.client
import json
import re
import resource
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import msgspec
import pytest

from callsieve.serving.http import schema
from callsieve.serving.http.answers import VerdictOut
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import ReadCounts, read_journal
from tests.support import real_bundle
from tests.support.http_service import ServiceProcess
from tests.support.servers.haproxy import CONFIGURATION, Proxy
from tests.support.waiting import wait_until

PROCESS = "callsieve-process"
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def scorers(service_folder, keys):
    """Two processes of the same files, each with a state folder of its own."""
    assert keys
    with start_scorer(service_folder, "one") as first, start_scorer(service_folder, "two") as second:
        yield {"one": first, "two": second}


def start_scorer(folder, name, *more):
    return ServiceProcess(folder, "--state", folder / name, *more)


@pytest.fixture(scope="module")
def proxy(scorers, tmp_path_factory):
    ports = {name: scorer.port for name, scorer in scorers.items()}
    with Proxy(tmp_path_factory.mktemp("proxy"), ports) as proxy:
        wait_until(lambda: proxy.get(schema.READY)[0] == 200)
        yield proxy


def ask(connection, path, key, body=None):
    """Sends a request; returns status, the name of the process that answered, and the body."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers.get(PROCESS), answer.read()


def call_of(caller, callee="13900139000", **more):
    return json.dumps({"start": real_bundle.START, "caller": caller, "callee": callee} | more).encode()


def test_the_same_caller_always_reaches_the_same_process(scorers, proxy, keys):
    connection, processes, cases = proxy.connect(), {}, {}
    for line in range(30):
        number = f"138{line * 3571:08}"
        for form in (number, f"+86{number}", f"0086 {number}"):
            code, process, body = ask(connection, schema.SCORE, keys["score"], call_of(form))
            assert code == 200 and processes.setdefault(number, process) == process
        cases[json.loads(body)["case"]] = process
        over = {"ring": 3.0, "talk": 5.0, "outcome": "answered"}
        assert ask(connection, schema.OBSERVE, keys["score"], call_of(number, **over))[:2] == (200, process)
    assert set(processes.values()) == set(NAMES)
    # The second report of a call goes to the process of the called number.
    for number, process in processes.items():
        body = call_of("13700137000", number, ring=3.0, talk=0.0)
        assert ask(connection, f"{schema.OBSERVE}?by=callee", keys["score"], body)[:2] == (200, process)
    # A case is found whichever process has it.
    for case in cases:
        assert ask(connection, f"{schema.EXPLAIN}?case={case}", keys["explain"])[0] == 200
    assert ask(connection, f"{schema.EXPLAIN}?case={'0' * 16}", keys["explain"])[0] == 404
    complaint = {"reporter": "13900139000", "number": "13800138000", "at": real_bundle.START, "category": "fraud"}
    assert ask(connection, schema.REPORT, keys["report"], json.dumps(complaint).encode())[0] == 200
    for path in (schema.METRICS, schema.STATUS, schema.RELOAD, schema.BATCH, schema.PAGE):
        assert proxy.get(path, keys["all"])[0] in (403, 404)
    connection.close()
    assert sum(scorer.status(keys["admin"])["counts"]["attempts"] for scorer in scorers.values()) == 90


def test_a_process_that_fills_its_history_gets_its_callers(scorers, service_folder, keys, tmp_path):
    policy = (service_folder / "policy.toml").read_text().replace("history_days = 0", "history_days = 7")
    (tmp_path / "week.toml").write_text(policy)
    with start_scorer(service_folder, "filling", "--policy", tmp_path / "week.toml") as filling:
        assert filling.get(schema.READY)[0] == 503
        ports = {"one": scorers["one"].port, "filling": filling.port}
        with Proxy(tmp_path, ports) as proxy, closing(proxy.connect()) as connection:
            time.sleep(2.5)  # the proxy takes every server as ready until three checks, 0.5 s apart, have failed
            score = lambda line: ask(connection, schema.SCORE, keys["score"], call_of(f"138{line * 3571:08}"))
            assert {score(line)[1] for line in range(30)} == set(ports)


def test_clients_that_do_not_read_keep_out_no_health_check_and_others_for_seconds(scorers, proxy, keys):
    """More of them than the proxy takes ask for large answers; the scorers log nothing."""
    unread, logged = [], len(scorers["one"].log_text())  # both scorers write to one file
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as clients:
        clients.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1200):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", proxy.port))
            unread.append(client)
        time.sleep(0.5)
        for client in unread:
            with suppress(OSError):
                client.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60)
        for path in (schema.LIVE, schema.READY) * 3:
            for way in (proxy.health, *scorers.values()):
                with closing(way.connect(timeout=5)) as connection:
                    assert ask(connection, path, "")[0] == 200
        with closing(proxy.connect(timeout=20)) as connection:
            assert ask(connection, schema.SCORE, keys["score"], call_of("13800138000"))[0] == 200
    assert not re.search(" (WARNING|ERROR) ", scorers["one"].log_text()[logged:])


def test_a_killed_process_loses_no_call_and_only_its_last_second_of_events(scorers, proxy, keys, service_folder):
    """While calls go on, a process dies: every call gets a verdict, and the other process answers for its callers."""
    age = lambda scorer: scorer.status(keys["admin"])["state"]["journal_age_seconds"]
    wait_until(lambda: not any(age(scorer) for scorer in scorers.values()))
    before = {name: stored(service_folder / name) for name in NAMES}
    answers, stop = [], threading.Event()

    def call_on(part):
        connection, line = proxy.connect(), part
        while not stop.is_set():
            call = call_of(f"136{line:08}")
            try:
                code, process, body = ask(connection, schema.SCORE, keys["score"], call)
            except http.client.IncompleteRead:  # it died between head and body: the client asks again
                connection.close()
                code, process, body = ask(connection, schema.SCORE, keys["score"], call)
            answers.append((time.monotonic(), code, process, json.loads(body)))
            line += 4
        connection.close()

    threads = [threading.Thread(target=call_on, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.3)
    scorers["one"].kill()
    killed = time.monotonic()
    time.sleep(0.7)
    stop.set()
    for thread in threads:
        thread.join()
    on_disk = stored(service_folder / "one") - before["one"]
    # Without any living process the proxy itself lets calls pass, and refuses the report of an event.
    scorers["two"].stop()
    connection = proxy.connect()
    wait_until(lambda: ask(connection, schema.SCORE, keys["score"], call_of("13800138000"))[0] == 200)
    last = ask(connection, schema.SCORE, keys["score"], call_of("13800138000"))
    refused = ask(connection, schema.OBSERVE, keys["score"], call_of("13800138000"))
    # A process that comes back gets its callers back.
    again = start_scorer(service_folder, "one", "--port", scorers["one"].port)
    again.port = scorers["one"].port
    with again:
        wait_until(lambda: ask(connection, schema.SCORE, keys["score"], call_of("13800138000"))[1] == "one")
        restored = again.status(keys["admin"])["state"]["restored_events"]
    connection.close()
    assert {code for _, code, _, _ in answers} == {200}
    assert {verdict["status"] for _, _, _, verdict in answers} == {"scored"}
    assert {process for at, _, process, _ in answers if at < killed} == set(NAMES)
    assert "one" not in [process for at, _, process, _ in answers if at > killed + 0.5]
    by_one = [at for at, _, process, _ in answers if process == "one"]
    assert 0 < sum(at < killed - 1.0 for at in by_one) <= on_disk <= len(by_one) + 4
    figures = {"answered": len(answers), "by the killed process": len(by_one), "events lost": len(by_one) - on_disk}
    print(f"\nkill one of two: {figures}")
    assert restored >= on_disk
    assert (last[0], last[1], json.loads(last[2])["action"]) == (200, None, "pass")
    assert refused[0] == 503 and json.loads(refused[2]).keys() == {"error"}


def stored(folder):
    return sum(1 for _ in read_journal(folder, CALLS, 0, ReadCounts()))


def test_the_answer_of_the_proxy_has_the_fields_of_a_verdict():
    text = CONFIGURATION.read_text().partition("status 200")[2].partition("'")[2].partition("'")[0]
    assert list(json.loads(text)) == list(VerdictOut.__struct_fields__)
    assert msgspec.json.decode(text, type=VerdictOut).action == "pass"
