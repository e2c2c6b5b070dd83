"""The JSON between a proxy and the HTTP scorer: what is written is read, and nothing else is."""

import json
import math
import re
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES, Call
from callsieve.serving.http import wire
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rules import Fact
from callsieve.serving.scorer.reasons import Reason
from callsieve.serving.scorer.verdict import Verdict

shown = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")  # what `str.isprintable` lets pass
printable, texts = st.text(shown, max_size=30), st.text(shown, min_size=1, max_size=30)
seconds = st.floats(0, 4e9)
calls = st.builds(
    Call,
    start=seconds,
    caller=printable,
    callee=printable,
    ring=st.none() | seconds,
    talk=st.none() | seconds,
    outcome=st.sampled_from(OUTCOMES),
    released_by=st.sampled_from(RELEASED_BY),
    recorded=st.none() | seconds,
    network_caller=st.none() | printable,
    attestation=st.sampled_from(ATTESTATIONS),
    route=st.sampled_from(ROUTES),
    **dict.fromkeys(("trunk", "operator", "device", "place", "cause"), st.none() | printable),
    **dict.fromkeys(("caller_class", "callee_class"), st.sampled_from(NUMBER_CLASSES)),
)
numbers = st.floats(allow_infinity=False)
drawn = {"str": printable, "str | None": st.none() | texts, "float": numbers}
declared = lambda kind: {field.name: drawn[str(field.type)] for field in fields(kind) if str(field.type) in drawn}
verdicts = st.builds(
    Verdict,
    **declared(Verdict) | {"action": st.sampled_from(ACTIONS), "score": st.floats(0, 1) | st.just(math.nan)},
    rules=st.lists(st.builds(Fact, **declared(Fact)), max_size=3).map(tuple),
    reasons=st.lists(st.builds(Reason, **declared(Reason)), max_size=4).map(tuple),
)


@given(calls)
def test_a_call_is_read_as_it_was_written(call):
    body = wire.call_to_json(call)
    assert wire.call_from_json(body) == call
    assert b"null" not in body
    assert wire.call_to_json(wire.call_from_json(body)) == body


@pytest.mark.source("L21", by="serving/http/wire.py")
@given(verdicts)
def test_a_verdict_is_read_as_it_was_written(verdict):
    body = wire.verdict_to_json(verdict)
    assert repr(asdict(wire.verdict_from_json(body))) == repr(asdict(verdict))
    # Through the bytes: NaN is not equal to itself.
    assert wire.verdict_to_json(wire.verdict_from_json(body)) == body
    assert json.loads(body)["score"] == (None if math.isnan(verdict.score) else verdict.score)


def test_what_is_unknown_may_be_null_or_left_out():
    body = b'{"start":1,"caller":"a","callee":"b","ring":null,"outcome":null}'
    assert wire.call_from_json(body) == Call(start=1.0, caller="a", callee="b")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "one JSON object"),
        (b"[]", "must be an object"),
        (b"\xff", "one JSON object"),
        (b'{"start":1,"start":1}', "one JSON object"),
        (b'{"start":1e999,"caller":"a","callee":"b"}', "one JSON object"),
        (b'{"start":1,"\\u000013800138000":"a"}', "fields must be among"),
        (b'{"start":1,"":"a"}', "fields must be among"),
        (b"{}", "missing: start, caller, callee"),
        (b'{"start":1,"caller":"a"}', "missing: callee"),
        (b'{"start":1,"caller":"a","callee":"b","password":"x"}', "fields must be among"),
        (b'{"start":true,"caller":"a","callee":"b"}', "start must be a number of seconds"),
        (b'{"start":-1,"caller":"a","callee":"b"}', "start must be a number of seconds"),
        (b'{"start":1,"caller":13800138000,"callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"13800138000\\n","callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"a","callee":"b","outcome":"13800138000"}', "outcome must be one of"),
        (b'{"start":1,"caller":"a","callee":"' + b"b" * 300 + b'"}', "at most 256 characters"),
        (b" " * 20_000, "at most 16384 bytes"),
        (b"[" * 9_000, "one JSON object"),
    ],
)
def test_a_bad_call_is_told_what_was_expected_and_shows_no_number(body, rule):
    with pytest.raises(ValueError, match=rule) as error:
        wire.call_from_json(body)
    assert not re.search(r"\d{7}", str(error.value))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["action", "score", "reasons", "rules", "case"])
def test_a_verdict_must_be_whole(name):
    whole = json.loads(wire.verdict_to_json(Verdict("pass", 0.5, "", None, None, (), "ok", "c", "m", "2027")))
    wire.verdict_from_json(json.dumps(whole).encode())
    for wrong in ([], {}, "explode", 7, True):
        if (name, wrong) in (("reasons", []), ("rules", []), ("case", "explode")):
            continue
        with pytest.raises(ValueError, match=name):
            wire.verdict_from_json(json.dumps(whole | {name: wrong}).encode())
    del whole[name]
    with pytest.raises(ValueError, match=name):
        wire.verdict_from_json(json.dumps(whole).encode())


columns = st.dictionaries(st.sampled_from(CALL_COLUMNS), st.integers() | st.text() | st.none())


@given(st.binary(max_size=200) | columns.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body):
    for read in (wire.call_from_json, wire.verdict_from_json):
        try:
            read(body)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
