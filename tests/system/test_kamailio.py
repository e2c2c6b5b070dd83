"""Real Kamailio with a service: verdicts become answers and labels, and no fault of the service stops a call."""

import contextlib
import itertools
import json
import math
import re
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
from callsieve.serving.telephony import sip
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.servers import kamailio
from tests.support.servers.odd_invites import ODD_INVITES, mutants, place_calls
from tests.support.waiting import wait_until

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

    def __init__(self, answer, port=0):
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

        self.server = Server(("127.0.0.1", port), Handler)
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


@pytest.fixture(scope="module")
def odd_calls(tmp_path_factory):
    """The answer to each INVITE of the table, the calls that the service read, and the log of the proxy."""
    folder = tmp_path_factory.mktemp("odd")
    real_bundle.write_signed(folder, **everything_reached())
    (folder / "policy.toml").write_text(f'version = "test"\nappeal = "office"\nhistory_days = 0\n[bands]\n{POLICY}')
    swap = live_states.loaded(folder / "bundle", policy=read_policy(folder / "policy.toml"))
    live = Live(swap, Intake(real_bundle.NUMBER_KEY), folder / "state", deadline=5.0, limits=Limits(10_000, 1_000))
    service = Service(live.attempt)
    more = {"DEADLINE": PATIENT, "TRUSTED": '"^127[.]0[.]0[.]1$"', "SCORER": f'"{service.url}"'}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        with kamailio.Kamailio("http.cfg", phone.getsockname()[1], folder, **more) as proxy:
            answers = place_calls(proxy.port, phone)
            read = list(service.attempts)
            for message in mutants(500):
                phone.sendto(message, ("127.0.0.1", proxy.port))
            assert any(place_calls(proxy.port, phone, ODD_INVITES[:1]))  # the proxy is alive
            log = proxy.log.read_text(errors="replace")
    service.close()
    live.close()
    return answers, read, log


def test_each_odd_invite_is_read_as_a_person_reads_it(odd_calls):
    answers, calls, _ = odd_calls
    assert len(ODD_INVITES) > 200
    scored = [odd for odd in ODD_INVITES if odd.caller is not None]
    expected = [(odd.caller, odd.network, odd.attestation, odd.callee, "127.0.0.1") for odd in scored]
    assert [(call.caller, call.network_caller, call.attestation, call.callee, call.trunk) for call in calls] == expected
    refused = {answer.split(b"\r\n", 1)[0] for odd, answer in zip(ODD_INVITES, answers, strict=True) if not odd.caller}
    assert {line for line in refused if line.startswith(b"SIP")} >= {b"SIP/2.0 400 Bad From"}
    assert any(answer.startswith(b"SIP/2.0 603 ") for answer in answers)
    assert any(answer.startswith(b"INVITE ") and header(answer, "Call-Info") for answer in answers)


def test_no_sender_can_fill_the_log(odd_calls):
    log = odd_calls[2]
    assert "1380013" not in log
    lines = [line for line in log.splitlines() if re.search("ERROR|WARNING|CRITICAL|BUG|ALERT", line)]
    assert [line for line in lines if "timer" not in line] == []  # a busy machine is late


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
    text = "v=analytics1;url=https://redress.carrier.example;id=00112233aabbccdd"
    assert header(blocked, "Reason") == (f'SIP;cause=603;text="{text}";location=RLN',)
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
        parameters = label if label.startswith("purpose=") else f"purpose=info;{label}"
        assert call_info == (f"<https://redress.carrier.example>;source=carrier.example;{parameters}",)


def test_the_service_receives_the_outcome_of_a_call(dial, service, beside):
    caller, began, before = dial(beside.port), time.time(), len(service.bodies)
    callees = {"+8613900139000", "+8613900139486", "+8613900139603", "+8613900139607"}
    for callee in sorted(callees):
        caller.call(MOBILE, callee)
    observed = lambda: [call for call in service.observed if call.start >= began - 0.001]
    wait_until(lambda: len(observed()) == 8)  # the process of the caller, and that of the callee
    by_callee = [body for path, body in service.bodies[before:] if path == "/v1/observe?by=callee"]
    assert {json.loads(body)["callee"] for body in by_callee} == callees
    outcomes = {call.callee[-3:]: (call.outcome, call.released_by) for call in observed()}
    assert outcomes == {
        "000": ("answered", "caller"),
        "486": ("busy", "callee"),
        "603": ("rejected", "callee"),
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


def test_a_blocked_call_is_answered_608_with_the_contact_card_of_the_command_line(dial, phone, tmp_path):
    service, card = Service(lambda _: verdict("block")), "https://redress.carrier.example/card.jws"
    more = {"SCORER": f'"{service.url}"', "DEADLINE": PATIENT, "CARD": f'"{card}"'}
    with kamailio.Kamailio("http.cfg", phone.port, tmp_path, **more) as proxy:
        answer = dial(proxy.port).call(MOBILE, "+8613900139000")[1]
    service.close()
    assert answer.startswith(b"SIP/2.0 608 Rejected\r\n")
    assert header(answer, "Call-Info") == (f"<{card}>;purpose=jwscard",)  # RFC 8688, section 3.2


@pytest.mark.parametrize("room", [10_000, 7])
def test_ends_of_calls_without_the_service_are_kept_within_a_bound_and_reported_later(dial, phone, tmp_path, room):
    script, size = (kamailio.SCRIPTS / "http.cfg").read_text(), '"name=ends;size=10000"'
    assert script.count(size) == 1
    (tmp_path / "http.cfg").write_text(script.replace(size, f'"name=ends;size={room}"'))
    service = Service(lambda _: verdict("pass"))
    more = {"SCORER": f'"{service.url}"', "DEADLINE": PATIENT}
    with kamailio.Kamailio(tmp_path / "http.cfg", phone.port, tmp_path, **more) as proxy:
        caller = dial(proxy.port)
        caller.call(MOBILE, "+8613900139000")
        wait_until(lambda: len(service.observed) == 1)
        service.close()
        callees = [
            f"+86139001{number:02}{last}" for number, last in itertools.product(range(10), ("000", "486", "603"))
        ]
        for callee in callees:
            answer = caller.call(MOBILE, callee)[1]
            assert answer.startswith(b"SIP/2.0 " + {"000": b"200"}.get(callee[-3:], callee[-3:].encode()))
        time.sleep(1.5)  # some reports are tried again, and fail again
        again = Service(lambda _: verdict("pass"), port=service.server.server_port)
        expected = len(callees) if room > len(callees) else room
        wait_until(lambda: len(again.observed) >= expected)
        time.sleep(1.2)
        assert proxy.process.poll() is None
    again.close()
    reported = [call.callee for call in again.observed]
    assert len(reported) == len(set(reported)) == expected and set(reported) <= set(callees)
    outcomes = {call.callee[-3:]: call.outcome for call in again.observed}
    assert outcomes.items() <= {"000": "answered", "486": "busy", "603": "rejected"}.items()
    log = proxy.log.read_text(errors="replace")
    assert sum("ERROR" in line for line in log.splitlines()) < 60 and "+86139001" not in log
