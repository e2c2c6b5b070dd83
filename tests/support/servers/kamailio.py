"""Real Kamailio and SIPp for tests and benches: a proxy for the duration of a test, callers, and a phone."""

import contextlib
import csv
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

from tests.support.debian import program
from tests.support.paths import ROOT

SCRIPTS = ROOT / "serving" / "telephony" / "kamailio"
CALLER, PHONE = (Path(__file__).parent / "sipp" / name for name in ("caller.xml", "phone.xml"))


def free_port():
    """Returns a UDP port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# A proxy answers this itself as soon as it receives messages.
PROBE = b"""\
OPTIONS sip:ready@127.0.0.1 SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKready;rport\r
Max-Forwards: 0\r
From: <sip:a@127.0.0.1>;tag=a\r
To: <sip:b@127.0.0.1>\r
Call-ID: ready\r
CSeq: 1 OPTIONS\r
Content-Length: 0\r
\r
"""


class Kamailio:
    """A running proxy, by the name of its script or by a path; leaving the block stops it."""

    def __init__(self, config, next_hop, folder, *, memory=512, **defines):
        self.kamailio, self.port, self.folder = program("kamailio"), free_port(), folder
        self.control = folder / "control"
        names = {"LISTEN": f"udp:127.0.0.1:{self.port}", "NEXT_HOP": f'"sip:127.0.0.1:{next_hop}"'}
        names |= {"CONTROL": f'"unix:{self.control}"'} | defines
        options = [part for name, value in names.items() for part in ("-A", f"{name}={value}")]
        self.log = folder / "kamailio.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.kamailio, "-f", config if isinstance(config, Path) else SCRIPTS / config, "-DD", "-E"),
                    *("-m", str(memory), "-b", "4194304"),  # a burst waits: a message lost is a second of a call
                    *options,
                ],
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
            probe.settimeout(0.05)
            for _ in range(200):
                probe.sendto(PROBE, ("127.0.0.1", self.port))
                with contextlib.suppress(OSError):
                    if probe.recv(65_535).startswith(b"SIP/2.0 483"):
                        return self
        raise AssertionError(self.log.read_text(errors="replace")[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(70)  # Kamailio itself waits up to 60 s for its processes
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def answering_phone():
    """Yields the port of a SIPp that answers every call, as the phones behind the proxy."""
    port = free_port()
    with sipp("-sf", PHONE, "-p", port, "-i", "127.0.0.1", "-nostdin", "-buff_size", 4_000_000):
        time.sleep(0.2)
        yield port


@contextlib.contextmanager
def sipp(*arguments, folder=None):
    """Runs SIPp in the background."""
    command = [program("sipp"), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def write_numbers(folder, count=5000, seed=1):
    """Writes a file of callers and callees for SIPp."""
    rng = np.random.default_rng(seed)
    # A few callers make half of the calls, so that some scores are high.
    is_frequent = rng.random(count) < 0.5
    callers = 13_800_000_000 + np.where(is_frequent, rng.integers(0, 20, count), rng.integers(20, 2000, count))
    callees = 13_900_000_000 + rng.integers(0, 20_000, count)
    path = folder / "numbers.csv"
    path.write_text("SEQUENTIAL\n" + "".join(f"+86{a};+86{b}\n" for a, b in zip(callers, callees, strict=True)))
    return path


def run_calls(port, folder, count, rate, *, seconds=60, limit=20_000):
    """Places calls with SIPp and returns their counts and response times.

    Returns:
        dict with placed, completed, failed, blocked, retransmitted, seconds, waits (array of ms).
    """
    for stale in folder.glob("caller_*"):
        stale.unlink()
    stat = folder / "stat.csv"
    stat.unlink(missing_ok=True)
    options = ["-sf", CALLER, "-inf", write_numbers(folder), "-i", "127.0.0.1", "-p", free_port(), "-nostdin"]
    options += ["-m", count, "-r", rate, "-l", limit, "-trace_stat", "-stf", stat, "-fd", 1, "-trace_rtt"]
    options += ["-rtt_freq", 1, "-timeout", f"{seconds}s", "-recv_timeout", 10_000, "-buff_size", 4_000_000]
    began = time.monotonic()
    subprocess.run(
        [program("sipp"), *map(str, options), f"127.0.0.1:{port}"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=seconds + 30,
    )  # fmt: skip
    took = time.monotonic() - began
    with stat.open() as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    waits = [row.split(";")[1] for path in folder.glob("caller_*rtt.csv") for row in path.read_text().splitlines()[1:]]
    return {
        "placed": int(last["TotalCallCreated"]), "completed": int(last["SuccessfulCall(C)"]),
        "failed": int(last["FailedCall(C)"]), "blocked": int(last["blocked(C)"]),
        "retransmitted": int(last["Retransmissions(C)"]), "seconds": took, "waits": np.array(waits, dtype=float),
    }  # fmt: skip


INVITE = """\
INVITE sip:{callee}@127.0.0.1:{proxy} SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{call};rport\r
Max-Forwards: 70\r
From: {sender};tag=caller\r
To: <sip:{callee}@127.0.0.1>\r
Call-ID: {call}@caller\r
CSeq: 1 INVITE\r
Contact: <sip:caller@127.0.0.1:{port}>\r
{more}Content-Length: 0\r
\r
"""


class Caller:
    """A telephone on one UDP socket that places one call after the other."""

    def __init__(self, proxy):
        self.proxy, self.placed = proxy, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]

    def call(self, caller, callee, *more, talk=True):
        """Places a call, acknowledges the final response, and hangs up; returns the INVITE and the response."""
        self.placed += 1
        sender = caller if "<" in caller else f"<sip:{caller}@127.0.0.1>"
        fields = {"proxy": self.proxy, "port": self.port, "call": f"c{self.port}x{self.placed}"}
        lines = "".join(f"{line}\r\n" for line in more)
        invite = INVITE.format(**fields, sender=sender, callee=callee, more=lines).encode()
        self._send(invite)
        response = self._final()
        if response.startswith(b"SIP/2.0 200"):
            self._send(self._within(invite, response, b"ACK", 1))
            if talk:
                self._send(self._within(invite, response, b"BYE", 2))
                self._final()
        else:
            to = re.search(rb"\r\nTo: [^\r]*", response)[0]
            ack = re.sub(rb"\r\nTo: [^\r]*", lambda _: to, invite).replace(b"INVITE sip:", b"ACK sip:", 1)
            self._send(ack.replace(b"1 INVITE", b"1 ACK"))
        return invite, response

    def _within(self, invite, response, method, number):
        target = re.search(rb"\r\nContact: <([^>]*)>", response)[1]
        head = [line for line in invite.split(b"\r\n") if re.match(rb"(Max-Forwards|From|Call-ID):", line)]
        to = re.search(rb"\r\n(To: [^\r]*)", response)[1]
        routes = [b"Route: " + route for route in re.findall(rb"\r\nRecord-Route: ([^\r]*)", response)]
        via = b"Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK%d%b;rport" % (self.port, self.placed, method)
        sequence = b"CSeq: %d %b" % (number, method)
        lines = [b"%b %b SIP/2.0" % (method, target), via, *routes, *head, to, sequence, b"Content-Length: 0", b"", b""]
        return b"\r\n".join(lines)

    def _send(self, message):
        self.socket.sendto(message, ("127.0.0.1", self.proxy))

    def _final(self):
        while True:
            response = self.socket.recv(65_535)
            if not response.startswith(b"SIP/2.0 1"):
                return response


class Phone:
    """A telephone on one UDP socket; the last three digits of the called number choose its response."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.got = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.socket.recvfrom(65_535)
                self.got.append(data)
                method = data.split(b" ", 1)[0]
                if method == b"INVITE":
                    status = re.search(rb"INVITE sip:\S*?(\d{3})@", data)[1]
                    self._answer(data, peer, status if status in (b"486", b"603", b"607") else b"200")
                elif method in (b"BYE", b"CANCEL"):
                    self._answer(data, peer, b"200")

    def _answer(self, data, peer, status):
        headers = [line for line in data.split(b"\r\n") if re.match(rb"(Via|From|To|Call-ID|CSeq|Record-Route):", line)]
        headers = [line + b";tag=phone" * (line.startswith(b"To:") and b"tag=" not in line) for line in headers]
        contact = b"Contact: <sip:127.0.0.1:%d>" % self.port
        lines = [b"SIP/2.0 %b Answer" % status, *headers, contact, b"Content-Length: 0", b"", b""]
        self.socket.sendto(b"\r\n".join(lines), peer)

    def close(self):
        """Closes the socket."""
        self.socket.close()
