"""Faults around a service, on real processes and disks: every call is answered, and every loss is counted."""

import contextlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from callsieve.serving.http import app, schema
from callsieve.serving.live.clock import SETTLED
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import ReadCounts, file_path, read_journal
from tests.support import http_service, live_states, real_bundle
from tests.support.http_service import call_to_json, send_request, verdict_from_json
from tests.support.live_states import attempt_of, begin, events, play, state
from tests.support.waiting import wait_until

STREAM = real_bundle.calls(1500)
# A small disk in a separate mount namespace, which can be full or read-only.
SMALL_DISK = (
    "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
    'mount -t tmpfs -o size=$SIZE none "$STATE" && echo 5 > "$STATE/epoch" && eval "$PREPARE" && exec "$@"', "sh",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "service"


@pytest.fixture
def keys(folder):
    return http_service.write_service_files(folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    bundle = tmp_path_factory.mktemp("bundle") / "bundle"
    real_bundle.write_bundle(bundle)
    return live_states.loaded(bundle, policy=http_service.STRICT_POLICY)


class Client:
    """Sends calls; has the verdicts, their moments, and the number of calls without an answer."""

    def __init__(self):
        self.moments, self.verdicts, self.unanswered = [], [], 0

    def send(self, connection, key, call):
        """Sends a call and records its answer."""
        try:
            code, answer = send_request(connection, "POST", schema.SCORE, key, call_to_json(attempt_of(call)))
            assert code == 200, answer
        except OSError:
            self.unanswered += 1
            return
        self.verdicts.append(verdict_from_json(answer))
        self.moments.append(time.monotonic())


def send_calls(service, key, calls, seconds=None):
    """Sends calls one after the other on one connection: all, or as many as fit into `seconds`."""
    client, ends = Client(), time.monotonic() + (seconds or 1e9)
    with contextlib.closing(service.connect()) as connection:
        for call in calls:
            if time.monotonic() > ends:
                break
            client.send(connection, key, call)
    return client


def lines(place):
    return sum(1 for _ in read_journal(place, CALLS, 0, ReadCounts()))


def test_a_killed_service_loses_at_most_the_last_second(folder, keys, judge, tmp_path):
    with http_service.ServiceProcess(folder) as service:
        began = time.monotonic()
        client = send_calls(service, keys["score"], STREAM, seconds=1.6)
        time.sleep(max(0.0, began + 1.6 - time.monotonic()))  # a fast machine is_live all of them within a second
        service.kill()
        killed = time.monotonic()
    with http_service.ServiceProcess(folder) as again:
        restored = int(again.status(keys["admin"])["state"]["restored_events"])
        after = send_calls(again, keys["score"], STREAM[-20:])
    safe = sum(moment < killed - 1.0 for moment in client.moments)
    assert 0 < safe <= restored <= len(client.verdicts)
    same = begin(judge, tmp_path / "same")
    play(same, [(0, call) for call in STREAM[:restored]])
    assert [verdict.raw for verdict in after.verdicts[:1]] == [same.attempt(attempt_of(STREAM[-20])).raw]
    same.close()


def test_a_stopped_service_loses_no_call(folder, keys):
    with http_service.ServiceProcess(folder) as service:
        client = send_calls(service, keys["score"], STREAM[:200])
        service.stop()
    assert lines(folder / "state") == len(client.verdicts) == 200


@pytest.fixture
def small_disk(folder, keys):
    """Makes a service whose state is on a separate small disk."""
    (folder / "state").mkdir()
    assert keys

    def make(prepare):
        os.environ |= {"STATE": str(folder / "state"), "SIZE": "128k", "PREPARE": prepare}
        try:
            return http_service.ServiceProcess(folder, wrapped=SMALL_DISK)
        finally:
            for name in ("STATE", "SIZE", "PREPARE"):
                del os.environ[name]

    return make


def test_a_full_disk_loses_no_event(folder, keys, small_disk):
    with small_disk('head -c 100k /dev/zero > "$STATE/ballast"') as service:
        seen = Path(f"/proc/{service.process.pid}/root{folder}/state")
        client = send_calls(service, keys["score"], STREAM[:600])
        wait_until(lambda: service.status(keys["admin"])["state"]["journal_faults"] > 0)
        assert lines(seen) < 600
        (seen / "ballast").unlink()
        later = send_calls(service, keys["score"], STREAM[600:620])
        # 128 KiB are too few for all events and cases. Events that do not fit wait in memory, and none is lost.
        wait_until(lambda: sum(journal.stat().st_size for journal in seen.glob("*.log")) > 64 << 10)
        status = service.status(keys["admin"])
        assert status["state"]["journal_lost"] == 0
        assert {verdict.status for verdict in client.verdicts + later.verdicts} == {"scored"}


def test_events_that_a_full_disk_refuses_until_the_end_are_counted_and_the_service_fails(folder, keys, small_disk):
    with small_disk('head -c 200k /dev/zero > "$STATE/ballast" 2>/dev/null || true') as service:
        seen = Path(f"/proc/{service.process.pid}/root{folder}/state")
        client = send_calls(service, keys["score"], STREAM[:200])
        wait_until(lambda: service.status(keys["admin"])["state"]["journal_faults"] > 0)
        files = os.open(seen, os.O_RDONLY)
        assert service.stop() == 1
    written = lines(Path(f"/proc/self/fd/{files}"))
    os.close(files)
    log = service.log_text()
    assert "journal calls: the disk refuses writes: No space left on device; " in log
    assert re.search(rf"journal calls: {len(client.verdicts) - written} lines are lost \(ENOSPC\)", log)
    assert re.search(r"state: the disk refused [0-9,]+ events, which are lost; check its space and its rights", log)
    assert "all events are on disk" not in log


def test_a_state_that_cannot_be_written_is_refused_at_start(small_disk):
    service = small_disk('mount -o remount,ro "$STATE"')
    assert service.process.wait(http_service.READY_WITHIN) == 1
    assert "/state: cannot write the state: read-only file system; give this user a folder" in service.log_text()


def test_a_hangup_signal_reloads_keys_and_bundle_and_stops_no_call(folder, keys):
    with http_service.ServiceProcess(folder, "--json") as service:
        new = http_service.add_key(folder / "api.keys", "new", ["score"])
        assert service.post(schema.SCORE, call_to_json(STREAM[0]), new)[0] == 401
        (folder / "bundle" / "model.txt").write_bytes(b"damaged")
        before = service.status(keys["admin"])["model"]["id"]
        service.process.send_signal(signal.SIGHUP)
        client = send_calls(service, keys["score"], STREAM[:100])
        wait_until(lambda: service.post(schema.SCORE, call_to_json(STREAM[100]), new)[0] == 200)
        wait_until(lambda: "bundle refused" in service.log_text())
        (folder / "api.keys").write_text("damaged")
        shutil.rmtree(folder / "bundle")
        real_bundle.write_bundle(folder / "bundle", valid_until="2100-01-02T00:00:00Z")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.status(keys["admin"])["model"]["id"] != before)
        assert service.stop() == 0
    assert len(client.verdicts) == 100 and {verdict.status for verdict in client.verdicts} == {"scored"}
    logged = [json.loads(line) for line in service.log_text().splitlines()]
    texts = [line["message"] for line in logged]
    steps = ("start: ", "model ", "API keys read", "bundle refused, the last good one stays in service: ",
             "API keys refused, the last good ones stay: ", "model ", "stop: all events are on disk")  # fmt: skip
    logged_steps = [text for text in texts if text.startswith(steps)]
    assert len(logged_steps) == len(steps) and all(map(str.startswith, logged_steps, steps))
    assert any(text.startswith("ready: scored") for text in texts)
    assert {line["level"] for line in logged} == {"info", "error"}


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_clock_jump_changes_no_state(judge, tmp_path, monkeypatch, jump):
    calls = STREAM[:120]
    last = max(call.start + (call.ring or 0.0) + (call.talk or 0.0) for call in calls)
    off, wall, steady = [0.0], time.time, time.monotonic
    shift = last - wall()  # as if it were the day of the calls
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall() + shift + off[0])
    live, plain = (begin(judge, tmp_path / name) for name in ("live", "plain"))
    stream = events(calls)
    play(live, stream)
    play(plain, stream)
    off[0] = jump
    jumped = real_bundle.calls(40, seed=9)
    moved = [(0, at(call, last + jump + i)) for i, call in enumerate(jumped)]
    answered = play(live, moved)
    off[0] = 0.0
    if jump > 0:
        assert {verdict.status for verdict in answered} == {"wrong_input"}
        assert live.counts["ahead"] == len(jumped)
    else:
        assert {verdict.status for verdict in answered} == {"behind"}  # late calls are accepted, without a band
        assert live.counts["ahead"] == 0
        play(plain, moved)
    assert state(live, calls) == state(plain, calls)
    # A jump that lasts is accepted after a while.
    off[0] = jump
    live.attempt(at(jumped[0], last))
    monkeypatch.setattr("callsieve.serving.live.clock.time.monotonic", lambda: steady() + SETTLED + 1)
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall() + shift + off[0] + SETTLED + 1)
    assert live.attempt(at(jumped[1], last + jump + SETTLED)).status == ("scored" if jump > 0 else "behind")
    live.close()
    plain.close()


def at(call, start):
    return type(call)(start=start, caller=call.caller, callee=call.callee)


@pytest.mark.parametrize("spoil", ["torn", "rubbish", "zeros", "flipped", "huge"])
def test_a_corrupt_journal_loses_at_most_one_call(folder, keys, judge, spoil):
    before = begin(judge, folder / "state")
    play(before, [(0, call) for call in STREAM[:100]])
    before.close()
    path = file_path(folder / "state", CALLS, 1)
    whole = path.read_bytes()
    if spoil == "flipped":
        middle = whole.index(b"\n", len(whole) // 2) + 20
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    else:
        ends = {"torn": b"", "rubbish": os.urandom(500), "zeros": bytes(5000), "huge": b"9" * 3_000_000 + b"\n"}
        path.write_bytes((whole[:-30] if spoil == "torn" else whole) + ends[spoil])
    with http_service.ServiceProcess(folder) as again:
        restored = again.status(keys["admin"])["state"]
        client = send_calls(again, keys["score"], STREAM[100:150])
    lost = 100 - restored["restored_events"]
    assert lost == (spoil in ("torn", "flipped"))
    assert restored["restored_damaged"] > 0
    assert len(client.verdicts) == 50
    assert {verdict.status for verdict in client.verdicts} == {"scored"}


def test_a_corrupt_bundle_is_refused_and_stops_no_call(folder, keys):
    with http_service.ServiceProcess(folder) as service:
        first = service.status(keys["admin"])["model"]
        codes = []

        def reload():
            for name in ("model.txt", "bundle.json", "MANIFEST.json", "MANIFEST.sig"):
                file = folder / "bundle" / name
                sound = file.read_bytes()
                for spoilt in (b"", sound[: len(sound) // 2], sound.replace(b"1", b"2", 1) + b" ", bytes(1000)):
                    file.write_bytes(spoilt)
                    codes.append(service.post(schema.RELOAD, b"", keys["admin"])[0])
                file.write_bytes(sound)

        spoiling = threading.Thread(target=reload)
        spoiling.start()
        client = send_calls(service, keys["score"], STREAM[:400])
        spoiling.join()
        status = service.status(keys["admin"])
    assert codes == [409] * 16
    assert {**status["model"], "days_left": 0} == {**first, "days_left": 0}
    assert {(verdict.status, verdict.model) for verdict in client.verdicts} == {("scored", first["id"])}
    assert len(client.verdicts) == 400


def bodies():
    """Yields bodies that a client could send as a call."""
    sound = json.loads(call_to_json(attempt_of(STREAM[0])))
    odd = [*map(float, ("nan", "inf", "-inf")), 10**400, -1, "😀" * 50, "x" * 10_000, "\x00", [], {}, None, True, "1e5"]
    for name, value in itertools.product(("start", "caller", "ring", "attestation", "trunk", "more"), odd):
        yield json.dumps(sound | {name: value}).encode()
    yield from (b"", b"null", b"NaN", b"[" * 5000, b'"' * 5000, os.urandom(1000), "😀".encode() * 3000, b"\xff\xfe{")
    yield b'{"start":' + b"9" * 10_000 + b"}"
    yield b"x" * 10_000_000
    yield json.dumps(sound | {"caller": "8" * 10_000_000}).encode()


def test_invalid_bodies_are_refused_and_stop_no_call(folder, keys):
    codes = {}
    with http_service.ServiceProcess(folder) as service:
        for body in bodies():
            for path in (schema.SCORE, schema.OBSERVE):
                try:
                    code, answer = service.post(path, body, keys["score"])
                    codes[code] = codes.get(code, 0) + 1
                    assert isinstance(json.loads(answer), dict)
                except ConnectionError:
                    assert len(body) > schema.MAX_BODY
        client = send_calls(service, keys["score"], STREAM[:50])
        service.status(keys["admin"])
        memory = int(Path(f"/proc/{service.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    assert set(codes) <= {200, 400, 413}
    assert codes[400] > 100
    assert {verdict.status for verdict in client.verdicts} == {"scored"}
    assert memory < 300_000  # kB


def test_a_burst_above_capacity_is_shed_and_counted(folder, keys):
    """Bursts of 400 calls at once: ten times the capacity within a deadline of 20 ms."""
    bodies = [call_to_json(attempt_of(call)) for call in STREAM[:400]]
    head = f"POST {schema.SCORE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys['all']}\r\nContent-Length: "
    with http_service.ServiceProcess(folder, "--deadline", 20) as service, contextlib.ExitStack() as stack:
        send_calls(service, keys["score"], STREAM[400:410])
        before = deadlines(service.status(keys["admin"]))
        client = Client()
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in bodies]
        for _ in range(4):
            for connection, body in zip(sockets, bodies, strict=True):
                connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            for connection in sockets:
                connection.settimeout(20)
                head_of, body_of = whole_answer(connection)
                assert head_of.startswith(b"HTTP/1.1 200")
                client.verdicts.append(verdict_from_json(body_of))
        status = service.status(keys["admin"])
    counts = status["counts"]
    shed = [verdict for verdict in client.verdicts if verdict.status == "deadline"]
    assert len(client.verdicts) == 1600
    assert len(shed) == deadlines(status) - before >= counts["shed"] > 0
    assert {verdict.action for verdict in shed} == {"pass"}
    assert counts["attempts"] == 1610


def deadlines(status):
    """Returns how many verdicts came after the deadline, or were not begun in time."""
    return sum(row["count"] for row in status["statuses"] if row["status"] == "deadline")


def whole_answer(client):
    """Reads an answer; returns its head and body."""
    data = b""
    while True:
        data += client.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            return head, body


def test_hung_explanations_stop_no_call(folder, keys, judge, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "EXPLAIN_SECONDS", 0.3)
    gate = threading.Event()
    with http_service.ServiceThread(folder, lambda: begin(judge, tmp_path / "state"), judge) as service:
        live = service.service.live
        case = verdict_from_json(service.post(schema.SCORE, call_to_json(STREAM[0]), keys["score"])[1]).case
        path = f"{schema.EXPLAIN}?case={case}"
        explain = live.explain
        monkeypatch.setattr(live, "explain", lambda case: gate.wait(60) and explain(case))
        codes = []
        explain_case = lambda: codes.append(service.get(path, keys["explain"])[0])
        threads = [threading.Thread(target=explain_case) for _ in range(6)]
        for thread in threads:
            thread.start()
        client = send_calls(service, keys["score"], STREAM[1:200])
        for thread in threads:
            thread.join()
        assert service.post(schema.RELOAD, b"", keys["admin"])[0] == 200
        gate.set()
        wait_until(lambda: service.get(path, keys["explain"])[0] == 200)
    assert codes == [503] * 6
    assert {verdict.status for verdict in client.verdicts} == {"scored"}
    assert len(client.verdicts) == 199


def test_a_lack_of_file_descriptors_stops_no_call(folder, keys):
    few = 64
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
    with http_service.ServiceProcess(folder, before=limit) as service:
        client = Client()
        with contextlib.closing(service.connect()) as connection:
            client.send(connection, keys["score"], STREAM[0])
            idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2 * few)]
            for call in STREAM[1:100]:
                client.send(connection, keys["score"], call)
            for unused in idle:
                unused.close()
        wait_until(lambda: is_live(service))
        with contextlib.closing(service.connect()) as connection:
            client.send(connection, keys["score"], STREAM[100])
        status = service.status(keys["admin"])
        service.stop()
    assert len(client.verdicts) == 101
    # The number table of another country is a file that is read on first use.
    faults = [verdict.status for verdict in client.verdicts if verdict.status != "scored"]
    assert set(faults) <= {"fault"}
    assert len(faults) == status["counts"]["faults"] < 50
    assert lines(folder / "state") == 101 - len(faults)
    assert len(service.log_text()) < 100_000


def is_live(service):
    with contextlib.suppress(OSError):
        return service.get(schema.LIVE)[0] == 200
    return False
