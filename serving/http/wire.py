"""The JSON between a proxy and the HTTP scorer: the only place that says what goes over the line.

`POST /v1/score` takes a call at ring time, the fields of `records.Call` that the proxy knows, and answers with the
fields of a `Verdict`. `POST /v1/observe` takes a call as it is known later (with `ring`, `talk`, `outcome`) and
answers with an empty object. Field names are those of the two classes; what is not known is left out or null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any, TypeVar

from callsieve.features.files.strict_json import as_fields, as_list, as_number, as_text, decode, finite
from callsieve.features.intake.intake import CATEGORIES
from callsieve.features.records import CALL_COLUMNS, Call
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rules import Fact
from callsieve.serving.scorer.reasons import Reason
from callsieve.serving.scorer.verdict import Verdict

SCORE, OBSERVE = "/v1/score", "/v1/observe"
MAX_BODY = 16_384  # bytes
MAX_FIELD = 256  # characters
_T = TypeVar("_T")
_SECONDS = ("start", "ring", "talk", "recorded")
_LATEST = 253_402_300_799.0  # 9999-12-31, Unix seconds


def call_to_json(call: Call) -> bytes:
    """A call as the body of a request; what is None or "unknown" is left out.

    >>> call_to_json(Call(start=1.5, caller="1", callee="2"))
    b'{"start":1.5,"caller":"1","callee":"2"}'
    """
    known = {name: value for name in CALL_COLUMNS if (value := getattr(call, name)) not in (None, "unknown")}
    return _compact(known)


def call_from_json(body: bytes) -> Call:
    """The call in a request's body.

    Raises:
        ValueError: in one line, naming the field and, since it may be a number, never its value.
    """
    try:
        return _call(_object(body))
    except ValueError as error:
        raise ValueError(f"call: {error}") from None


def verdict_to_json(verdict: Verdict) -> bytes:
    """A verdict as the body of an answer; NaN is null."""
    return _compact(finite(asdict(verdict)))


def verdict_from_json(body: bytes) -> Verdict:
    """The verdict in an answer.

    Raises:
        ValueError: in one line, if it is none.
    """
    value = as_fields(_object(body), "verdict", [field.name for field in fields(Verdict)])
    if value["action"] not in ACTIONS:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
    as_number(0 if value["score"] is None else value["score"], "score", 0, 1)
    told = [_part(Reason, each, "reason") for each in as_list(value.pop("reasons"), "reasons", 0, 64)]
    met = [_part(Fact, each, "rule") for each in as_list(value.pop("rules"), "rules", 0, 64)]
    return Verdict(reasons=tuple(told), rules=tuple(met), **_values(Verdict, value))


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise ValueError(f"a body must have at most {MAX_BODY} bytes, got {len(body)}")
    try:
        value = decode(body)
    except ValueError:
        # The decoder's message may quote the text.
        raise ValueError("a body must be one JSON object of finite numbers in UTF-8, without repeated keys") from None
    if not isinstance(value, dict):
        raise ValueError("a body must be an object")
    return value


def _call(value: dict[str, Any]) -> Call:
    if not value.keys() <= set(CALL_COLUMNS):
        raise ValueError(f"fields must be among {', '.join(CALL_COLUMNS)}")
    missing = [name for name in ("start", "caller", "callee") if value.get(name) is None]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    return Call(**{name: _field(name, value[name]) for name in value if value[name] is not None})


def _field(name: str, value: Any) -> Any:
    if name in _SECONDS:
        if type(value) not in (int, float) or not 0 <= value <= _LATEST:
            raise ValueError(f"{name} must be a number of seconds, 0 or more and before the year 10000")
        return float(value)
    if not isinstance(value, str) or len(value) > MAX_FIELD or not value.isprintable():
        raise ValueError(f"{name} must be a printable text of at most {MAX_FIELD} characters")
    if name in CATEGORIES and value not in CATEGORIES[name]:
        raise ValueError(f"{name} must be one of {', '.join(CATEGORIES[name])}")
    return value


def _part(kind: type[_T], value: Any, where: str) -> _T:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**_values(kind, as_fields(value, where, names)))


def _values(kind: type, items: dict[str, Any]) -> dict[str, Any]:
    """The items of an object, each read as the field of that name is declared."""
    readers = {"str": _plain, "str | None": _word, "float": _number}
    declared = {field.name: str(field.type) for field in fields(kind)}
    return {name: readers[declared[name]](item, name) for name, item in items.items()}


def _number(value: Any, where: str) -> float:
    return math.nan if value is None else as_number(value, where)


def _plain(value: Any, where: str) -> str:
    return value if value == "" else as_text(value, where)


def _word(value: Any, where: str) -> str | None:
    return None if value is None else as_text(value, where)
