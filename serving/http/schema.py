"""The JSON that the HTTP service reads: paths, limits, and the readers of calls and complaints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from callsieve.features.files.strict_json import decode
from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES, Call
from callsieve.serving.live.events import Complaint
from callsieve.serving.telephony.sip import DIALECTS, to_call

SCORE, BATCH, OBSERVE = "/v1/score", "/v1/score/batch", "/v1/observe"
REPORT, EXPLAIN = "/v1/report", "/v1/explain"
STATUS, RELOAD, METRICS = "/v1/status", "/v1/reload", "/metrics"
LIVE, READY, OPENAPI, PAGE = "/health/live", "/health/ready", "/openapi.json", "/"
MAX_BODY = 16_384  # bytes
MAX_BATCH, MAX_LINES = 1 << 20, 1_000  # bytes and lines of a batch
MAX_FIELD = 256  # characters
_LATEST = 253_402_300_799  # 9999-12-31, Unix seconds


def doc(text: str) -> Meta:
    """Describes a field in the OpenAPI document."""
    return Meta(description=text)


_Text = Annotated[str, Meta(max_length=MAX_FIELD)]
_Number = Annotated[str, Meta(min_length=1, max_length=MAX_FIELD)]
_Seconds = Annotated[float, Meta(ge=0, le=_LATEST)]
_Word = Annotated[str, Meta(pattern="^[a-z][a-z_]{0,39}$")]
_Class = Literal[NUMBER_CLASSES]  # type: ignore[valid-type]
_Attestation = Literal[ATTESTATIONS]  # type: ignore[valid-type]
_Route = Literal[ROUTES]  # type: ignore[valid-type]
_Dialect = Literal[DIALECTS]  # type: ignore[valid-type]
# Fields of both kinds of call.
_Ring = Annotated[_Seconds | None, doc("Seconds of ringing; null while the call is not over.")]
_Talk = Annotated[_Seconds | None, doc("Seconds of talking, 0 unless answered; null while the call is not over.")]
_Outcome = Annotated[Literal[OUTCOMES] | None, doc("How the call ended.")]  # type: ignore[valid-type]
_ReleasedBy = Annotated[Literal[RELEASED_BY] | None, doc("Who ended the call.")]  # type: ignore[valid-type]
_Trunk = Annotated[_Text | None, doc("Trunk or peer over which the call comes in.")]


class CallIn(msgspec.Struct, forbid_unknown_fields=True):
    """A call. A field that is unknown may be null or left out. Texts have printable characters only."""

    start: Annotated[_Seconds, doc("When the call begins to ring, Unix seconds; not in the future.")]
    caller: Annotated[_Text, doc("The presented number as written, a token, or a code.")]
    callee: Annotated[_Text, doc("The called number, in the same form.")]
    ring: _Ring = None
    talk: _Talk = None
    outcome: _Outcome = None
    released_by: _ReleasedBy = None
    recorded: Annotated[
        _Seconds | None, doc("When a late record became known, Unix seconds; null: at the end of the call.")
    ] = None
    network_caller: Annotated[_Text | None, doc("The number that the network asserts for the caller.")] = None
    attestation: Annotated[_Attestation | None, doc("Result of STIR/SHAKEN for the caller.")] = None
    route: Annotated[_Route | None, doc("Where the call comes from.")] = None
    trunk: _Trunk = None
    operator: Annotated[_Text | None, doc("Operator that the call comes from.")] = None
    device: Annotated[_Text | None, doc("Device of the caller.")] = None
    place: Annotated[_Text | None, doc("Coarse place of the caller, such as a cell or a city.")] = None
    cause: Annotated[_Text | None, doc("Cause code of the end of the call, as the switch has it.")] = None
    caller_class: Annotated[_Class | None, doc("Kind of the caller's number, if it is a token or a code.")] = None
    callee_class: Annotated[_Class | None, doc("Kind of the called number, if it is a token or a code.")] = None


class SipIn(msgspec.Struct, forbid_unknown_fields=True):
    """The parts of an INVITE that name caller and callee, in base64 of the bytes as they came."""

    target: Annotated[bytes, doc("The Request-URI.")]
    sender: Annotated[bytes, doc("The From header.")]
    asserted: Annotated[bytes, doc("The P-Asserted-Identity header.")] = b""
    privacy: Annotated[bytes, doc("The Privacy header.")] = b""
    attestation_info: Annotated[bytes, doc("The Attestation-Info header.")] = b""
    verstat: Annotated[bytes, doc("The X-Twilio-VerStat header.")] = b""
    trusted: Annotated[
        bool,
        doc(
            "Whether the peer belongs to the network's trust domain (RFC 3325). Without trust only target, "
            "sender and privacy count, because a caller could have written the rest."
        ),
    ] = False
    dialect: Annotated[_Dialect, doc("How a trusted peer writes verstat.")] = "3gpp"


class SipCallIn(msgspec.Struct, forbid_unknown_fields=True):
    """A call as a SIP proxy sees it: the service reads numbers and attestation from the headers."""

    start: Annotated[_Seconds, doc("When the INVITE came, Unix seconds; not in the future.")]
    sip: Annotated[SipIn, doc("Parts of the INVITE.")]
    caller: Annotated[str | None, doc("The caller, for a balancer. The service reads it from sip.")] = None
    callee: Annotated[str | None, doc("The called number, for a balancer, likewise.")] = None
    ring: _Ring = None
    talk: _Talk = None
    outcome: _Outcome = None
    released_by: _ReleasedBy = None
    trunk: _Trunk = None
    cause: Annotated[_Text | None, doc("Status code of the final answer.")] = None


class ComplaintIn(msgspec.Struct, forbid_unknown_fields=True):
    """A complaint of a called person about a number. Texts have printable characters only."""

    reporter: Annotated[_Number, doc("Number of the person who complains, as written.")]
    number: Annotated[_Number, doc("Number that the complaint is about, as written.")]
    at: Annotated[_Seconds, doc("When the person complained, Unix seconds; not in the future.")]
    category: Annotated[_Word, doc("Kind of nuisance, such as fraud.")]
    mode: Annotated[_Word | None, doc("Who or what called, such as robot; null if unknown.")] = None


_CHOICES: dict[str, tuple[str, ...]] = {
    "outcome": OUTCOMES, "released_by": RELEASED_BY, "attestation": ATTESTATIONS, "route": ROUTES,
    "caller_class": NUMBER_CLASSES, "callee_class": NUMBER_CLASSES,
}  # fmt: skip
_NEEDED = {CallIn: ("start", "caller", "callee"), SipCallIn: ("start", "sip")}
_decode_call = msgspec.json.Decoder(CallIn).decode
_DEFAULTS = tuple(getattr(Call(0.0, "", ""), name) for name in CallIn.__struct_fields__)


def read_call(body: bytes) -> Call:
    """Returns the call in a request's body."""
    try:
        return _plain_call(body) or _call(body)
    except ValueError as error:
        raise ValueError(f"call: {error}") from None


def _plain_call(body: bytes) -> Call | None:
    """Returns the call in a valid body on one line without null, backslash and SIP; None for any other body.

    Most calls have this form. Reading takes half of the time of `_call`.
    """
    try:
        values = msgspec.structs.astuple(_decode_call(body))
        text = body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # msgspec lets a later key replace an earlier one. A repeated key leaves more quotes than the fields account for.
    texts, fields = list(map(type, values)).count(str), len(values) - values.count(None)
    if "\\" in text or text.count('"') != 2 * (fields + texts) or not text.isprintable() or len(body) > MAX_BODY:
        return None
    return Call(*(default if value is None else value for value, default in zip(values, _DEFAULTS, strict=True)))


def _call(body: bytes) -> Call:
    if len(body) > MAX_BODY:
        raise ValueError(f"a body must have at most {MAX_BODY} bytes, got {len(body)}")
    try:
        fields = decode(body)
    except ValueError:
        # The decoder's message may quote the body.
        raise ValueError("a body must be one JSON object of finite numbers in UTF-8, without repeated keys") from None
    if not isinstance(fields, dict):
        raise ValueError("a body must be an object")
    kind: type[CallIn] | type[SipCallIn] = SipCallIn if "sip" in fields else CallIn
    if not fields.keys() <= set(kind.__struct_fields__):
        raise ValueError(f"fields must be among {', '.join(kind.__struct_fields__)}")
    if missing := [name for name in _NEEDED[kind] if fields.get(name) is None]:
        raise ValueError(f"missing: {', '.join(missing)}")
    try:
        call = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        # The text ends in "at `$.field`", and may quote the value before that.
        name = str(error).rpartition("$.")[2].rstrip("`")
        raise ValueError(f"{name} must be {_expected(name)}") from None
    for_balancers = ("caller", "callee") if kind is SipCallIn else ()
    names = [name for name in CALL_COLUMNS if name not in for_balancers]
    known = {name: value for name in names if (value := getattr(call, name, None)) is not None}
    for name, value in known.items():
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"{name} must be {_expected(name)}")
    return Call(**known | (_read_sip(call.start, call.sip) if isinstance(call, SipCallIn) else {}))


def _read_sip(start: float, sip: SipIn) -> dict[str, Any]:
    call = to_call(
        start,
        _decode(sip.target),
        _decode(sip.sender),
        asserted=_decode(sip.asserted),
        privacy=_decode(sip.privacy),
        verstat=_decode(sip.verstat) if sip.dialect == "twilio" else "",
        attestation_info=_decode(sip.attestation_info),
        trusted=sip.trusted,
        dialect=sip.dialect,
    )
    return {name: getattr(call, name) for name in ("caller", "callee", "network_caller", "attestation")}


def _decode(part: bytes) -> str:
    return part.decode("utf-8", "replace")


def _expected(name: str) -> str:
    if name in ("start", "ring", "talk", "recorded"):
        return "a number of seconds, 0 or more and before the year 10000"
    if name.startswith("sip"):
        return "an object with target, sender and other parts of an INVITE, in base64"
    if name in _CHOICES:
        return f"one of {', '.join(_CHOICES[name])}"
    return f"a printable text of at most {MAX_FIELD} characters"


def read_complaint(body: bytes) -> Complaint:
    """Returns the complaint in a request's body."""
    try:
        complaint = msgspec.json.decode(body, type=ComplaintIn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(
            "complaint: expected a JSON object with reporter, number, at, category and, if known, mode"
        ) from None
    if not (complaint.reporter.isprintable() and complaint.number.isprintable()):
        raise ValueError("complaint: reporter and number must be printable texts")
    return Complaint(complaint.reporter, complaint.number, complaint.at, complaint.category, complaint.mode)
