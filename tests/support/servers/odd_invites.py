"""A table of odd INVITEs, each with the facts that a reader must find in it.

A row changes one header of a plain INVITE from a trusted peer. Its facts are written by hand: the caller, the network's
caller, the attestation and the callee.
"""

import random
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CALLER, CALLEE = "+8613800138000", "+8613900139000"
NUL = b"\0"
LONG = "1" * 128
EMOJI = "\N{TELEPHONE RECEIVER}"


@dataclass(frozen=True)
class OddInvite:
    """An INVITE as a function of its place in the table, and the facts in it; `caller` is None if it is not scored."""

    request: bytes
    headers: tuple[bytes, ...]
    caller: str | None
    network: str | None = None
    attestation: str = "unknown"
    callee: str = CALLEE

    def message(self, number: int, port: int) -> bytes:
        """Returns the INVITE with a Via, a Call-ID and a branch of its own."""
        via = b"Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKodd%dx%d;rport" % (port, port, number)
        rest = (b"To: <sip:callee@127.0.0.1>", b"Call-ID: odd%d@caller" % number, b"CSeq: 1 INVITE")
        contact = b"Contact: <sip:caller@127.0.0.1:%d>" % port
        lines = (self.request, via, b"Max-Forwards: 70", *self.headers, *rest, contact, b"Content-Length: 0", b"", b"")
        return b"\r\n".join(lines)


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def _row(*headers, sender=f"<sip:{CALLER}@a.example>;tag=1", target=f"sip:{CALLEE}@127.0.0.1", **facts):
    first = [] if sender is None else [b"From: " + _bytes(sender)]
    request = b"INVITE " + _bytes(target) + b" SIP/2.0"
    return OddInvite(request, (*first, *map(_bytes, headers)), **{"caller": CALLER} | facts)


# From headers, and the caller in them. Unreadable ones are "?", an irregular number; hidden ones are "".
READ = (
    f"sip:{CALLER}@a.example;tag=1", f"<sip:{CALLER}@a.example>", f"<SIP:{CALLER}@A.EXAMPLE>;tag=1",
    f"<sips:{CALLER}@a.example>;tag=1", f"<sip:{CALLER}@a.example:5062;user=phone>;tag=1",
    f"<sip:{CALLER};rn=+861380;npdi@a.example>;tag=1",
    f"<sip:{CALLER};phone-context=example.com@a.example;user=phone>;tag=1", f"<sip:{CALLER}:secret@a.example>;tag=1",
    f"<sip:{CALLER}@[2001:db8::1]>;tag=1", f"<sip:{CALLER}@a.example?Subject=x>;tag=1",
    f"<sip:{CALLER}@a.example;maddr=10.0.0.1;transport=udp>;tag=1", f"<sip:{CALLER}@a.example> ; tag=1",
    f'"A" <sip:{CALLER}@a.example>;tag=1', f'"A"<sip:{CALLER}@a.example>;tag=1', f'"" <sip:{CALLER}@a.example>;tag=1',
    f"A B <sip:{CALLER}@a.example>;tag=1", f'"A, B; C" <sip:{CALLER}@a.example>;tag=1',
    f'"A \\" B" <sip:{CALLER}@a.example>;tag=1', f'"A \\\\" <sip:{CALLER}@a.example>;tag=1',
    f'"<sip:110@b.example>" <sip:{CALLER}@a.example>;tag=1',
    f'"\\"<sip:110@b.example>\\"" <sip:{CALLER}@a.example>;tag=1', f'"; {{}}" <sip:{CALLER}@a.example>;tag=1',
    f'"%00" <sip:{CALLER}@a.example>;tag=1', f'"$$(var)" <sip:{CALLER}@a.example>;tag=1',
    f'"{{s.len}} $ru" <sip:{CALLER}@a.example>;tag=1', f'"中国移动" <sip:{CALLER}@a.example>;tag=1',
    f'"{EMOJI}" <sip:{CALLER}@a.example>;tag=1', f'"{"x" * 1000}" <sip:{CALLER}@a.example>;tag=1',
    f'"{"é" * 400}" <sip:{CALLER}@a.example>;tag=1', b'"\xff\xfe" <sip:' + CALLER.encode() + b"@a.example>;tag=1",
    b'"\x80" <sip:' + CALLER.encode() + b"@a.example>;tag=1", f"<sip:{CALLER}@a.example>;tag=1;x=<y>",
    f"<sip:{CALLER}@a.example>;tag={'t' * 200}", f"<sip:{CALLER}@a.example>;tag=1;verstat=x",
    f"<sip:{CALLER}@{'a' * 200}.example>;tag=1", f"<sip:{CALLER}@xn--fiqs8s.example>;tag=1",
    f"<sip:{CALLER}@127.0.0.1>;tag=1;tag=2", "<sip:+86-138-0013-8000@a.example>;tag=1",
    "<sip:+86.138.0013.8000@a.example>;tag=1", "<sip:+86(138)00138000@a.example>;tag=1",
    "<sip:+86%20138%200013%208000@a.example>;tag=1", "<sip:%2B8613800138000@a.example>;tag=1",
    "<sip:%2b86%31%33800138000@a.example>;tag=1", "<tel:+8613800138000>;tag=1", "tel:+8613800138000;tag=1",
    "<TEL:+8613800138000>;tag=1", "<tel:+86-138-0013-8000;isub=12>;tag=1", "<tel:+86(138)0013.8000>;tag=1",
    f'"{"x" * 7500}" <sip:{CALLER}@a.example>;tag=1', '"Anonymous" <sip:+8613800138000@a.example>;tag=1',
)  # fmt: skip
HIDDEN = (
    "<sip:a.example>;tag=1", "<sip:@a.example>;tag=1", "<sip:anonymous@anonymous.invalid>;tag=1",
    "<sip:Anonymous@anonymous.invalid>;tag=1", "<sip:ANONYMOUS@a.example>;tag=1",
    '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1', "<sip:anonym%6Fus@a.example>;tag=1",
)  # fmt: skip
UNREADABLE = (
    "<sip:%00@a.example>;tag=1", "<sip:+86138%0000138000@a.example>;tag=1", "<sip:13800138000%00@a.example>;tag=1",
    "<sip:%0D%0AX@a.example>;tag=1", "<sip:a%0Ab@a.example>;tag=1", "<sip:a%09b@a.example>;tag=1",
    "<sip:a%7Fb@a.example>;tag=1", "<sip:a%1Bb@a.example>;tag=1", "<sip:%E2%80%AE1@a.example>;tag=1",
    "<sip:%E2%80%8B1@a.example>;tag=1", "<sip:%C2%A01@a.example>;tag=1", f"<sip:{LONG}1@a.example>;tag=1",
    f"<sip:{'%41' * 129}@a.example>;tag=1", f"<sip:{'x' * 3000}@a.example>;tag=1",
    f"<sip:{'x' * 7500}@a.example>;tag=1",
)  # fmt: skip
SENDERS = [
    *((sender, CALLER) for sender in READ),
    *((sender, "") for sender in HIDDEN),
    *((sender, "?") for sender in UNREADABLE),  # control characters, blanks, or too long
    ("<tel:13800138000;phone-context=+86>;tag=1", "13800138000"), ("<sip:13800138000@a.example>;tag=1", "13800138000"),
    ("<tel:110;phone-context=a.example>;tag=1", "110"), ("<sip:110@a.example>;tag=1", "110"),
    ("<sip:008613800138000@a.example>;tag=1", "008613800138000"),
    ("<sip:8613800138000@a.example>;tag=1", "8613800138000"), ("<sip:013800138000@a.example>;tag=1", "013800138000"),
    ("<sip:95588@a.example>;tag=1", "95588"), ("<sip:*67@a.example>;tag=1", "*67"),
    ("<sip:%2367@a.example>;tag=1", "#67"), ("<sip:li-wei@a.example>;tag=1", "li-wei"),
    ("<sip:Li.Wei@a.example>;tag=1", "Li.Wei"), ("<sip:we%22ird@a.example>;tag=1", 'we"ird'),
    ("<sip:a%5Cb@a.example>;tag=1", "a\\b"), ("<sip:a%7Bb%7D@a.example>;tag=1", "a{b}"),
    ("<sip:a%3Bb@a.example>;tag=1", "a;b"), ("<sip:a%40b@a.example>;tag=1", "a@b"),
    ("<sip:a%3Cb%3E@a.example>;tag=1", "a<b>"), ("<sip:a%25b@a.example>;tag=1", "a%b"),
    ("<sip:a%2500b@a.example>;tag=1", "a%00b"), ("<sip:%E4%B8%AD@a.example>;tag=1", "中"),
    ("<sip:%F0%9F%93%9E@a.example>;tag=1", EMOJI), ("<sip:%EF%BC%91%EF%BC%92@a.example>;tag=1", "１２"),
    ("<sip:a%20b@a.example>;tag=1", "a b"), ("<sip:%c3%a9@a.example>;tag=1", "é"),
    ("<sip:%ff@a.example>;tag=1", "\N{REPLACEMENT CHARACTER}"),
    ("<sip:%C3@a.example>;tag=1", "\N{REPLACEMENT CHARACTER}"), (f"<sip:{LONG}@a.example>;tag=1", LONG),
    ("<sip:+1234567890123456789012345@a.example>;tag=1", "+1234567890123456789012345"),
    ("<sip:anonymous1@a.example>;tag=1", "anonymous1"), ("<sip:unavailable@unknown.invalid>;tag=1", "unavailable"),
]  # fmt: skip
# P-Asserted-Identity headers, and the network's caller in them.
ASSERTED = [
    ("<sip:+8613800138001@a.example>", "+8613800138001"), ("sip:+8613800138001@a.example", "+8613800138001"),
    ("<tel:+8613800138001>", "+8613800138001"), ("tel:+8613800138001", "+8613800138001"),
    ('"A" <tel:+86-138-0013-8001>', "+8613800138001"), ('"A, B" <sip:+8613800138001@a.example>', "+8613800138001"),
    ('"A" <sip:+8613800138001@a.example>, <tel:+8613800138002>', "+8613800138001"),
    ("<tel:+8613800138001>, <sip:+8613800138002@a.example>", "+8613800138001"),
    ("<sip:+8613800138001;cpc=ordinary@a.example;user=phone>", "+8613800138001"),
    ("<sip:%2B8613800138001@a.example>", "+8613800138001"), ("<sips:95588@a.example>", "95588"),
    ('"中" <sip:95588@a.example>', "95588"), (b'"\xff" <sip:95588@a.example>', "95588"),
    ("<sip:li-wei@a.example>", "li-wei"), ("<sip:%00@a.example>", None), ("<sip:a%0D%0Ab@a.example>", None),
    (f"<sip:{LONG}1@a.example>", None), ("<sip:a.example>", None), ("<mailto:a@a.example>", None), ("<>", None),
    ("", None), ("garbage", None), ('"open <sip:95588@a.example>', None),
]  # fmt: skip
# Words of verstat in From, in P-Asserted-Identity, and beside an Attestation-Info; and the attestation.
VERSTAT = [
    ("TN-Validation-Passed", "unknown"), ("TN-Validation-Passed-A", "A"), ("TN-Validation-Passed-B", "B"),
    ("TN-Validation-Passed-C", "C"), ("TN-Validation-Passed-D", "unknown"), ("TN-Validation-Passed-A-Diverted", "A"),
    ("TN-Validation-Passed-A-Passthrough", "A"), ("TN-Validation-Passed-AB", "unknown"),
    ("TN-Validation-Failed", "failed"), ("TN-Validation-Failed-A", "failed"), ("TN-Validation-FailedX", "unknown"),
    ("No-TN-Validation", "none"), ("no-tn-validation", "none"), ("tn-validation-passed-a", "A"),
    ("No-TN-Validation2", "unknown"), ("Not-a-word", "unknown"), ("", "unknown"), ("x" * 300, "unknown"),
]  # fmt: skip
PRIVACY = [
    ("id", True), ("ID", True), ("header;id", True), ("header; id", True), ("header, id", True), ("id;critical", True),
    ("none", False), ("idle", False), ("user", False), ("header;session", False), ("", False), ("x-id", False),
    (b"\xff;id", True),
]  # fmt: skip
TARGETS = [
    (f"sip:{CALLEE}@127.0.0.1;user=phone", CALLEE), (f"SIP:{CALLEE}@127.0.0.1", CALLEE),
    (f"sips:{CALLEE}@127.0.0.1", CALLEE), (f"sip:{CALLEE};rn=+8610@127.0.0.1", CALLEE),
    (f"sip:{CALLEE}:secret@127.0.0.1", CALLEE), ("sip:%2B8613900139000@127.0.0.1", CALLEE),
    ("sip:+86-139-0013-9000@127.0.0.1", CALLEE), ("sip:+86(139)0013.9000@127.0.0.1", CALLEE), (f"tel:{CALLEE}", CALLEE),
    ("tel:+86-139-0013-9000;isub=1", CALLEE), ("tel:10086;phone-context=+86", "10086"), ("sip:110@127.0.0.1", "110"),
    ("sip:*21%23@127.0.0.1", "*21#"), ("sip:li-wei@127.0.0.1", "li-wei"), ("sip:%E4%B8%AD@127.0.0.1", "中"),
    ("sip:a%40b@127.0.0.1", "a@b"), ("sip:a%2500@127.0.0.1", "a%00"), ("sip:we%22ird@127.0.0.1", 'we"ird'),
    (f"sip:{LONG}@127.0.0.1", LONG), ("sip:127.0.0.1", ""), ("sip:%00@127.0.0.1", None),
    (f"sip:{CALLEE}%00@127.0.0.1", None), ("sip:a%0D%0Ab@127.0.0.1", None), (f"sip:{LONG}1@127.0.0.1", None),
]  # fmt: skip


def _verstat_rows():
    for word, attestation in VERSTAT:
        yield _row(sender=f"<sip:{CALLER}@a.example;verstat={word}>;tag=1", attestation=attestation)
        asserted = f"P-Asserted-Identity: <sip:{CALLER};verstat={word}@a.example>"
        yield _row(asserted, network=CALLER, attestation=attestation)


ODD_INVITES = [
    *(_row(sender=sender, caller=caller) for sender, caller in SENDERS),
    *(_row(b"P-Asserted-Identity: " + _bytes(value), network=network) for value, network in ASSERTED),
    *_verstat_rows(),
    *(_row(b"Privacy: " + _bytes(value), caller="" if hidden else CALLER) for value, hidden in PRIVACY),
    *(_row(target=target, callee=callee, caller=None if callee is None else CALLER) for target, callee in TARGETS),
    # Several headers together.
    _row("P-Asserted-Identity: <tel:+8613800138001>", "P-Asserted-Identity: <tel:+8613800138002>",
         network="+8613800138001"),
    _row("p-asserted-identity: <tel:+8613800138001>", network="+8613800138001"),
    _row("P-Asserted-Identity:", " <tel:+8613800138001>", network="+8613800138001"),
    _row("P-ASSERTED-IDENTITY  :  <tel:+8613800138001>", network="+8613800138001"),
    _row("Privacy: id", "P-Asserted-Identity: <tel:+8613800138001>", caller="", network="+8613800138001"),
    _row("P-Asserted-Identity: <tel:+8613800138001;verstat=TN-Validation-Passed>", "Attestation-Info: B",
         network="+8613800138001", attestation="B"),
    _row("P-Asserted-Identity: <tel:+8613800138001;verstat=TN-Validation-Passed>", 'Attestation-Info: "C"',
         network="+8613800138001", attestation="C"),
    _row("P-Asserted-Identity: <tel:+8613800138001;verstat=TN-Validation-Passed>", "Attestation-Info: Z",
         network="+8613800138001"),
    _row("P-Asserted-Identity: <tel:+8613800138001>;verstat=No-TN-Validation", network="+8613800138001",
         attestation="none"),
    _row("P-Asserted-Identity: <tel:+8613800138001; verstat = TN-Validation-Failed>", network="+8613800138001",
         attestation="failed"),
    _row("Attestation-Info: A"),
    _row("X-Twilio-VerStat: TN-Validation-Passed-A"),
    _row("Identity: e30.e30.c2ln;info=<https://cert.example/a>;alg=ES256;ppt=shaken"),
    _row("Identity: " + "x" * 3000),
    _row("Diversion: <sip:+8613800138009@a.example>;reason=unconditional"),
    _row("Call-Info: <data:,>;confidence=1;type=trusted"),
    _row(b"Subject: \xff\x00\xfe"),
    _row("Subject: a header", " in two lines"),
    _row("X-Long: " + "x" * 5000),
    _row("f: <sip:110@b.example>;tag=2", sender=None, caller="110"),
    _row("fRoM   : <sip:110@b.example>;tag=2", sender=None, caller="110"),
    _row("From:", "\t<sip:110@b.example>", " ;tag=2", sender=None, caller="110"),
    _row(b"From: \"a" + NUL + b"b\" <sip:110@b.example>;tag=2", sender=None, caller=None),
    _row(b"From: <sip:1" + NUL + b"10@b.example>;tag=2", sender=None, caller=None),
    _row("X-Long: " + "x" * 9000, caller=None),
    _row(sender=None, caller=None),
    _row(sender="", caller=None),
    _row(sender="garbage", caller="?"),
    _row(sender="<>;tag=1", caller=None),
    _row(sender='"open <sip:110@b.example>;tag=1', caller=None),
    _row(sender="<sip:110@b.example;tag=1", caller=None),
    _row(sender="<mailto:a@a.example>;tag=1", caller="?"),
    _row(sender="<http://a.example>;tag=1", caller="?"),
    _row(sender="<urn:service:sos>;tag=1", caller="?"),
    _row(sender="*;tag=1", caller="?"),
]  # fmt: skip


def place_calls(proxy_port: int, phone: socket.socket, invites: Sequence[OddInvite] = ODD_INVITES) -> list[bytes]:
    """Sends INVITEs to a proxy, one after the other; by default the table ODD_INVITES.

    Returns:
        For each INVITE the first message that follows from it: the INVITE as the proxy relays it to `phone`, or the
        final answer to the caller. b"" for an INVITE without From, which Kamailio does not answer.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind(("127.0.0.1", 0))
        results = []
        for number, odd in enumerate(invites):
            caller.sendto(odd.message(number, caller.getsockname()[1]), ("127.0.0.1", proxy_port))
            seconds = 5.0 if odd.headers else 0.1
            results.append(_first_message((caller, phone), b"odd%d@caller" % number, seconds))
    return results


def _first_message(sockets, call_id, seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for ready in select.select(sockets, [], [], left)[0]:
            message = ready.recv(65_535)
            if call_id in message and not message.startswith(b"SIP/2.0 1"):
                return message
    return b""


def mutant(message: bytes, draw: random.Random, pieces: Sequence[bytes]) -> bytes:
    """Returns the message after one to four changes: a byte changed, bytes removed or repeated, or a piece inserted."""
    changed = bytearray(message)
    for _ in range(draw.randint(1, 4)):
        place, way = draw.randrange(len(changed)), draw.randrange(4)
        if way == 0:
            changed[place] = draw.randrange(256)
        elif way == 1:
            del changed[place : place + draw.randint(1, 40)]
        elif way == 2:
            changed[place:place] = changed[place : place + draw.randint(1, 60)] * draw.randint(1, 3)
        else:
            changed[place:place] = draw.choice(pieces)
    return bytes(changed)


def mutants(count: int, seed: int = 7) -> Iterator[bytes]:
    """Yields mutants of messages of the table, some with another method."""
    draw = random.Random(seed)
    pieces = [b"\r\n", b"\0", b";", b'"', b"<", b">", b"@", b" SIP/2.0 ", b"SIP/2.0 200 OK\r\n"]
    methods = [b"INVITE", b"INVITE", b"BYE", b"CANCEL", b"ACK", b"OPTIONS", b"REGISTER"]
    for number in range(count):
        message = draw.choice(ODD_INVITES).message(1000 + number, 9).replace(b"INVITE", draw.choice(methods))
        yield mutant(message, draw, pieces)
