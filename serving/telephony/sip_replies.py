"""Writing SIP: replies to blocked callers, and labels that a callee's phone can show.

A block by analytics is a 603 "Network Blocked" with a Reason header that states where to object (ATIS-1000099, "603+";
the only form for it in the United States since 25 March 2026), or, elsewhere, a 608 with a signed contact card
(RFC 8688). A label is a Call-Info header (RFC 3261 section 20.9; parameters of draft-ietf-sipcore-callinfo-spam-04,
which expired). Headers are written without folding, and no value can break out of its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from callsieve.serving.scorer.verdict import Verdict

from .sip import read_message

LOCATIONS = ("LN", "TN", "RLN", "LPN", "RPN")  # RFC 8606; RLN: the network that serves the callee
# Contents of a class model that have a word of their own among the draft's call types; any other is "spam".
CALL_TYPES = {"fraud": "fraud", "debt_collection": "debt-collection", "survey": "survey"}

_URL = re.compile(r"https://[A-Za-z0-9.\-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,=:@/%?\-]*)?")
_TEL = re.compile(r"\+[0-9]{3,15}")
_EMAIL = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,255}")
_ID = re.compile(r"[A-Za-z0-9_\-]{0,64}")


@dataclass(frozen=True, slots=True)
class Redress:
    """Contact for objections, and origin of labels; checked once, then safe to write into a header.

    At least one of `url` (https), `tel` (E.164) and `email` is needed. `location` is the network that blocked.
    `source` is the host name that vouches for labels. `card` is the URL of the signed jCard of RFC 8688, which a 608
    needs.

    Raises:
        ValueError: in one line, naming the field and never its value.
    """

    url: str = ""
    tel: str = ""
    email: str = ""
    location: str = "RLN"
    source: str = ""
    card: str = ""

    def __post_init__(self) -> None:
        if not (self.url or self.tel or self.email):
            raise ValueError("redress needs a url, a tel or an email: a blocked caller must be able to object")
        if self.location not in LOCATIONS:
            raise ValueError(f"location must be one of {', '.join(LOCATIONS)}")
        forms = {"url": _URL, "tel": _TEL, "email": _EMAIL, "source": _HOST, "card": _URL}
        for name, form in forms.items():
            if getattr(self, name) and not form.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be {_FORMS[name]}")


_FORMS = {
    "url": "an https URL without semicolons, quotes and spaces",
    "tel": "a number in E.164 form, + and digits",
    "email": "an e-mail address",
    "source": "a host name",
    "card": "an https URL without semicolons, quotes and spaces",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A final answer: status, phrase, and the headers to add."""

    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...] = ()


def network_blocked(redress: Redress, case: str = "", *, q850: bool = False) -> Reply:
    """Returns the 603+ answer. `case` goes into the attribute `id`, which links the caller's objection to the verdict
    record.

    >>> network_blocked(Redress(url="https://redress.example"), "00112233aabbccdd").headers[0][1]
    'SIP;cause=603;text="v=analytics1;url=https://redress.example;id=00112233aabbccdd";location=RLN'

    Raises:
        ValueError: for a case id that is not up to 64 letters, digits, dashes and underscores.
    """
    if not _ID.fullmatch(case):
        raise ValueError("a case id must be up to 64 letters, digits, dashes and underscores")
    attributes = {"v": "analytics1", "url": redress.url, "tel": redress.tel, "email": redress.email, "id": case}
    text = ";".join(f"{name}={value}" for name, value in attributes.items() if value)
    cause = "Q.850;cause=21" if q850 else "SIP;cause=603"
    return Reply(603, "Network Blocked", (("Reason", f'{cause};text="{text}";location={redress.location}'),))


def rejected(redress: Redress) -> Reply:
    """Returns the 608 answer. If the contact is likely to be abused, answer with `Reply(608, "Rejected")` instead.

    Raises:
        ValueError: if `redress` has no card.
    """
    if not redress.card:
        raise ValueError("a 608 needs the address of a signed jCard")
    return Reply(608, "Rejected", (("Call-Info", f"<{redress.card}>;purpose=jwscard"),))


def label(verdict: Verdict, redress: Redress) -> str | None:
    """Returns the value of the Call-Info header that labels a call; None for another action.

    The confidence is that of the verdict in whole per cent, rounded down. A verdict without one, as of a rule without a
    figure in the policy file, gets no parameter `confidence`. The model's content is stated only if a band was reached.
    """
    if verdict.action not in ("label", "screen"):
        return None
    kind = CALL_TYPES.get(verdict.content or "", "spam") if verdict.band else "spam"
    source, confidence = f";source={redress.source}" if redress.source else "", ""
    if 0 < verdict.confidence <= 1:
        # Rounded down, from the shortest decimal form: `http.cfg` has no floating point and cuts that form.
        confidence = f";confidence={int(100 * Decimal(repr(verdict.confidence)))}"
    return f"<{redress.url or 'data:,'}>{source};purpose=info{confidence};type={kind}"


def response(invite: bytes, reply: Reply, tag: str) -> bytes:
    """Returns the complete answer to a request. Via, From, To (with `tag`), Call-ID and CSeq come from it (RFC 3261,
    8.2.6).

    Raises:
        ValueError: if the request lacks one of them, or `tag` is not a token.
    """
    if not re.fullmatch(r"[A-Za-z0-9\-.!%*_+`'~]{1,64}", tag):
        raise ValueError("tag must be a token of 1 to 64 characters")
    message = read_message(invite)
    lines = [f"SIP/2.0 {reply.status} {reply.phrase}"]
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        values = message.headers.get(name.lower())
        if not values:
            raise ValueError(f"a request must have a {name} header")
        lines += [f"{name}: {value}" for value in values]
    lines = [_tagged(line, tag) if line.startswith("To: ") else line for line in lines]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()


def _tagged(line: str, tag: str) -> str:
    outside = line.rpartition(">")[2]
    return line if re.search(r";\s*tag\s*=", outside, re.IGNORECASE) else f"{line};tag={tag}"
