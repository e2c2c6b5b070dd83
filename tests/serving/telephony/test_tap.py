"""Copies of SIP messages become the calls that a person reads in them, in any order and for any bytes."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import random
import struct
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.records import Call
from callsieve.serving.telephony import tap as module
from callsieve.serving.telephony.tap import HOLD, CallTracker, Packet, Senders, Tap, read_packet
from tests.support import live_states, real_bundle
from tests.support.http_service import STRICT_POLICY

TRUNK, PROXY, PHONE = "192.0.2.1", "192.0.2.9", "192.0.2.2"
START = real_bundle.START
CALLER, CALLEE = "<sip:+8613800138000@a.example>;tag=a", "<sip:+8613900139000@b.example>"
INVITE = "INVITE sip:+8613900139000@b.example SIP/2.0"


def hep(at, message, source=TRUNK, protocol=1):
    """Returns a packet as the specification of HEP3 has it; time in ms after START."""
    address = ipaddress.ip_address(source)
    family, kind = (2, 3) if address.version == 4 else (10, 5)
    micro = round((START + at / 1000) * 1e6)
    chunks = [(0, 1, bytes([family])), (0, kind, address.packed), (0, 9, struct.pack(">I", micro // 10**6))]
    chunks += [(0, 10, struct.pack(">I", micro % 10**6)), (0, 11, bytes([protocol])), (3, 15, b"of a vendor")]
    chunks += [(0, 15, message)]
    body = b"".join(struct.pack(">HHH", vendor, kind, 6 + len(value)) + value for vendor, kind, value in chunks)
    return b"HEP3" + struct.pack(">H", 6 + len(body)) + body


def sip(first, cseq, *branches, call_id="c1", sender=CALLER, to=CALLEE, more=()):
    """Returns a message with a Via for each branch, the topmost first."""
    vias = [f"Via: SIP/2.0/UDP host.example;branch={branch};rport" for branch in branches]
    lines = [first, *vias, f"From: {sender}", f"To: {to}", f"i: {call_id}", f"CSeq: {cseq}", *more, "", ""]
    return "\r\n".join(lines).encode()


def request(at, first, cseq, branch="in", out="out", **more):
    """Returns the copies of a request on both sides of a proxy."""
    return [hep(at, sip(first, cseq, branch, **more)), hep(at + 1, sip(first, cseq, out, branch, **more), PROXY)]


def answer(at, first, cseq, branch="in", out="out", **more):
    """Returns the copies of an answer on both sides of a proxy."""
    both = hep(at - 1, sip(first, cseq, out, branch, **more), PHONE), hep(at, sip(first, cseq, branch, **more), PROXY)
    return list(both)


def bye(at, sender=CALLER, to=f"{CALLEE};tag=b", **more):
    return request(at, "BYE sip:x SIP/2.0", "9 BYE", "bye", "byeout", sender=sender, to=to, **more)


BEGIN = request(0, INVITE, "1 INVITE") + answer(5, "SIP/2.0 100 Trying", "1 INVITE")
RINGING = BEGIN + answer(200, "SIP/2.0 180 Ringing", "1 INVITE")
OK = answer(4000, "SIP/2.0 200 OK", "1 INVITE", to=f"{CALLEE};tag=b")
ANSWERED = RINGING + OK + request(4100, "ACK sip:x SIP/2.0", "1 ACK", "ack", "ackout", to=f"{CALLEE};tag=b")
BYE_OK = answer(9050, "SIP/2.0 200 OK", "9 BYE", "bye", "byeout")
AGAIN = request(3000, "INVITE sip:x SIP/2.0", "2 INVITE", "in2", "out2")
WITHIN = request(5000, "INVITE sip:x SIP/2.0", "3 INVITE", "re", "reout", to=f"{CALLEE};tag=b")
WITHIN += answer(5100, "SIP/2.0 488 Not Acceptable Here", "3 INVITE", "re", "reout")
BY_CALLEE = bye(9000, sender=f"{CALLEE};tag=b", to=CALLER)
# By name: the packets, and ring, talk, outcome and releaser of the one call; None of a call that is not over.
SCENARIOS = {
    "the caller hangs up": (ANSWERED + bye(9000) + BYE_OK, (4.0, 5.0, "answered", "caller")),
    "the callee hangs up": (ANSWERED + BY_CALLEE, (4.0, 5.0, "answered", "callee")),
    "busy": (RINGING + answer(700, "SIP/2.0 486 Busy Here", "1 INVITE"), (0.7, 0.0, "busy", "callee")),
    "603+": (BEGIN + answer(50, "SIP/2.0 603 Network Blocked", "1 INVITE"), (0.05, 0.0, "blocked", "network")),
    "no phrase": (BEGIN + answer(50, "SIP/2.0 607", "1 INVITE"), (0.05, 0.0, "unwanted", "callee")),
    "cancelled": (
        [*RINGING, *request(6000, "CANCEL sip:x SIP/2.0", "1 CANCEL"), *answer(6010, "SIP/2.0 200 OK", "1 CANCEL"),
         *answer(6020, "SIP/2.0 487 Request Terminated", "1 INVITE")],
        (6.02, 0.0, "no_answer", "caller"),
    ),
    "cancelled too late": (
        [*ANSWERED[:-4], *request(3999, "CANCEL sip:x SIP/2.0", "1 CANCEL"), *ANSWERED[-4:], *bye(9000)],
        (4.0, 5.0, "answered", "caller"),
    ),
    "challenged": (
        [*BEGIN, *answer(20, "SIP/2.0 407 Proxy Authentication Required", "1 INVITE"), *AGAIN,
         *answer(8000, "SIP/2.0 200 OK", "2 INVITE", "in2", "out2"), *bye(9000)],
        (8.0, 1.0, "answered", "caller"),
    ),
    "forked": (
        [*RINGING, answer(300, "SIP/2.0 486 Busy Here", "1 INVITE")[0], *OK, *bye(9000)],
        (4.0, 5.0, "answered", "caller"),
    ),
    "changed within": (ANSWERED + WITHIN + bye(9000), (4.0, 5.0, "answered", "caller")),
    "sent again": (
        [*BEGIN, *BEGIN, *ANSWERED, hep(4500, sip("SIP/2.0 200 OK", "1 INVITE", "in"), PROXY), *bye(9000), *bye(9500),
         hep(9900, sip(INVITE, "1 INVITE", "in"))],
        (4.0, 5.0, "answered", "caller"),
    ),
    "hung up before the answer": (
        RINGING + bye(500) + answer(510, "SIP/2.0 487 Request Terminated", "1 INVITE"),
        (0.51, 0.0, "no_answer", "caller"),
    ),
    "in progress": ([*ANSWERED, hep(9000, sip("BYE sip:x SIP/2.0", "9 BYE", "x", call_id="c2"))], None),
    "challenged only": (BEGIN + answer(20, "SIP/2.0 401 Unauthorized", "1 INVITE"), None),
}  # fmt: skip


class Recorder:
    """Records attempts and ends in place of a live state."""

    def __init__(self):
        self.attempts, self.ends = [], []
        self.in_progress = SimpleNamespace(find=lambda _call: SimpleNamespace(caller="token"))

    def attempt(self, call):
        self.attempts.append(call)
        return SimpleNamespace(to_json=lambda: "{}")

    def end(self, call):
        self.ends.append(call)


NO_SENDERS = Senders()


def read_all(packets, senders=NO_SENDERS):
    """Returns the record of a tap that gets all packets at once, and its counts."""
    recorder, moment = Recorder(), [0.0]
    tap = Tap(CallTracker(recorder, lambda _line: None), senders, lambda: moment[0])
    for packet in packets:
        tap.datagram_received(packet, None)
    moment[0] = HOLD
    tap.look()
    return recorder, tap.totals()


@pytest.mark.source("L37", by="serving/telephony/tap.py")
@pytest.mark.parametrize("name", SCENARIOS)
def test_copies_in_any_order_become_one_call(name):
    packets, end = SCENARIOS[name]
    begun = Call(start=START, caller="+8613800138000", callee="+8613900139000", trunk=TRUNK)
    rng = random.Random(name)
    for _ in range(12):
        recorder, counts = read_all(rng.sample(packets, len(packets)))
        assert recorder.attempts == [begun] and "invalid" not in counts
        ends = [] if end is None else [dict(zip(("ring", "talk", "outcome", "released_by"), end, strict=True))]
        assert recorder.ends == [replace(begun, **fields) for fields in ends]


def test_messages_that_come_later_than_they_wait_for_each_other_end_the_call():
    recorder, moment = Recorder(), [0.0]
    tap = Tap(CallTracker(recorder, lambda _line: None), Senders(), lambda: moment[0])
    for packet in ANSWERED + bye(9000):
        tap.datagram_received(packet, None)
        tap.look()
        assert moment[0] >= HOLD or not recorder.attempts
        moment[0] += HOLD / 3
    moment[0] += HOLD
    tap.look()
    assert [call.talk for call in recorder.ends] == [5.0]


def test_a_leg_that_the_switch_begins_is_no_call():
    """FreeSWITCH and Asterisk call the phone under another Call-ID."""
    other = [hep(2, sip(INVITE, "1 INVITE", "leg", call_id="c2"), PROXY)]
    other += [hep(3999, sip("SIP/2.0 200 OK", "1 INVITE", "leg", call_id="c2"), PHONE)]
    other += bye(8990, call_id="c2")
    assert len(read_all(ANSWERED + other + bye(9000))[0].attempts) == 2
    recorder, _ = read_all(ANSWERED + other + bye(9000), Senders(switches={PROXY}))
    assert [call.trunk for call in recorder.attempts] == [TRUNK] and len(recorder.ends) == 1


def test_the_numbers_of_trusted_networks_count():
    more = ["P-Asserted-Identity: <tel:+8613800138001;verstat=TN-Validation-Passed-B>"]
    packet = hep(0, sip(INVITE, "1 INVITE", "in", more=more), "2001:db8::7")
    read = lambda *networks: read_all([packet], Senders(trusted=list(map(ipaddress.ip_network, networks))))[0].attempts
    (call,) = read("192.0.2.0/24", "2001:db8::/64")
    assert (call.network_caller, call.attestation, call.trunk) == ("+8613800138001", "B", "2001:db8::7")
    (call,) = read("2001:db8:1::/64")
    assert (call.network_caller, call.attestation) == (None, "unknown")


def test_each_call_gets_a_line_with_the_verdict_of_the_live_state_and_no_number(tmp_path):
    real_bundle.write_signed(tmp_path)
    live, lines = live_states.begin(live_states.loaded(tmp_path / "bundle", policy=STRICT_POLICY), tmp_path / "s"), []
    with contextlib.closing(live):
        tap = Tap(CallTracker(live, lines.append), Senders())
        for packet in ANSWERED + bye(9000):
            tap.datagram_received(packet, None)
        tap.close()
        counts = dict(live.counts)
    (line,) = map(json.loads, lines)
    assert line["start"] == round(START * 1000) and line["verdict"]["status"] == "scored"
    assert (counts["attempts"], counts["ends"], counts["faults"]) == (1, 1, 0)
    other = live_states.begin(live_states.loaded(tmp_path / "bundle", policy=STRICT_POLICY), tmp_path / "other")
    with contextlib.closing(other):
        call = Call(START, "+8613800138000", "+8613900139000", trunk=TRUNK)
        assert line["verdict"] == json.loads(other.attempt(call).to_json())
    assert "138001" not in lines[0] and "139001" not in lines[0]


@pytest.mark.parametrize("data", [
    b"", b"HEP3", b"HEP2" + ANSWERED[0][4:], ANSWERED[0][:-1], ANSWERED[0] + b"x", b"HEP3\0\6\0", b"HEP3\0\5",
    b"HEP3\0\x0b" + bytes(5), b"HEP3\0\x0c" + struct.pack(">HHH", 0, 1, 5),
    b"HEP3\0\x0c" + struct.pack(">HHH", 0, 1, 9),
    hep(0, b"x").replace(struct.pack(">HHH", 0, 9, 10), struct.pack(">HHH", 5, 9, 10)),
    hep(0, b"x").replace(struct.pack(">HHH", 0, 3, 10), struct.pack(">HHH", 5, 3, 10)),
])  # fmt: skip
def test_invalid_packets_are_refused(data):
    with pytest.raises(ValueError, match=r"^a (packet|chunk) (with SIP )?must"):
        read_packet(data)


def test_packets_without_sip_are_ignored():
    assert read_packet(hep(0, b"{}", protocol=5)) is None
    assert read_packet(hep(0, b"")) is None  # a sign of life
    assert read_packet(hep(250, b"x", "2001:db8::7")) == Packet(START + 0.25, "2001:db8::7", b"x")


@settings(max_examples=150)
@given(data=st.binary(max_size=300), at=st.integers(0, 2000), packet=st.sampled_from(ANSWERED + WITHIN))
def test_any_bytes_are_counted_and_stop_nothing(data, at, packet):
    message = read_packet(packet).message
    broken = [data, packet[: at % len(packet)] + data + packet[at % len(packet) + len(data) :]]
    broken += [hep(0, data), hep(0, message[: at % len(message)] + data + message[at % len(message) :])]
    recorder, _ = read_all([*broken, hep(0, sip(INVITE, "1 INVITE", "in", call_id="after"))])
    assert any(call.caller == "+8613800138000" for call in recorder.attempts)


def test_faults_are_logged_once_a_minute_without_a_number(caplog):
    moment = [0.0]
    tap = Tap(CallTracker(Recorder(), lambda _line: None), Senders(), lambda: moment[0])
    with caplog.at_level(logging.INFO):
        for second in range(120):
            moment[0] = float(second)
            tap.datagram_received(hep(0, INVITE.encode() + b"\r\nFrom +8613800138000\r\n\r\n"), None)
            tap.look()
    assert [record.getMessage() for record in caplog.records] == ["tap: 1 invalid so far", "tap: 61 invalid so far"]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "OPEN", 3)
    monkeypatch.setattr(module, "WAITING", 5)
    calls = [hep(at, sip(INVITE, "1 INVITE", "in", call_id=f"c{at}")) for at in range(20)]
    ends = [hep(100 + at, sip("SIP/2.0 486 Busy", "1 INVITE", "in", call_id=f"c{at}")) for at in range(20)]
    recorder, counts = read_all(calls + ends)
    assert len(recorder.attempts) == 20 and [call.start for call in recorder.ends] == [
        round(START + at / 1000, 3) for at in (17, 18, 19)
    ]
    assert (counts["early"], counts["evicted"]) == (35, 17)
    for call_id in ("c" * 300, ""):
        invite = sip(INVITE, "1 INVITE", "in", call_id=call_id)
        assert read_all([hep(0, invite)])[1] == {"packets": 1, "invalid": 1}


def test_packets_over_tcp_are_read_in_pieces_and_garbage_ends_the_connection(monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS", 3)
    recorder = Recorder()
    tap = Tap(CallTracker(recorder, lambda _line: None), Senders())
    data = b"".join(ANSWERED + bye(9000))

    async def run():
        async with await asyncio.start_server(tap.connection, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            connections = [await asyncio.open_connection(*address) for _ in range(4)]
            assert await connections[3][0].read() == b""  # one too many
            connections[0][1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert await connections[0][0].read() == b""
            for begin in range(0, len(data), 99):
                connections[1][1].write(data[begin : begin + 99])
                await connections[1][1].drain()
            while tap.counts["packets"] < len(ANSWERED + bye(9000)):
                await asyncio.sleep(0.01)
            tap.close()
            assert await connections[2][0].read() == b""
            for _, writer in connections:
                writer.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert [call.talk for call in recorder.ends] == [5.0]
    assert tap.counts == {"packets": len(ANSWERED + bye(9000)), "full": 1, "invalid": 1}
