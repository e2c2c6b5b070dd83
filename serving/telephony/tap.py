"""A passive tap: calls and verdicts from copies of SIP messages, which change no call.

Messages come as HEP3 over UDP or TCP, as Kamailio, OpenSIPS, FreeSWITCH and Asterisk send them to a capture server. A
packet is "HEP3", its length, and chunks: vendor, type, length, value. The chunks that are read here are those of
vendor 0. Source: HEP/EEP revision 36 (sipcapture.org).

A message waits HOLD seconds, so that messages of one call are read
in the order of their capture. `CallTracker` makes call events of them for `Live`, as a proxy would over HTTP: an
attempt at the INVITE, and the end by the final answer or the BYE. A message that comes twice, or on both sides of a
proxy, counts once: a call is its Call-ID, and a final answer must be that of the first INVITE, by the branch of its
topmost Via.

Any bytes may come. Packets, messages that wait, connections and calls in progress are bounded. Packets that cannot be
read are counted, and the counts are logged at most once a minute.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import logging
import re
import socket
import struct
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

from callsieve.features.records import Call
from callsieve.serving.live.live import Live

from .service_loop import run_until_stopped
from .sip import Message, outcome_of, read_message, to_call

PORT = 9060
HOLD = 1.0  # seconds that a message waits for others of its call
WAITING = 50_000  # messages that wait; beyond it, the earliest is read at once
OPEN, CONNECTIONS = 200_000, 64  # calls in progress or just over, and senders over TCP
FIRST_PACKET = 10.0  # seconds for the first packet of a connection
LOG_EVERY = 60.0  # seconds
DEADLINE = 3600.0  # seconds; nothing waits for a verdict
MAX_ID = 256  # characters of a Call-ID, a branch or a tag
BUFFER = 4 << 20  # bytes of UDP packets that wait in the kernel
_CHALLENGES = (401, 407)
_WANTED = re.compile(rb"(INVITE|BYE) |SIP/2\.0 ([2-6]\d\d)(?: |\r|\n)", re.IGNORECASE)
_BRANCH = re.compile(r";\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE)
_TAG = re.compile(r";\s*tag\s*=\s*([^;,\s]+)", re.IGNORECASE)
_SEQUENCE = re.compile(r"(\d{1,10})\s+([A-Za-z]+)")
HEAD = struct.Struct("!4sH")
"""The first bytes of a packet: "HEP3", and the bytes of the whole packet."""
_CHUNK = struct.Struct("!HHH")
_NUMBER = struct.Struct("!I")
_SOURCE_4, _SOURCE_6, _SECONDS, _MICROSECONDS, _PROTOCOL, _PAYLOAD = 0x03, 0x05, 0x09, 0x0A, 0x0B, 0x0F
_SIP = b"\x01"
_LOG = logging.getLogger("callsieve.serving")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Packet(NamedTuple):
    """A SIP message on the wire: Unix seconds of its capture, the IP address that sent it, and its bytes."""

    at: float
    source: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Senders:
    """Facts about the addresses that send SIP messages.

    Attributes:
        switches: addresses of the switches that send copies. An INVITE from one is the other leg of a call.
        trusted: networks whose P-Asserted-Identity and verstat count (RFC 3325).
    """

    switches: Collection[str] = ()
    trusted: Collection[Network] = ()

    def are_trusted(self, source: str) -> bool:
        """Returns whether an address belongs to the trust domain."""
        address = ipaddress.ip_address(source)
        return any(address in network for network in self.trusted)


@dataclass(frozen=True, slots=True)
class SipEvent:
    """A message that begins, answers or ends a call.

    Attributes:
        status: of a final answer to an INVITE; 0 for an INVITE or a BYE.
        call: the attempt of an INVITE; None for other messages.
        sequence: number of the CSeq.
        tag: of the From header.
    """

    at: float
    call_id: str
    branch: str
    sequence: int
    tag: str
    status: int = 0
    phrase: str = ""
    call: Call | None = None


@dataclass(slots=True)
class _Dialog:
    """A call in progress, or just over: then `call` is None."""

    call: Call | None
    branch: str
    sequence: int
    tag: str
    answered: float | None = None


def packet_length(head: bytes) -> int:
    """Returns the bytes of a packet by its first bytes. Raises: ValueError: if they are not the head of HEP3."""
    name, length = HEAD.unpack(head)
    if name != b"HEP3" or length < HEAD.size:
        raise ValueError("a packet must start with HEP3 and its length")
    return int(length)


def read_packet(data: bytes) -> Packet | None:
    """Returns the SIP message in a packet; None if the packet carries something else, such as RTCP or a log line."""
    if len(data) < HEAD.size or packet_length(data[: HEAD.size]) != len(data):
        raise ValueError("a packet must have the length that it states")
    chunks: dict[int, bytes] = {}
    at = HEAD.size
    while at < len(data):
        if at + _CHUNK.size > len(data):
            raise ValueError("a chunk must have a whole head")
        vendor, kind, length = _CHUNK.unpack_from(data, at)
        if length < _CHUNK.size or at + length > len(data):
            raise ValueError("a chunk must lie within its packet")
        if vendor == 0:
            chunks[kind] = data[at + _CHUNK.size : at + length]
        at += length
    if chunks.get(_PROTOCOL) != _SIP or not chunks.get(_PAYLOAD):
        return None
    try:
        source = ipaddress.ip_address(chunks[_SOURCE_4] if _SOURCE_4 in chunks else chunks[_SOURCE_6])
        (seconds,), (fraction,) = (_NUMBER.unpack(chunks[kind]) for kind in (_SECONDS, _MICROSECONDS))
    except (KeyError, ValueError, struct.error):
        raise ValueError("a packet with SIP must have a source address and a time") from None
    return Packet(seconds + fraction / 1e6, str(source), chunks[_PAYLOAD])


def read_event(packet: Packet, senders: Senders) -> SipEvent | None:
    """Returns the event of a packet's SIP message; None if the message changes no call."""
    data = packet.message.lstrip(b"\r\n")
    if _WANTED.match(data) is None:
        return None
    message = read_message(data)
    sequence, method = _sequence(message)
    if method not in ("INVITE", "BYE"):
        return None
    call_id, sender = _bounded(message.first_value("call-id")), message.first_value("from")
    if not call_id:
        raise ValueError("a SIP message must have a Call-ID header")
    branch, tag = (_bounded(_parameter(*pair)) for pair in ((_BRANCH, message.first_value("via")), (_TAG, sender)))
    at, first = packet.at, message.first.split(" ", 2)
    if first[0].upper() == "SIP/2.0":
        if method == "BYE":
            return None
        return SipEvent(at, call_id, branch, sequence, tag, int(first[1]), " ".join(first[2:]))
    if method == "BYE":
        return SipEvent(at, call_id, branch, sequence, tag)
    if _TAG.search(message.first_value("to")) or packet.source in senders.switches:
        return None
    if len(first) < 3 or not sender:
        raise ValueError("an INVITE must have a Request-URI and a From header")
    call = to_call(
        round(at, 3),
        first[1],
        sender,
        asserted=message.first_value("p-asserted-identity"),
        privacy=message.first_value("privacy"),
        attestation_info=message.first_value("attestation-info"),
        trusted=senders.are_trusted(packet.source),
        trunk=packet.source,
    )
    return SipEvent(at, call_id, branch, sequence, tag, call=call)


class CallTracker:
    """Makes call events of SIP events, which it gets in the order of their time.

    Attributes:
        counts: `calls`: attempts. `ends`: ends. `evicted`: calls forgotten before their end, because OPEN others
            followed. `refused`: ends that `Live` refused.
    """

    def __init__(self, live: Live, write: Callable[[str], object]) -> None:
        """Knows no call yet.

        `write`: gets a line of JSON for each call: start (Unix ms), the caller's token, and the verdict.
        """
        self.counts: Counter[str] = Counter()
        self._live, self._write = live, write
        self._dialogs: OrderedDict[str, _Dialog] = OrderedDict()

    def take(self, event: SipEvent) -> None:
        """Records what an event changes."""
        dialog = self._dialogs.get(event.call_id)
        if event.call is not None:
            if dialog is None:
                self._begin(event, event.call)
            elif event.sequence > dialog.sequence and dialog.answered is None:  # the INVITE after a challenge
                dialog.branch, dialog.sequence = event.branch, event.sequence
        elif dialog is None or dialog.call is None:
            return
        elif not event.status:
            if dialog.answered is not None:
                ring, talk = dialog.answered - dialog.call.start, event.at - dialog.answered
                self._end(dialog, ring, talk, "answered", "caller" if event.tag == dialog.tag else "callee")
        elif event.branch == dialog.branch and dialog.answered is None and event.status not in _CHALLENGES:
            if event.status < 300:
                dialog.answered = event.at
            else:
                self._end(dialog, event.at - dialog.call.start, 0.0, *outcome_of(event.status, event.phrase))

    def _begin(self, event: SipEvent, call: Call) -> None:
        self.counts["calls"] += 1
        self._dialogs[event.call_id] = _Dialog(call, event.branch, event.sequence, event.tag)
        if len(self._dialogs) > OPEN:
            self.counts["evicted"] += self._dialogs.popitem(last=False)[1].call is not None
        verdict = self._live.attempt(call)
        keyed = self._live.in_progress.find(call)
        caller = "null" if keyed is None else f'"{keyed.caller}"'
        self._write(f'{{"start":{round(call.start * 1000)},"caller":{caller},"verdict":{verdict.to_json()}}}\n')

    def _end(self, dialog: _Dialog, ring: float, talk: float, outcome: str, released_by: str) -> None:
        call, dialog.call = dialog.call, None  # stays for messages that are sent again
        if call is None:
            return
        ring, talk = round(max(ring, 0.0), 3), round(max(talk, 0.0), 3)
        try:
            self._live.end(replace(call, ring=ring, talk=talk, outcome=outcome, released_by=released_by))
            self.counts["ends"] += 1
        except (ValueError, TypeError):
            self.counts["refused"] += 1


class Tap(asyncio.DatagramProtocol):
    """Receives packets, and hands their events to a tracker in the order of their capture.

    Attributes:
        counts: `packets`; `invalid`: packets or SIP messages that cannot be read. `early`: messages that were read
            before HOLD seconds, because too many waited. `full`: connections above CONNECTIONS.
    """

    def __init__(self, tracker: CallTracker, senders: Senders, clock: Callable[[], float] = time.monotonic) -> None:
        """Receives nothing yet."""
        self.counts: Counter[str] = Counter()
        self._tracker, self._senders, self._clock = tracker, senders, clock
        self._number = count()
        self._writers: set[asyncio.StreamWriter] = set()
        self._events: list[tuple[float, int, SipEvent]] = []  # a heap
        self._arrivals: deque[tuple[float, float]] = deque()  # when a message came, and when it was captured
        self._logged: dict[str, int] = {}
        self._log_at = 0.0

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Takes a packet. Never raises."""
        del addr
        self.counts["packets"] += 1
        try:
            packet = read_packet(data)
            event = None if packet is None else read_event(packet, self._senders)
        except ValueError:
            self.counts["invalid"] += 1
            return
        if event is not None:
            heapq.heappush(self._events, (event.at, next(self._number), event))
            self._arrivals.append((self._clock(), event.at))
            if len(self._events) > WAITING:
                self.counts["early"] += 1
                self._tracker.take(heapq.heappop(self._events)[-1])

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the packets of a connection, until it ends or sends anything else."""
        self._writers.add(writer)
        try:
            with closing(writer):
                if len(self._writers) > CONNECTIONS:
                    self.counts["full"] += 1
                    return
                async with asyncio.timeout(FIRST_PACKET):
                    self.datagram_received(await _framed(reader), None)
                while True:
                    self.datagram_received(await _framed(reader), None)
        except ValueError:
            self.counts["invalid"] += 1
        except (OSError, EOFError):  # a timeout is an OSError, too
            return
        finally:
            self._writers.remove(writer)

    def look(self) -> None:
        """Hands over the events that have waited for HOLD seconds, and those before them; logs new faults."""
        now = self._clock()
        until = 0.0
        while self._arrivals and self._arrivals[0][0] <= now - HOLD:
            until = max(until, self._arrivals.popleft()[1])
        while self._events and self._events[0][0] <= until:
            self._tracker.take(heapq.heappop(self._events)[-1])
        faults = {name: number for name, number in self.totals().items() if name not in ("packets", "calls", "ends")}
        if faults != self._logged and now >= self._log_at:
            self._logged, self._log_at = faults, now + LOG_EVERY
            _LOG.warning("tap: %s so far", _words(faults))

    def close(self) -> None:
        """Ends the connections, and hands over all events."""
        for writer in self._writers:
            writer.close()
        while self._events:
            self._tracker.take(heapq.heappop(self._events)[-1])
        _LOG.info("tap: %s", _words(self.totals()))

    def totals(self) -> dict[str, int]:
        """Returns all counts above 0."""
        return {name: number for name, number in (self.counts + self._tracker.counts).items() if number}


async def serve(
    live: Live,
    write: Callable[[str], object],
    senders: Senders,
    host: str = "127.0.0.1",
    port: int = PORT,
    *,
    reload: Callable[[], object],
) -> None:
    """Serves over UDP and TCP until SIGTERM or SIGINT; `reload` is as in `run_until_stopped`."""
    tap = Tap(CallTracker(live, write), senders)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: tap, (host, port))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    with closing(transport):
        async with await asyncio.start_server(tap.connection, host, port):
            await run_until_stopped(live, f"HEP3 over UDP and TCP on {host}:{port}", reload, tap.look)
            tap.close()


async def _framed(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(HEAD.size)
    return head + await reader.readexactly(packet_length(head) - HEAD.size)


def _sequence(message: Message) -> tuple[int, str]:
    match = _SEQUENCE.fullmatch(message.first_value("cseq"))
    if match is None:
        raise ValueError("a SIP message must have a CSeq header")
    return int(match[1]), match[2].upper()


def _parameter(pattern: re.Pattern[str], value: str) -> str:
    match = pattern.search(value)
    return match[1] if match else ""


def _bounded(value: str) -> str:
    if len(value) > MAX_ID:
        raise ValueError(f"a Call-ID, a branch and a tag must have at most {MAX_ID} characters")
    return value


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
