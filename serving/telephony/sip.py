"""Reading SIP: an INVITE becomes a `Call`, caller authentication an attestation, a final answer an outcome.

Every function maps text to values. Any bytes give a result or one `ValueError`, which names a header and never shows
its content.
Sources: RFC 3261 (messages), RFC 3966 (tel), RFC 3325 (P-Asserted-Identity), 3GPP TS 24.229 section 7.2A.20 (verstat),
RFC 8197 (607), RFC 8688 (608), ATIS-1000099 (603+).

The signature of an Identity header (STIR, RFC 8224) is not verified here. A verifier does that before the call arrives,
and states its result as `verstat` (3GPP TS 24.229): a border controller, an Asterisk, or a Kamailio with
`kamailio-secsipid-modules`. A caller can write `verstat`, too, so it counts only from a trusted peer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from callsieve.features.records import Call

Dialect = Literal["3gpp", "telnyx", "twilio"]
DIALECTS: tuple[Dialect, ...] = ("3gpp", "telnyx", "twilio")

MAX_MESSAGE = 65_535
MAX_HEADERS = 256
MAX_USER = 128
UNREADABLE = "?"  # the caller of a From header that cannot be read: an irregular number

# One-letter header names, RFC 3261 section 7.3.3; only those that are read.
_COMPACT = {"f": "from", "t": "to", "i": "call-id", "v": "via"}
_HEADER = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]*:(.*)", re.DOTALL)
_VERSTAT = re.compile(r"TN-Validation-(Passed|Failed)(?:-([ABC]))?(?:-(?:Diverted|Passthrough))?", re.IGNORECASE)
_VERSTAT_PARAMETER = re.compile(r";\s*verstat\s*=\s*([A-Za-z0-9.\-]+)", re.IGNORECASE)
_NAME_ADDR = re.compile(r'(?:"(?:[^"\\]|\\.)*"\s*|[^"<]*)<([^<>]*)>')
_URI = re.compile(r"(sips?|tel):([^?]*)", re.IGNORECASE)
_SEPARATORS = str.maketrans("", "", "-.() ")


@dataclass(frozen=True, slots=True)
class Message:
    """A SIP message without its body: the first line, and all values of each header by its lower-case long name."""

    first: str
    headers: Mapping[str, tuple[str, ...]]

    def first_value(self, name: str) -> str:
        """Returns the first value of a header; "" if there is none."""
        return self.headers.get(name, ("",))[0]


def read_message(data: bytes) -> Message:
    """Returns the first line and the headers of a message. Folded lines are joined, invalid UTF-8 is replaced."""
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"a SIP message must have at most {MAX_MESSAGE} bytes, got {len(data)}")
    text = data.decode("utf-8", "replace").lstrip("\r\n")  # line ends before a message do not belong to it (7.5)
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    first, *lines = re.sub(r"\r?\n[ \t]+", " ", head).replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_HEADERS:
        raise ValueError(f"a SIP message must have at most {MAX_HEADERS} headers, got {len(lines)}")
    headers: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(filter(None, lines), start=1):
        match = _HEADER.fullmatch(line)
        if match is None:
            raise ValueError(f"header line {number} must be `name: value`")
        name = match[1].lower()
        name = _COMPACT.get(name, name)
        headers[name] = (*headers.get(name, ()), match[2].strip())
    return Message(first, headers)


def to_call(
    start: float,
    target: str,
    sender: str,
    *,
    asserted: str = "",
    privacy: str = "",
    verstat: str = "",
    attestation_info: str = "",
    trusted: bool = False,
    dialect: Dialect = "3gpp",
    trunk: str | None = None,
) -> Call:
    """Returns the call of an INVITE, from header values that a proxy has parsed.

    >>> sender = "<sip:+8613800138000@a.example;verstat=No-TN-Validation>"
    >>> call = to_call(0.0, "sip:+8613900139000@b.example", sender, trusted=True)
    >>> call.caller, call.callee, call.attestation
    ('+8613800138000', '+8613900139000', 'none')
    """
    asserted = asserted if trusted else ""
    attestation = read_verstat((verstat or _carried(asserted) or _carried(sender)) if trusted else "", dialect)
    if attestation == "passed":
        level = attestation_info.strip(' "')
        attestation = level if level in ("A", "B", "C") else "unknown"
    caller, network = _caller(sender), _caller(asserted)
    hidden = caller.lower() == "anonymous" or "id" in re.split(r"[;,\s]+", privacy.lower())
    return Call(
        start=start,
        caller="" if hidden else caller,
        callee=user_of(target),
        network_caller=network if network not in ("", UNREADABLE) else None,
        attestation=attestation,
        trunk=trunk,
    )


def read_verstat(word: str, dialect: Dialect = "3gpp") -> str:
    """Returns the attestation that a verstat word states (`records.ATTESTATIONS`); "passed" for a pass without level.

    A plain pass has no level in 3GPP's dialect, and level A in Telnyx's. Twilio's "NULL" and
    unknown words are "unknown".

    >>> read_verstat("TN-Validation-Passed-B-Diverted", "twilio"), read_verstat("No-TN-Validation")
    ('B', 'none')
    >>> read_verstat("TN-Validation-Passed"), read_verstat("TN-Validation-Passed", "telnyx")
    ('passed', 'A')
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, got {dialect!r}")
    if word.strip().lower() == "no-tn-validation":
        return "none"
    match = _VERSTAT.fullmatch(word.strip())
    if match is None:
        return "unknown"
    if match[1].lower() == "failed":
        return "failed"
    return match[2].upper() if match[2] else "A" if dialect == "telnyx" else "passed"


def outcome_of(status: int, phrase: str = "") -> tuple[str, str]:
    """Returns the outcome and releaser of a call attempt (`records.Call`), from its final answer.

    A 607 is "unwanted": the called person pressed a button, and it counts as a complaint. A 608, and a 603 "Network
    Blocked" (603+), come from a network on the way: the call was blocked.

    >>> outcome_of(607), outcome_of(603, "Decline"), outcome_of(603, "Network Blocked")
    (('unwanted', 'callee'), ('rejected', 'callee'), ('blocked', 'network'))
    """
    if 200 <= status < 300:
        return "answered", "unknown"
    if status == 603 and phrase.strip().lower() == "network blocked":
        return "blocked", "network"
    return _OUTCOMES.get(status, ("failed", "network") if 300 <= status < 700 else ("unknown", "unknown"))


_OUTCOMES = {
    404: ("invalid_number", "network"),
    408: ("no_answer", "network"),
    410: ("invalid_number", "network"),
    480: ("no_answer", "network"),
    484: ("invalid_number", "network"),
    486: ("busy", "callee"),
    487: ("no_answer", "caller"),  # the caller gave up
    600: ("busy", "callee"),
    603: ("rejected", "callee"),
    604: ("invalid_number", "network"),
    607: ("unwanted", "callee"),
    608: ("blocked", "network"),
}


def user_of(address: str) -> str:
    """Returns the number or name in an address or URI, without visual separators and parameters.

    >>> user_of('"A, B" <sip:+86-138-0013-8000;rn=1@a.example;user=phone>;tag=1'), user_of("tel:+1-201-555-0123;npdi")
    ('+8613800138000', '+12015550123')
    """
    named = _NAME_ADDR.match(address.lstrip())
    match = _URI.match((named[1] if named else address).strip())
    if match is None:
        raise ValueError("an address must hold a sip, sips or tel URI")
    user = match[2]
    if match[1].lower() != "tel":
        user, at, _ = user.rpartition("@")
        user = user.partition(":")[0] if at else ""
    user = unquote(user.partition(";")[0], errors="replace")
    if len(user) > MAX_USER or not user.isprintable():
        raise ValueError(f"an address must name a user in at most {MAX_USER} printable characters")
    plain = user.translate(_SEPARATORS)
    return plain if plain.lstrip("+").isdecimal() else user


def _caller(address: str) -> str:
    try:
        return user_of(address)
    except ValueError:
        return UNREADABLE


def _carried(address: str) -> str:
    match = _VERSTAT_PARAMETER.search(address)
    return match[1] if match else ""
