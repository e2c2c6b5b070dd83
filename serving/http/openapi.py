"""The OpenAPI document of the HTTP service."""

from __future__ import annotations

from typing import Any

try:
    import msgspec
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from . import answers, schema

VERSION = "1.4.0"
JSON, LINES, TEXT = "application/json", "application/x-ndjson", "text/plain; version=0.0.4; charset=utf-8"
_TYPES = (
    schema.CallIn,
    schema.SipCallIn,
    schema.ComplaintIn,
    answers.VerdictOut,
    answers.Fault,
    answers.Nothing,
    answers.Health,
    answers.Readiness,
    answers.Reloaded,
    answers.StatusOut,
)
_SCHEMAS, _COMPONENTS = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
for _component in _COMPONENTS.values():
    for _field in _component["properties"].values():
        for _form in (_field, *_field.get("anyOf", ())):
            if "enum" in _form:
                _form["type"] = "string"  # msgspec leaves it out, and generators need it
_REFS: dict[type, dict[str, Any]] = dict(zip(_TYPES, _SCHEMAS, strict=True))
_BODY_CODES = (400, 408, 413)
_CALLS = {
    "type": "string",
    "description": f"One `CallIn` or `SipCallIn` a line, at most {schema.MAX_LINES} lines of JSON.",
}
_VERDICTS = {"type": "string", "description": "One `VerdictOut` or `Fault` a line, in the order of the calls."}
_METRICS = {"type": "string", "description": "Metrics in Prometheus's text format."}
_CASE = {
    "name": "case",
    "in": "query",
    "required": True,
    "description": "Field `case` of the verdict.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}


def openapi() -> dict[str, Any]:
    """Returns the OpenAPI document of the service."""
    verdict, nothing, is_live = (_json(kind) for kind in (answers.VerdictOut, answers.Nothing, answers.Health))
    readiness = _json(answers.Readiness)
    call, complaint = _json(schema.CallIn, schema.SipCallIn), _json(schema.ComplaintIn)
    paths = {
        schema.SCORE: _guarded(
            "score", "The verdict on a call at ring time; records the call", "score", verdict, (409,), body=call
        ),
        schema.BATCH: _guarded(
            "scoreBatch",
            f"The verdicts on many calls, as `score` gives them; at most {schema.MAX_BATCH} bytes",
            "score",
            {LINES: {"schema": _VERDICTS}},
            (503,),
            body={LINES: {"schema": _CALLS}},
        ),
        schema.OBSERVE: _guarded(
            "observe", "Record the state or the end of a call", "score", nothing, (409, 503), body=call
        ),
        schema.REPORT: _guarded(
            "report", "Record a complaint about a number", "report", nothing, (409, 503), body=complaint
        ),
        schema.EXPLAIN: _guarded(
            "explain", "A verdict with its reasons", "explain", verdict, (400, 404, 503), parameters=[_CASE]
        ),
        schema.STATUS: _guarded(
            "status", "The content of the operators' page", "admin,audit", _json(answers.StatusOut), ()
        ),
        schema.METRICS: _guarded(
            "metrics", "Metrics for Prometheus", "admin,audit", {TEXT.partition(";")[0]: {"schema": _METRICS}}, ()
        ),
        schema.RELOAD: _guarded(
            "reload",
            "Load the bundle on disk and put it in service",
            "admin",
            _json(answers.Reloaded),
            (409, 503),
            post=True,
        ),
        schema.LIVE: {"get": _open("isLive", "Whether the process runs", {200: ("Yes", is_live)})},
        schema.READY: {
            "get": _open("isReady", "Whether calls should come here", {200: ("Yes", readiness), 503: ("No", readiness)})
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "callsieve", "version": VERSION, "description": "Verdicts on calls as they ring."},
        "paths": paths,
        "components": {"schemas": _COMPONENTS, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _guarded(
    name: str,
    summary: str,
    scope: str,
    result: dict[str, Any],
    codes: tuple[int, ...],
    *,
    body: dict[str, Any] | None = None,
    post: bool = False,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns the path of an operation that needs a key with one of the scopes, separated by commas."""
    fault = _json(answers.Fault)
    refusals = sorted({401, 403, 429, *codes, *(_BODY_CODES if body else ())})
    operation = _open(name, summary, {200: ("Done", result)} | dict.fromkeys(refusals, ("Refused", fault)))
    scopes = " or ".join(f"`{word}`" for word in scope.split(","))
    operation |= {"security": [{"key": []}], "description": f"Needs a key with scope {scopes}."}
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    if parameters:
        operation["parameters"] = parameters
    return {"post" if body or post else "get": operation}


def _open(name: str, summary: str, responses: dict[int, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    described = {str(code): {"description": text, "content": content} for code, (text, content) in responses.items()}
    return {"operationId": name, "summary": summary, "responses": described}


def _json(*kinds: type) -> dict[str, Any]:
    return {JSON: {"schema": _REFS[kinds[0]] if len(kinds) == 1 else {"anyOf": [_REFS[kind] for kind in kinds]}}}
