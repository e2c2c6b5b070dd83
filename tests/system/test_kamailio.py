"""Real Kamailio with an embedded scorer or a service: verdicts become answers and labels, and no fault stops a call."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from callsieve.features import Call, Intake
from callsieve.serving import Verdict, read_policy
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.http import schema
from callsieve.serving.live.live import Live
from callsieve.serving.live.memory import Limits
from callsieve.serving.telephony import sip, sip_replies
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.servers import kamailio
from tests.support.servers.odd_invites import ODD_INVITES, mutants, place_calls
from tests.support.waiting import wait_until

REDRESS = sip_replies.Redress(**kamailio.REDRESS)
MOBILE, FIXED, EMERGENCY = "+8613800138000", "+862887654321", "110"
PATIENT = 1000  # deadline in ms that also a busy machine meets
POLICY = 'certified = "block"\nwatch = "label"\n[rules]\nauthentication_failed = "label"\n'


def everything_reached():
    """Thresholds that every call reaches: mobile callers are blocked, fixed ones labelled, emergency numbers pass."""
    sound, loose = small.certificate(), small.certificate(false_calls=90, bound=0.0036, certified=False)
    strata = dict.fromkeys(("mobile", "quiet_mobile", "emergency", "public_service"), sound) | {"fixed": loose}
    return {"thresholds": (Band("certified", -50.0, sound, strata), Band("watch", -60.0, loose))}


def header(message, name):
    """Returns all values of a header of a message."""
    return sip.read_message(message).headers.get(name.lower(), ())


@pytest.fixture(scope="module")
def site():
    return kamailio.environment(CFLAGS="-O0")  # these tests time nothing, and optimisation takes 10 s


@pytest.fixture(scope="module")
def bundle(site, tmp_path_factory):
    """Settings of an embedded scorer that often checks for new bundles and reports."""
    folder = tmp_path_factory.mktemp("embedded")
    return kamailio.write_proxy_files(folder, site, POLICY, everything_reached(), report_every=0.1)


@pytest.fixture(scope="module")
def phone():
    phone = kamailio.Phone()
    yield phone
    phone.close()


@pytest.fixture
def dial():
    """Makes callers at a proxy's port."""
    callers = []

    def make(port):
        callers.append(kamailio.Caller(port))
        return callers[-1]

    yield make
    for caller in callers:
        caller.socket.close()


@pytest.fixture(scope="module")
def phones():
    with kamailio.answering_phone() as port:
        yield port


class Service:
    """A small real HTTP scorer: `answer(call)` gives a verdict, bytes, or a status."""

    def __init__(self, answer):
        self.attempts, self.observed, self.wrong, self.connections, self.bodies = [], [], [], [], []
        self.answer = answer
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in two packets would wait for an acknowledgement between them
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                service.connections.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = service.reply(self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                """Logs nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

            def handle_error(self, *_):
                """Ignores a proxy that closes its connection."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reply(self, path, body):
        self.bodies.append((path, body))
        try:
            call = schema.read_call(body)
        except ValueError as error:
            self.wrong.append((str(error), body))
            return 400, b"{}"
        if path.partition("?")[0] == schema.OBSERVE:
            self.observed.append(call)
            return 200, b"{}"
        self.attempts.append(call)
        answer = self.answer(call)
        if isinstance(answer, int):
            return answer, b"{}"
        return 200, answer if isinstance(answer, bytes) else msgspec.json.encode(answer)

    def close(self):
        """Closes all connections, like a killed process."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def verdict(action, confidence=0.9731, content=None, band="certified"):
    fields = (None, (), "scored", "00112233aabbccdd", "model", "2027-01-01")
    return Verdict(action, 0.5, band, content, *fields, confidence=confidence)


@pytest.fixture(scope="module")
def running(phone, tmp_path_factory):
    """A service, and a proxy that sends it requests."""
    service, folder = Service(None), tmp_path_factory.mktemp("beside")
    more = {"SCORER": f'"{service.url}"', "DEADLINE": PATIENT, "SEVERAL": 1}
    with kamailio.Kamailio("http.cfg", phone.port, folder, **more) as proxy:
        yield service, proxy
    service.close()


@pytest.fixture
def service(running):
    service, _ = running
    service.answer = lambda _: verdict("pass")
    service.attempts.clear()
    yield service
    assert not service.wrong


@pytest.fixture
def beside(running):
    return running[1]


def test_embedded_verdicts_become_answers_and_labels(dial, bundle, phone, tmp_path):
    with kamailio.Kamailio("embedded.cfg", phone.port, tmp_path, settings=bundle, DEADLINE=PATIENT) as proxy:
        caller = dial(proxy.port)
        before = len(phone.got)
        invite, blocked = caller.call(MOBILE, "+8613900139000")
        assert len(phone.got) == before
        assert blocked.startswith(b"SIP/2.0 603 Network Blocked\r\n")
        case = re.search(rb"id=([0-9a-f]{16})", blocked)[1].decode()
        reply = sip_replies.network_blocked(REDRESS, case)
        assert header(blocked, "Reason") == (reply.headers[0][1],)
        # The other headers are those of the request.
        ours = sip.read_message(sip_replies.response(invite, reply, "tag"))
        for name in ("from", "call-id", "cseq"):
            assert header(blocked, name) == ours.headers[name]
        _, labelled = caller.call(FIXED, "+8613900139000", "Call-Info: <data:,>;confidence=1;type=trusted")
        assert labelled.startswith(b"SIP/2.0 200")
        call_info = header(next(m for m in phone.got[before:] if m.startswith(b"INVITE")), "Call-Info")
        assert len(call_info) == 1
        assert re.fullmatch(
            r"<https://redress\.carrier\.example>;source=carrier\.example;purpose=info;confidence=\d+;type=spam",
            call_info[0],
        )
        before = len(phone.got)
        # The caller writes both headers, and the proxy trusts no peer.
        sender = f"<sip:{EMERGENCY}@a.example;verstat=TN-Validation-Failed>"
        asserted = "P-Asserted-Identity: <tel:110;verstat=TN-Validation-Failed>"
        _, passed = caller.call(sender, "+8613900139000", asserted)
        assert passed.startswith(b"SIP/2.0 200")
        relayed = next(m for m in phone.got[before:] if m.startswith(b"INVITE"))
        assert header(relayed, "Call-Info") == header(relayed, "P-Asserted-Identity") == ()
        _, unwanted = caller.call(FIXED, "+8613900139607")
        assert unwanted.startswith(b"SIP/2.0 607")
        proxy.wait_for(r"attempts=4 label=2 screen=0 block=1 ended=3 reports=1 refused=0")
    assert b"+86139" not in proxy.log.read_bytes()


def test_an_embedded_scorer_that_hangs_or_reloads_stops_no_call(bundle, phones, tmp_path):
    with kamailio.Kamailio("embedded.cfg", phones, tmp_path, settings=bundle, DEADLINE=100) as proxy:
        load = kamailio.run_calls(proxy.port, tmp_path, 600, 300)
        assert load["completed"] == 600
        assert load["blocked"] > 0  # a busy machine may not answer all calls in time; these pass
        os.kill(proxy.scorer(), signal.SIGSTOP)
        hung = kamailio.run_calls(proxy.port, tmp_path, 900, 450)
        os.kill(proxy.scorer(), signal.SIGCONT)
        assert (hung["completed"], hung["failed"], hung["blocked"]) == (900, 0, 0)
        proxy.wait_for(r"missed=[1-9]")  # waiting calls passed, and are in the history all the same
        proxy.rpc("app_python.reload")
        again = kamailio.run_calls(proxy.port, tmp_path, 300, 300)
        assert (again["completed"], again["failed"]) == (300, 0)
        assert again["blocked"] > 0


def test_a_new_bundle_is_loaded_and_a_corrupt_one_is_refused(dial, site, phone, tmp_path):
    settings = kamailio.write_proxy_files(tmp_path, site, POLICY, report_every=0.1)
    with kamailio.Kamailio("embedded.cfg", phone.port, tmp_path, settings=settings, DEADLINE=PATIENT) as proxy:
        caller = dial(proxy.port)
        assert caller.call(MOBILE, "+8613900139000")[1].startswith(b"SIP/2.0 200")
        real_bundle.write_bundle(tmp_path / "next", **everything_reached())
        shutil.move(tmp_path / "bundle", tmp_path / "old")
        shutil.move(tmp_path / "next", tmp_path / "bundle")
        proxy.wait_for("is in service now")
        assert caller.call(MOBILE, "+8613900139000")[1].startswith(b"SIP/2.0 603")
        model = (tmp_path / "bundle" / "model.txt").read_bytes()
        (tmp_path / "bundle" / "model.txt").write_bytes(model.replace(b"left_child=", b"left_child=9", 1))
        (tmp_path / "bundle" / "MANIFEST.sig").touch()
        proxy.wait_for("bundle refused, the last good one stays")
        assert caller.call(MOBILE, "+8613900139000")[1].startswith(b"SIP/2.0 603")


def test_the_history_is_restored_after_a_restart_of_the_proxy(dial, site, phone, tmp_path):
    settings = kamailio.write_proxy_files(tmp_path, site, POLICY, report_every=0.1, state=tmp_path / "state")
    for restored in (0, 2):
        (folder := tmp_path / f"run-{restored}").mkdir()
        with kamailio.Kamailio("embedded.cfg", phone.port, folder, settings=settings, DEADLINE=PATIENT) as proxy:
            proxy.wait_for(f"{restored} calls restored")
            for number in range(2):
                assert dial(proxy.port).call(MOBILE, f"+861390013900{number + restored}")[1].startswith(b"SIP/2.0 200")
            proxy.wait_for("ended=2")
            wait_until(lambda: any(path.stat().st_size for path in (tmp_path / "state").glob("calls-*")))
    files = [path for path in (tmp_path / "state").iterdir() if path.is_file()]
    assert not [path for path in files if b"1390013900" in path.read_bytes()]


def test_without_a_bundle_calls_pass(dial, site, phone, tmp_path):
    settings = kamailio.write_proxy_files(tmp_path, site, POLICY)
    shutil.rmtree(tmp_path / "bundle")
    with kamailio.Kamailio("embedded.cfg", phone.port, tmp_path, settings=settings) as proxy:
        caller = dial(proxy.port)
        assert caller.call(MOBILE, "+8613900139000")[1].startswith(b"SIP/2.0 200")
        proxy.wait_for("not loaded, calls pass")


def test_a_blocked_call_is_answered_608_if_the_settings_require_it(dial, site, phone, tmp_path):
    redress = kamailio.REDRESS | {"card": "https://redress.carrier.example/card.jws"}
    settings = kamailio.write_proxy_files(tmp_path, site, POLICY, everything_reached(), redress, answer="608")
    with kamailio.Kamailio("embedded.cfg", phone.port, tmp_path, settings=settings, DEADLINE=PATIENT) as proxy:
        answer = dial(proxy.port).call(MOBILE, "+8613900139000")[1]
    assert answer.startswith(b"SIP/2.0 608 Rejected\r\n")
    assert header(answer, "Call-Info") == (sip_replies.rejected(sip_replies.Redress(**redress)).headers[0][1],)


# The embedded script, and a line for each call that it reads.
RECORDING = """
import dataclasses, json
with open({script!r}) as file:
    exec(compile(file.read(), {script!r}, "exec"))
score = Engine.score
def score_and_record(engine, call_id, tag, **facts):
    with open({calls!r}, "a") as file:
        file.write(json.dumps(dataclasses.asdict(engine.sip.to_call(dialect=engine.dialect, **facts))) + "\\n")
    return score(engine, call_id, tag, **facts)
Engine.score = score_and_record
"""


@pytest.fixture(scope="module")
def odd_calls(bundle, tmp_path_factory):
    """By variant: what each INVITE of the table led to, the calls that the scorer read, and the proxy's log."""
    folder = tmp_path_factory.mktemp("odd")
    script, calls, results, settings = folder / "recording.py", folder / "calls", {}, folder / "settings.toml"
    # A history of its own: that of the other tests decides which feed the calls seem to come from.
    settings.write_text(bundle.read_text().replace(str(bundle.parent / "state"), str(folder / "embedded-state")))
    script.write_text(RECORDING.format(script=str(kamailio.SCRIPTS / "embedded.py"), calls=str(calls)))
    swap = live_states.loaded(bundle.parent / "bundle", policy=read_policy(bundle.parent / "policy.toml"))
    live = Live(swap, Intake(real_bundle.NUMBER_KEY), folder / "state", deadline=5.0, limits=Limits(10_000, 1_000))
    service = Service(live.attempt)
    variants = {
        "embedded": {"settings": settings, "SCRIPT": f'"{script}"'},
        "http": {"SCORER": f'"{service.url}"'},
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        for name, more in variants.items():
            (folder / name).mkdir()
            common = {"DEADLINE": PATIENT, "TRUSTED": '"^127[.]0[.]0[.]1$"'}
            with kamailio.Kamailio(f"{name}.cfg", phone.getsockname()[1], folder / name, **common, **more) as proxy:
                answers = place_calls(proxy.port, phone)
                read = [json.loads(line) for line in calls.read_text().splitlines()]
                read = read if name == "embedded" else [dataclasses.asdict(call) for call in service.attempts]
                for message in mutants(500):
                    phone.sendto(message, ("127.0.0.1", proxy.port))
                assert any(place_calls(proxy.port, phone, ODD_INVITES[:1]))  # the proxy is alive
                results[name] = answers, read, proxy.log.read_text(errors="replace")
    service.close()
    live.close()
    return results


def facts(call):
    return call["caller"], call["network_caller"], call["attestation"], call["callee"], call["trunk"]


@pytest.mark.parametrize("variant", ["embedded", "http"])
def test_each_odd_invite_is_read_as_a_person_reads_it(odd_calls, variant):
    answers, calls, _ = odd_calls[variant]
    scored = [odd for odd in ODD_INVITES if odd.caller is not None]
    expected = [(odd.caller, odd.network, odd.attestation, odd.callee, "127.0.0.1") for odd in scored]
    assert [facts(call) for call in calls] == expected
    refused = {answer.split(b"\r\n", 1)[0] for odd, answer in zip(ODD_INVITES, answers, strict=True) if not odd.caller}
    assert {line for line in refused if line.startswith(b"SIP")} >= {b"SIP/2.0 400 Bad From"}


def test_both_variants_agree_on_each_odd_invite(odd_calls):
    def verdict_of(answer):
        labels = [line.partition("confidence=")[0] for line in header(answer, "Call-Info")] if answer else ()
        return answer.split(b" ", 2)[:2] if answer.startswith(b"SIP") else (answer[:6], labels)

    embedded, http = ([verdict_of(answer) for answer in odd_calls[name][0]] for name in ("embedded", "http"))
    assert len(ODD_INVITES) > 200
    assert embedded == http
    assert [b"SIP/2.0", b"603"] in http
    assert any(labels for message, labels in http if message == b"INVITE")


@pytest.mark.parametrize("variant", ["embedded", "http"])
def test_no_sender_can_fill_the_log(odd_calls, variant):
    log = odd_calls[variant][2]
    assert "1380013" not in log
    lines = [line for line in log.splitlines() if re.search("ERROR|WARNING|CRITICAL|BUG|ALERT", line)]
    ours = [line for line in lines if "callsieve: " in line]
    assert len(ours) <= 3  # one a minute of each kind
    assert [line for line in lines if line not in ours and "timer" not in line] == []  # a busy machine is late


def test_an_untrusted_peer_asserts_nothing(dial, service, beside, phone):
    before = len(phone.got)
    asserted = "P-Asserted-Identity: <tel:+8613800138001;verstat=TN-Validation-Passed-A>"
    dial(beside.port).call("<sip:+8613800138000@a.example;verstat=TN-Validation-Passed-A>", "+8613900139000", asserted)
    (request,) = service.attempts
    assert (request.caller, request.network_caller, request.attestation) == ("+8613800138000", None, "unknown")
    assert header(next(m for m in phone.got[before:] if m.startswith(b"INVITE")), "P-Asserted-Identity") == ()


def test_a_balancer_reads_the_same_number_from_all_its_forms(dial, service, beside):
    forms = ("+8613800138000", "%2b86%31%33800138000", "+8613800138000;rn=1")
    for form in forms:
        dial(beside.port).call(f"<sip:{form}@a.example>", "+8613900139000", talk=False)
    numbers = {(json.loads(body)["caller"], json.loads(body)["callee"]) for _, body in service.bodies[-len(forms) :]}
    assert numbers == {("+8613800138000", "+8613900139000")}


def test_invites_that_the_service_cannot_read_do_not_stop_its_work(dial, service, beside):
    caller = dial(beside.port)
    for _ in range(25):  # more than FAILURES
        assert caller.call(MOBILE, "%00000", talk=False)[1].startswith(b"SIP/2.0 200")
    assert len(service.wrong) == 25
    caller.call(MOBILE, "+8613900139000")
    assert len(service.attempts) == 1
    service.wrong.clear()


def test_answers_of_the_service_become_answers_and_labels(dial, service, beside, phone):
    caller = dial(beside.port)
    service.answer = lambda _: verdict("block")
    blocked = caller.call(MOBILE, "+8613900139000")[1]
    assert blocked.startswith(b"SIP/2.0 603 Network Blocked\r\n")
    assert header(blocked, "Reason") == (sip_replies.network_blocked(REDRESS, "00112233aabbccdd").headers[0][1],)
    for confidence, content, band, label in [
        (0.9731, None, "certified", "confidence=97;type=spam"),
        (0.29, "survey", "certified", "confidence=29;type=survey"),
        (0.9999999, None, "certified", "confidence=99;type=spam"),
        (0.07, None, "certified", "confidence=7;type=spam"),
        (1.5e-5, None, "certified", "confidence=0;type=spam"),
        (1e-9, None, "certified", "confidence=0;type=spam"),
        (0.5, None, "certified", "confidence=50;type=spam"),
        (1.0, "fraud", "certified", "confidence=100;type=fraud"),
        (0.9, "debt_collection", "certified", "confidence=90;type=debt-collection"),
        (0.8, "fraud", "", "confidence=80;type=spam"),  # a rule with a figure in the policy
        (math.nan, "fraud", "", "purpose=info;type=spam"),  # a rule without one
    ]:
        labelled = verdict("label", confidence, content, band)
        service.answer = lambda _, labelled=labelled: labelled
        before = len(phone.got)
        caller.call(MOBILE, "+8613900139000", "Call-Info: <data:,>;type=trusted")
        call_info = header(next(m for m in phone.got[before:] if m.startswith(b"INVITE")), "Call-Info")
        assert call_info == (sip_replies.label(labelled, REDRESS),)
        assert call_info[0].endswith(f";{label}")


def test_the_service_receives_the_outcome_of_a_call(dial, service, beside):
    caller, began = dial(beside.port), time.time()
    for callee in ("+8613900139000", "+8613900139486", "+8613900139603", "+8613900139607"):
        caller.call(MOBILE, callee)
    observed = lambda: [call for call in service.observed if call.start >= began - 0.001]
    wait_until(lambda: len(observed()) == 8)  # the process of the caller, and that of the callee
    ends = [(path, json.loads(body)["callee"]) for path, body in service.bodies[-8:] if path != schema.SCORE]
    assert len({callee for path, callee in ends if path == "/v1/observe?by=callee"}) >= 3
    outcomes = {call.callee[-3:]: (call.outcome, call.released_by) for call in observed()}
    assert outcomes == {
        "000": ("answered", "caller"),
        "486": sip.outcome_of(486),
        "603": sip.outcome_of(603, "Answer"),
        "607": ("unwanted", "callee"),
    }
    attempts = {call.callee: call for call in service.attempts}
    for call in observed():
        at_ring_time = {name: getattr(call, name) for name in ("start", "caller", "callee", "attestation", "trunk")}
        assert Call(**at_ring_time) == attempts[call.callee]
        assert 0 <= call.ring < 5
        assert 0 <= call.talk < 5


def _hang(_call):
    time.sleep(1.5)
    return verdict("block")


@pytest.mark.parametrize(
    "answer",
    [
        _hang,
        lambda _: 500,
        lambda _: 404,
        lambda _: b"",
        lambda _: b"\x00\xff{",
        lambda _: b'{"action": "explode", "case": "x"}',
        lambda _: b'{"action": ["block"]}',
        lambda _: json.dumps({"action": "label", "score": None}).encode(),
        lambda _: b"[" * 5000,
    ],
)
def test_a_call_passes_on_every_invalid_answer_of_the_service(dial, service, beside, answer):
    service.answer = answer
    assert dial(beside.port).call(MOBILE, "+8613900139000")[1].startswith(b"SIP/2.0 200")


def test_a_service_that_is_killed_stops_no_call(phones, tmp_path):
    service = Service(lambda _: verdict("pass"))
    with kamailio.Kamailio("http.cfg", phones, tmp_path, SCORER=f'"{service.url}"') as proxy:
        killer = threading.Timer(1.0, service.close)
        killer.start()
        load = kamailio.run_calls(proxy.port, tmp_path, 600, 300)
        killer.join()
    assert (load["completed"], load["failed"]) == (600, 0)
    assert 0 < len(service.attempts) < 600
