"""The JSON of the HTTP service as types: the reader of calls and complaints, and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

try:
    import msgspec
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.features.files.strict_json import decode
from callsieve.features.records import (
    ATTESTATIONS,
    CALL_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    Call,
)
from callsieve.serving.live.events import Complaint
from callsieve.serving.rules.policy import ACTIONS

VERSION = "1.1.0"
SCORE, OBSERVE, REPORT, EXPLAIN = "/v1/score", "/v1/observe", "/v1/report", "/v1/explain"
STATUS, RELOAD, METRICS = "/v1/status", "/v1/reload", "/metrics"
LIVE, READY, OPENAPI, PAGE = "/health/live", "/health/ready", "/openapi.json", "/"
MAX_BODY = 16_384  # bytes
MAX_FIELD = 256  # characters
_LATEST = 253_402_300_799  # 9999-12-31, Unix seconds

_Text = Annotated[str, msgspec.Meta(max_length=MAX_FIELD, description="Printable characters only.")]
_Number = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FIELD, description="Printable characters only.")]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_LATEST)]
_Word = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_]{0,39}$")]


class CallIn(msgspec.Struct, forbid_unknown_fields=True):
    """A call, the fields of `features.records.Call`: times in Unix seconds, `ring` and `talk` in seconds.

    A field that is unknown may be null or left out.
    """

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


class ComplaintIn(msgspec.Struct, forbid_unknown_fields=True):
    """A complaint of a called person about a number. `at` is Unix seconds, not in the future."""

    reporter: _Number
    number: _Number
    at: _Seconds
    category: _Word
    mode: _Word | None = None


class ReasonOut(msgspec.Struct):
    """A feature's contribution to the raw score (log-odds), its value, and its explanation in two languages."""

    feature: str
    value: float | None
    contribution: float
    en: str
    zh: str


class FactOut(msgspec.Struct):
    """A rule that the call meets: the measured value, the limit, and the register row behind it."""

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
    """A verdict. `status` is "ok", "stale", "filling", "behind", "other feed", or the reason why there is no score.

    In the last four cases only `rules` can lead to an action. `feed` names what the records lack. `confidence` is the
    probability that the call is a nuisance call, by the evidence that leads to the action: `score` if the model does,
    and the figure of the policy file if a rule does. It is null for "pass", and for rules without a figure.
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
    feed: str
    confidence: float | None


class Fault(msgspec.Struct):
    """Why a request was refused, in one line without content of the request."""

    error: str


class Nothing(msgspec.Struct):
    """An empty object: the event was accepted."""


class Health(msgspec.Struct):
    """Whether the service works, and if not, why."""

    ok: bool
    why: str


class Reloaded(msgspec.Struct):
    """The model in service."""

    model: str
    epoch: int


_CHOICES: dict[str, tuple[str, ...]] = {
    "outcome": OUTCOMES, "released_by": RELEASED_BY, "attestation": ATTESTATIONS, "route": ROUTES,
    "caller_class": NUMBER_CLASSES, "callee_class": NUMBER_CLASSES,
}  # fmt: skip


def read_call(body: bytes) -> Call:
    """Returns the call in a request's body.

    Raises:
        ValueError: in one line that names the field and never shows its value, which may be a number.
    """
    try:
        return _call(body)
    except ValueError as error:
        raise ValueError(f"call: {error}") from None


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
    if not fields.keys() <= set(CALL_COLUMNS):
        raise ValueError(f"fields must be among {', '.join(CALL_COLUMNS)}")
    if missing := [name for name in ("start", "caller", "callee") if fields.get(name) is None]:
        raise ValueError(f"missing: {', '.join(missing)}")
    try:
        call = msgspec.convert(fields, CallIn)
    except msgspec.ValidationError as error:
        # The text ends in "at `$.field`", and may quote the value before that.
        name = str(error).rpartition("$.")[2].rstrip("`")
        raise ValueError(f"{name} must be {_expected(name)}") from None
    known = {name: value for name in CALL_COLUMNS if (value := getattr(call, name)) is not None}
    for name, value in known.items():
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"{name} must be {_expected(name)}")
    return Call(**known)


def _expected(name: str) -> str:
    if name in ("start", "ring", "talk", "recorded"):
        return "a number of seconds, 0 or more and before the year 10000"
    if name in _CHOICES:
        return f"one of {', '.join(_CHOICES[name])}"
    return f"a printable text of at most {MAX_FIELD} characters"


def read_complaint(body: bytes) -> Complaint:
    """Returns the complaint in a request's body.

    Raises:
        ValueError: in one line that names the fields and never shows a value.
    """
    try:
        complaint = msgspec.json.decode(body, type=ComplaintIn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(
            "complaint: expected a JSON object with reporter, number, at, category and, if known, mode"
        ) from None
    if not (complaint.reporter.isprintable() and complaint.number.isprintable()):
        raise ValueError("complaint: reporter and number must be printable texts")
    return Complaint(complaint.reporter, complaint.number, complaint.at, complaint.category, complaint.mode)


def openapi() -> dict[str, Any]:
    """Returns the OpenAPI document of the service."""
    types = (CallIn, ComplaintIn, VerdictOut, Fault, Nothing, Health, Reloaded)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    ref: dict[type, dict[str, Any]] = dict(zip(types, schemas, strict=True))

    def post(summary: str, scope: str, body: type | None, result: type, *codes: int) -> dict[str, Any]:
        operation = _operation(summary, scope, ref[result], ref[Fault], (400, 408, 413, *codes) if body else codes)
        if body:
            content = {"application/json": {"schema": ref[body]}}
            operation["requestBody"] = {"required": True, "content": content}
        return {"post": operation}

    case = {"name": "case", "in": "query", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"}}
    explain = _operation("A recent verdict with its reasons", "explain", ref[VerdictOut], ref[Fault], (400, 404, 503))
    status = _operation("The content of the operator's page", "admin,audit", {"type": "object"}, ref[Fault], ())
    return {
        "openapi": "3.1.0",
        "info": {"title": "callsieve", "version": VERSION, "description": "Verdicts on calls as they ring."},
        "paths": {
            SCORE: post("The verdict on a call at ring time; records the call", "score", CallIn, VerdictOut),
            OBSERVE: post("Record the state or the end of a call", "score", CallIn, Nothing, 409, 503),
            REPORT: post("Record a complaint about a number", "report", ComplaintIn, Nothing, 409, 503),
            EXPLAIN: {"get": explain | {"parameters": [case]}},
            STATUS: {"get": status},
            RELOAD: post("Load the bundle on disk and put it in service", "admin", None, Reloaded, 409, 503),
            LIVE: {"get": _open("Whether the process runs", ref[Health], ())},
            READY: {"get": _open("Whether calls are scored", ref[Health], (503,))},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    summary: str, scope: str, result: dict[str, Any], fault: dict[str, Any], codes: tuple[int, ...]
) -> dict[str, Any]:
    operation = _open(summary, result, ())
    operation["responses"] |= {str(code): _response(fault, "Refused") for code in sorted({401, 403, 429, *codes})}
    scopes = " or ".join(f"`{name}`" for name in scope.split(","))
    return operation | {"security": [{"key": []}], "description": f"Needs a key with scope {scopes}."}


def _open(summary: str, result: dict[str, Any], codes: tuple[int, ...]) -> dict[str, Any]:
    other = {str(code): _response(result, "Not now") for code in codes}
    return {"summary": summary, "responses": {"200": _response(result, "Done")} | other}


def _response(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
