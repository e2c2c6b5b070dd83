"""What breaks around a service, on real processes and disks: every call is answered, and all that is lost is counted.

pytest tests/system/test_chaos.py -s shows the table.
"""

import contextlib
import itertools
import json
import os
import re
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from callsieve.features.intake.intake import Intake
from callsieve.serving.http import app, schema
from callsieve.serving.live.clock import SETTLED
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import ReadCounts, file_path, read_journal
from callsieve.serving.live.live import Live
from callsieve.serving.live.swap import Swap
from tests.serving.live.test_live import attempt_of, begin, events, play, state
from tests.support import http_service, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import (
    CAPACITY,
    LONG_DEADLINE,
    STRICT_POLICY,
    call_to_json,
    send_request,
    verdict_from_json,
)
from tests.support.waiting import wait_until

MADE = real_bundle.calls(1500)
# In a place of its own: a small disk that can be full, or take nothing.
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
    judge = Swap(trusted=small.TRUSTED, policy=STRICT_POLICY)
    judge.load(bundle)
    return judge


class Placed:
    """What became of calls: seconds that each answer took, verdicts, and calls without an answer."""

    def __init__(self):
        self.moments, self.took, self.verdicts, self.unanswered = [], [], [], 0

    def place(self, connection, key, call):
        """Place a call."""
        began = time.monotonic()
        try:
            code, answer = send_request(connection, "POST", schema.SCORE, key, call_to_json(attempt_of(call)))
            assert code == 200, answer
        except OSError:
            self.unanswered += 1
            return
        self.verdicts.append(verdict_from_json(answer))
        self.moments.append(time.monotonic())
        self.took.append(self.moments[-1] - began)

    def row(self, what, counts, **more):
        """A line of the table, which is printed; `delayed` are those that the service was late or too busy for."""
        answered, delayed = len(self.verdicts), counts["late"] + counts["shed"]
        told = {"answered": f"{answered} of {answered + self.unanswered}", "delayed": delayed, **more}
        print(f"\n{what:28}", *(f"{name} {value}" for name, value in told.items()), sep="  ", end="")


def placed(service, key, calls, seconds=None):
    """Calls one after the other on one connection, as many as there are, or as fit into so much time."""
    found, ends = Placed(), time.monotonic() + (seconds or 1e9)
    with contextlib.closing(service.connect()) as connection:
        for call in calls:
            if time.monotonic() > ends:
                break
            found.place(connection, key, call)
    return found


def lines(place):
    return sum(1 for _ in read_journal(place, CALLS, 0, ReadCounts()))


def test_killed(folder, keys, judge, tmp_path):
    with http_service.ServiceProcess(folder) as service:
        began = time.monotonic()
        told = placed(service, keys["score"], MADE, seconds=1.6)
        time.sleep(max(0.0, began + 1.6 - time.monotonic()))  # a fast machine answers all of them within a second
        counts = service.status(keys["admin"])["counts"]
        service.kill()
        killed = time.monotonic()
    with http_service.ServiceProcess(folder) as again:
        restored = int(again.status(keys["admin"])["state"]["restored_events"])
        after = placed(again, keys["score"], MADE[-20:])
    safe = sum(moment < killed - 1.0 for moment in told.moments)
    assert 0 < safe <= restored <= len(told.verdicts)
    same = begin(judge, tmp_path / "same")
    play(same, [(0, call) for call in MADE[:restored]])
    assert [verdict.raw for verdict in after.verdicts[:1]] == [same.attempt(attempt_of(MADE[-20])).raw]
    same.close()
    told.row("kill -9", counts, lost=len(told.verdicts) - restored)


def test_told_to_stop(folder, keys):
    with http_service.ServiceProcess(folder) as service:
        told = placed(service, keys["score"], MADE[:200])
        counts = service.status(keys["admin"])["counts"]
        service.stop()
    assert lines(folder / "state") == len(told.verdicts) == 200
    told.row("SIGTERM", counts, lost=0)


@pytest.fixture
def small_disk(folder, keys):
    """Makes a service whose state is on a disk of its own."""
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


def test_disk_full(folder, keys, small_disk):
    with small_disk('head -c 100k /dev/zero > "$STATE/ballast"') as service:
        seen = Path(f"/proc/{service.process.pid}/root{folder}/state")
        told = placed(service, keys["score"], MADE[:600])
        wait_until(lambda: service.status(keys["admin"])["state"]["journal_faults"] > 0)
        assert lines(seen) < 600
        (seen / "ballast").unlink()
        more = placed(service, keys["score"], MADE[600:620])
        # 128 KiB are too few for all, events and cases, of which either may come first: the others wait again, and none
        # is lost while there is room for them in memory.
        wait_until(lambda: sum(journal.stat().st_size for journal in seen.glob("*.log")) > 64 << 10)
        status = service.status(keys["admin"])
        assert status["state"]["journal_lost"] == 0
        assert {verdict.status for verdict in told.verdicts + more.verdicts} == {"ok"}
        told.row("disk full", status["counts"], refused=int(status["state"]["journal_faults"]), lost=0)


def test_disk_that_takes_nothing(keys, small_disk):
    with small_disk('mount -o remount,ro "$STATE"') as service:
        told = placed(service, keys["score"], MADE[:100])
        wait_until(lambda: service.status(keys["admin"])["state"]["journal_faults"] > 0)
        status = service.status(keys["admin"])
        assert {verdict.status for verdict in told.verdicts} == {"ok"}
        assert service.stop() != 1
    assert len(told.verdicts) == 100
    told.row("read-only disk", status["counts"], lost=100, told="journal_faults")


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_clock_jumps(judge, tmp_path, monkeypatch, jump):
    calls = MADE[:120]
    last = max(call.start + (call.ring or 0.0) + (call.talk or 0.0) for call in calls)
    off, wall, steady = [0.0], time.time, time.monotonic
    shift = last - wall()  # as if it were the day of the calls
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall() + shift + off[0])
    live, plain = (begin(judge, tmp_path / name) for name in ("live", "plain"))
    told = events(calls)
    play(live, told)
    play(plain, told)
    off[0] = jump
    jumped = real_bundle.calls(40, seed=9)
    moved = [(0, at(call, last + jump + i)) for i, call in enumerate(jumped)]
    answered = play(live, moved)
    off[0] = 0.0
    if jump > 0:
        assert {verdict.status for verdict in answered} == {"no score: the call starts or ends after now"}
        assert live.counts["ahead"] == len(jumped)
    else:
        assert {verdict.status for verdict in answered} == {"ok"}  # late records are taken in like any other
        assert live.counts["ahead"] == 0
        play(plain, moved)
    assert state(live, calls) == state(plain, calls)
    # What stays is believed in the end.
    off[0] = jump
    live.attempt(at(jumped[0], last))
    monkeypatch.setattr("callsieve.serving.live.clock.time.monotonic", lambda: steady() + SETTLED + 1)
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall() + shift + off[0] + SETTLED + 1)
    assert live.attempt(at(jumped[1], last + jump + SETTLED)).status == "ok"
    print(
        f"\nclock {jump:+.0f} s                answered {len(answered)} of {len(jumped)}  ahead {live.counts['ahead']}",
        end="",
    )
    live.close()
    plain.close()


def at(call, start):
    return type(call)(start=start, caller=call.caller, callee=call.callee)


@pytest.mark.parametrize("spoil", ["torn", "rubbish", "zeros", "flipped", "huge"])
def test_spoilt_journal(folder, keys, judge, spoil):
    before = begin(judge, folder / "state")
    play(before, [(0, call) for call in MADE[:100]])
    before.close()
    where = file_path(folder / "state", CALLS, 1)
    whole = where.read_bytes()
    if spoil == "flipped":
        middle = whole.index(b"\n", len(whole) // 2) + 20
        where.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    else:
        ends = {"torn": b"", "rubbish": os.urandom(500), "zeros": bytes(5000), "huge": b"9" * 3_000_000 + b"\n"}
        where.write_bytes((whole[:-30] if spoil == "torn" else whole) + ends[spoil])
    with http_service.ServiceProcess(folder) as again:
        kept = again.status(keys["admin"])["state"]
        told = placed(again, keys["score"], MADE[100:150])
        counts = again.status(keys["admin"])["counts"]
    lost = 100 - kept["restored_events"]
    assert lost == (spoil in ("torn", "flipped"))
    assert kept["restored_damaged"] > 0
    assert len(told.verdicts) == 50
    assert {verdict.status for verdict in told.verdicts} == {"ok"}
    told.row(f"journal: {spoil}", counts, lost=int(lost))


def test_spoilt_bundle(folder, keys):
    with http_service.ServiceProcess(folder) as service:
        first = service.status(keys["admin"])["model"]
        answers = []

        def reload():
            for name in ("model.txt", "bundle.json", "MANIFEST.json", "MANIFEST.sig"):
                file = folder / "bundle" / name
                sound = file.read_bytes()
                for spoilt in (b"", sound[: len(sound) // 2], sound.replace(b"1", b"2", 1) + b" ", bytes(1000)):
                    file.write_bytes(spoilt)
                    answers.append(service.post(schema.RELOAD, b"", keys["admin"])[0])
                file.write_bytes(sound)

        spoiling = threading.Thread(target=reload)
        spoiling.start()
        told = placed(service, keys["score"], MADE[:400])
        spoiling.join()
        status = service.status(keys["admin"])
    assert answers == [409] * 16
    assert status["model"] == first
    assert {(verdict.status, verdict.model) for verdict in told.verdicts} == {("ok", first["id"])}
    assert len(told.verdicts) == 400
    told.row("bundle spoilt 16 times", status["counts"], lost=0)


def bodies():
    """Whatever could be sent as a call."""
    sound = json.loads(call_to_json(attempt_of(MADE[0])))
    odd = [
        float("nan"),
        float("inf"),
        -float("inf"),
        10**400,
        -1,
        "😀" * 50,
        "x" * 10_000,
        "\x00",
        [],
        {},
        None,
        True,
        "1e5",
    ]
    for name, value in itertools.product(("start", "caller", "ring", "attestation", "trunk", "more"), odd):
        yield json.dumps(sound | {name: value}).encode()
    yield from (b"", b"null", b"NaN", b"[" * 5000, b'"' * 5000, os.urandom(1000), "😀".encode() * 3000, b"\xff\xfe{")
    yield b'{"start":' + b"9" * 10_000 + b"}"
    yield b"x" * 10_000_000
    yield json.dumps(sound | {"caller": "8" * 10_000_000}).encode()


def test_odd_bodies(folder, keys):
    codes, hung_up = {}, 0
    with http_service.ServiceProcess(folder) as service:
        for odd in bodies():
            for where in (schema.SCORE, schema.OBSERVE):
                try:
                    code, answer = service.post(where, odd, keys["score"])
                    codes[code] = codes.get(code, 0) + 1
                    assert isinstance(json.loads(answer), dict)
                except ConnectionError:
                    hung_up += 1
                    assert len(odd) > schema.MAX_BODY
        told = placed(service, keys["score"], MADE[:50])
        status = service.status(keys["admin"])
        memory = int(Path(f"/proc/{service.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    assert set(codes) <= {200, 400, 413}
    assert codes[400] > 100
    assert {verdict.status for verdict in told.verdicts} == {"ok"}
    assert memory < 300_000  # kB
    told.row("odd bodies", status["counts"], turned_away=codes[400] + codes.get(413, 0), hung_up=hung_up, lost=0)


def test_more_than_it_can_do(folder, keys):
    """Bursts of 400 calls at once: ten times what a deadline of 20 ms has time for."""
    bodies = [call_to_json(attempt_of(call)) for call in MADE[:400]]
    head = f"POST {schema.SCORE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {keys['all']}\r\nContent-Length: "
    with http_service.ServiceProcess(folder, "--deadline", 20) as service, contextlib.ExitStack() as stack:
        placed(service, keys["score"], MADE[400:410])
        before = service.status(keys["admin"])["counts"]["shed"]
        waits, told = [], Placed()
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in bodies]
        for _ in range(4):
            began = time.monotonic()
            for client, body in zip(clients, bodies, strict=True):
                client.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            for client in clients:
                client.settimeout(20)
                head_of, body_of = whole_answer(client)
                waits.append(time.monotonic() - began)
                assert head_of.startswith(b"HTTP/1.1 200")
                told.verdicts.append(verdict_from_json(body_of))
        counts = service.status(keys["admin"])["counts"]
    shed = [verdict for verdict in told.verdicts if verdict.status == "no score: its turn came after the deadline"]
    assert len(told.verdicts) == 1600
    assert len(shed) == counts["shed"] - before > 0
    assert {verdict.action for verdict in shed} == {"pass"}
    assert counts["attempts"] == 1610
    told.row("400 calls at once", counts, longest_ms=round(1000 * max(waits)), unseen_until_they_end=len(shed))


def whole_answer(client):
    """Head and body of an answer."""
    data = b""
    while True:
        data += client.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            return head, body


def test_hung_explanation(folder, keys, judge, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "EXPLAIN_SECONDS", 0.3)
    gate = threading.Event()
    state_of = lambda: Live(
        judge, Intake(real_bundle.NUMBER_KEY), tmp_path / "state", deadline=LONG_DEADLINE, **CAPACITY
    )
    with http_service.ServiceThread(folder, state_of, judge) as service:
        live = service.service.live
        case = verdict_from_json(service.post(schema.SCORE, call_to_json(MADE[0]), keys["score"])[1]).case
        asked = f"{schema.EXPLAIN}?case={case}"
        explain = live.explain
        monkeypatch.setattr(live, "explain", lambda case: gate.wait(60) and explain(case))
        codes = []
        asking = [
            threading.Thread(target=lambda: codes.append(service.get(asked, keys["explain"])[0])) for _ in range(6)
        ]
        for each in asking:
            each.start()
        told = placed(service, keys["score"], MADE[1:200])
        for each in asking:
            each.join()
        assert service.post(schema.RELOAD, b"", keys["admin"])[0] == 200
        gate.set()
        wait_until(lambda: service.get(asked, keys["explain"])[0] == 200)
        counts = dict(live.counts)
    assert codes == [503] * 6
    assert {verdict.status for verdict in told.verdicts} == {"ok"}
    assert len(told.verdicts) == 199
    told.row("6 explanations hang", counts, lost=0)


def test_no_file_descriptors_left(folder, keys):
    few = 64
    with http_service.ServiceProcess(
        folder, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
    ) as service:
        told = Placed()
        with contextlib.closing(service.connect()) as connection:
            told.place(connection, keys["score"], MADE[0])
            idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2 * few)]
            for call in MADE[1:100]:
                told.place(connection, keys["score"], call)
            for each in idle:
                each.close()
        wait_until(lambda: answers(service))
        with contextlib.closing(service.connect()) as connection:
            told.place(connection, keys["score"], MADE[100])
        status = service.status(keys["admin"])
        service.stop()
    assert len(told.verdicts) == 101
    # A table of numbers of another country is a file that is read when it is first needed.
    faults = [verdict.status for verdict in told.verdicts if verdict.status != "ok"]
    assert set(faults) <= {"no score: OSError"}
    assert len(faults) == status["counts"]["faults"] < 50
    assert lines(folder / "state") == 101 - len(faults)
    assert len(service.log_text()) < 100_000
    told.row("no file descriptors", status["counts"], unread=len(faults), lost=len(faults))


def answers(service):
    with contextlib.suppress(OSError):
        return service.get(schema.LIVE)[0] == 200
    return False
