"""What goes over HTTP as types: a quick reader of calls, and the OpenAPI document.

`wire.py` says what is a call. What the reader here takes, it reads as `wire.call_from_json` does; the rest goes there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

try:
    import msgspec
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.features.records import ATTESTATIONS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES, Call
from callsieve.serving.live.events import Complaint
from callsieve.serving.rules.policy import ACTIONS

from .wire import MAX_BODY, MAX_FIELD, OBSERVE, SCORE, call_from_json

VERSION = "1.1.0"
REPORT, EXPLAIN, STATUS, RELOAD = "/v1/report", "/v1/explain", "/v1/status", "/v1/reload"
METRICS, LIVE, READY, OPENAPI, PAGE = "/metrics", "/health/live", "/health/ready", "/openapi.json", "/"

_Text = Annotated[str, msgspec.Meta(max_length=MAX_FIELD, description="Printable characters only.")]
_Number = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FIELD, description="Printable characters only.")]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
_Word = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_]{0,39}$")]


class CallIn(msgspec.Struct, forbid_unknown_fields=True):
    """A call, the fields of `features.records.Call`: times in Unix seconds, `ring` and `talk` in seconds."""

    start: _Seconds
    caller: _Text
    callee: _Text
    ring: _Seconds | None = None
    talk: _Seconds | None = None
    outcome: Literal[OUTCOMES] | None = None  # type: ignore[valid-type]
    released_by: Literal[RELEASED_BY] | None = None  # type: ignore[valid-type]
    recorded: _Seconds | None = None
    network_caller: _Text | None = None
    attestation: Literal[ATTESTATIONS] | None = None  # type: ignore[valid-type]
    route: Literal[ROUTES] | None = None  # type: ignore[valid-type]
    trunk: _Text | None = None
    operator: _Text | None = None
    device: _Text | None = None
    place: _Text | None = None
    cause: _Text | None = None
    caller_class: Literal[NUMBER_CLASSES] | None = None  # type: ignore[valid-type]
    callee_class: Literal[NUMBER_CLASSES] | None = None  # type: ignore[valid-type]


class ReportIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a called person says of a number. `at` is Unix seconds, not after now."""

    reporter: _Number
    number: _Number
    at: _Seconds
    category: _Word
    mode: _Word | None = None


class ReasonOut(msgspec.Struct):
    """A feature's part in the raw score (log-odds), its value, and what to tell a person."""

    feature: str
    value: float | None
    contribution: float
    en: str
    zh: str


class FactOut(msgspec.Struct):
    """A rule that the call meets, what was found and held against which limit, and the row of a register behind it."""

    rule: str
    en: str
    zh: str
    value: float | None
    limit: float | None
    register: str
    entry: str
    valid_from: str
    known_at: str


class VerdictOut(msgspec.Struct):
    """What is said about a call. `status` is "ok", "stale", "filling" or why there is no score.

    In the last two only `rules` can act.
    """

    action: Literal[ACTIONS]  # type: ignore[valid-type]
    score: float | None
    band: str
    content: str | None
    mode: str | None
    reasons: list[ReasonOut]
    status: str
    case: str
    model: str
    valid_until: str
    raw: float | None
    threshold: float | None
    rules: list[FactOut]


class Fault(msgspec.Struct):
    """Why a request was refused, in one line; what was sent is not shown."""

    error: str


class Nothing(msgspec.Struct):
    """Taken in."""


class Health(msgspec.Struct):
    """Whether the service is up to its work, and if not, why."""

    ok: bool
    why: str


class Reloaded(msgspec.Struct):
    """The model in service."""

    model: str
    epoch: int


def read_call(body: bytes) -> Call:
    """The call in a request's body, as `wire.call_from_json` reads it.

    Raises:
        ValueError: in one line, naming the field and never its value.
    """
    try:
        fields = msgspec.json.decode(body)
        call = msgspec.convert(fields, CallIn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return call_from_json(body)
    # The decoder takes a key that is there twice; and the last rule of a text no schema can say.
    if len(body) > MAX_BODY or body.count(b'":') != len(fields) or not _printable(body, fields):
        return call_from_json(body)
    return Call(
        call.start, call.caller, call.callee, call.ring, call.talk, call.outcome or "unknown",
        call.released_by or "unknown", call.recorded, call.network_caller, call.attestation or "unknown",
        call.route or "unknown", call.trunk, call.operator, call.device, call.place, call.cause,
        call.caller_class or "unknown", call.callee_class or "unknown",
    )  # fmt: skip


def _printable(body: bytes, fields: dict[str, Any]) -> bool:
    # JSON has control characters as escapes alone: what is ASCII without one is printable but for the last character.
    if body.isascii() and b"\\" not in body and b"\x7f" not in body:
        return True
    return all(value.isprintable() for value in fields.values() if type(value) is str)


def read_report(body: bytes) -> Complaint:
    """The report in a request's body.

    Raises:
        ValueError: in one line, naming the fields and never a value.
    """
    try:
        report = msgspec.json.decode(body, type=ReportIn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(
            "report: expected a JSON object with reporter, number, at, category and, if known, mode"
        ) from None
    if not (report.reporter.isprintable() and report.number.isprintable()):
        raise ValueError("report: reporter and number must be printable texts")
    return Complaint(report.reporter, report.number, report.at, report.category, report.mode)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the service."""
    kinds = (CallIn, ReportIn, VerdictOut, Fault, Nothing, Health, Reloaded)
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    ref: dict[type, dict[str, Any]] = dict(zip(kinds, schemas, strict=True))

    def post(summary: str, scope: str, body: type | None, answer: type, *more: int) -> dict[str, Any]:
        operation = _operation(summary, scope, ref[answer], ref[Fault], (400, 413, *more) if body else more)
        if body:
            content = {"application/json": {"schema": ref[body]}}
            operation["requestBody"] = {"required": True, "content": content}
        return {"post": operation}

    case = {"name": "case", "in": "query", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"}}
    explain = _operation("A recent verdict once more, with its reasons", "explain", ref[VerdictOut], ref[Fault],
                         (400, 404, 503))  # fmt: skip
    status = _operation("What the page shows", "admin,audit", {"type": "object"}, ref[Fault], ())
    return {
        "openapi": "3.1.0",
        "info": {"title": "callsieve", "version": VERSION, "description": "Verdicts on calls as they ring."},
        "paths": {
            SCORE: post("The verdict on a call at ring time; the call is then known", "score", CallIn, VerdictOut),
            OBSERVE: post("What became of a call", "score", CallIn, Nothing, 409, 503),
            REPORT: post("What a called person says of a number", "report", ReportIn, Nothing, 409, 503),
            EXPLAIN: {"get": explain | {"parameters": [case]}},
            STATUS: {"get": status},
            RELOAD: post("Put the bundle on disk in service", "admin", None, Reloaded, 409, 503),
            LIVE: {"get": _open("The process is there", ref[Health], ())},
            READY: {"get": _open("Calls are judged", ref[Health], (503,))},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    summary: str, scope: str, answer: dict[str, Any], fault: dict[str, Any], more: tuple[int, ...]
) -> dict[str, Any]:
    operation = _open(summary, answer, ())
    refusals = {str(code): _answer(fault, "Refused") for code in sorted({401, 403, 429, *more})}
    operation["responses"] |= refusals
    either = " or ".join(f"`{one}`" for one in scope.split(","))
    return operation | {"security": [{"key": []}], "description": f"Needs a key with scope {either}."}


def _open(summary: str, answer: dict[str, Any], more: tuple[int, ...]) -> dict[str, Any]:
    answers = {str(code): _answer(answer, "Not now") for code in more}
    return {"summary": summary, "responses": {"200": _answer(answer, "Done")} | answers}


def _answer(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
