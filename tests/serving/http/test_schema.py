"""The JSON of the service: calls survive a round trip, and an invalid body is refused without showing it."""

import base64
import dataclasses
import gzip
import json
import math
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES, Call
from callsieve.serving import Fact, Reason, Verdict
from callsieve.serving.http import answers, schema
from callsieve.serving.http.endpoint import encode
from callsieve.serving.http.openapi import openapi
from callsieve.serving.rules.policy import ACTIONS
from tests.support.errors import refused
from tests.support.http_service import NUMBER, call_json, call_to_json, verdict_from_json
from tests.support.paths import ROOT

ODD_BODIES = [
    b"", b"{", b"[]", NUMBER.encode(), b"\xff" * 50, call_json(caller=13800138000), call_json(outcome=NUMBER),
    call_json(talk=NUMBER), call_json(more=NUMBER), call_json(caller=NUMBER * 50), call_json(start=-13800138000),
    call_json(start=NUMBER), b"[" * 9000, b'"%b"' % NUMBER.encode(), call_json(attestation=NUMBER),
    call_json(ring=True), call_json(caller=None), gzip.compress(call_json(), mtime=0),
]  # fmt: skip
characters = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")  # what `str.isprintable` accepts
printable, texts = st.text(characters, max_size=30), st.text(characters, min_size=1, max_size=30)
seconds = st.floats(0, 4e9)
calls = st.builds(
    Call, start=seconds, caller=printable, callee=printable, ring=st.none() | seconds, talk=st.none() | seconds,
    outcome=st.sampled_from(OUTCOMES), released_by=st.sampled_from(RELEASED_BY), recorded=st.none() | seconds,
    network_caller=st.none() | printable, attestation=st.sampled_from(ATTESTATIONS), route=st.sampled_from(ROUTES),
    **dict.fromkeys(("trunk", "operator", "device", "place", "cause"), st.none() | printable),
    **dict.fromkeys(("caller_class", "callee_class"), st.sampled_from(NUMBER_CLASSES)),
)  # fmt: skip
strategies = {"str": printable, "str | None": st.none() | texts, "float": st.floats(allow_infinity=False)}
fields_of = lambda kind: {
    field.name: strategies[str(field.type)] for field in dataclasses.fields(kind) if str(field.type) in strategies
}
verdicts = st.builds(
    Verdict,
    **fields_of(Verdict) | {"action": st.sampled_from(ACTIONS), "score": st.floats(0, 1) | st.just(math.nan)},
    rules=st.lists(st.builds(Fact, **fields_of(Fact)), max_size=3).map(tuple),
    reasons=st.lists(st.builds(Reason, **fields_of(Reason)), max_size=4).map(tuple),
)
bodies = st.binary(max_size=200) | st.dictionaries(
    st.sampled_from(CALL_COLUMNS), st.integers() | st.text() | st.none()
).map(lambda fields: json.dumps(fields).encode())
fields = ('"start":1', '"start":2.5', '"caller":"a"', '"callee":"b:\\"c"', '"trunk":""', '"ring":null', '"ring" : 3')
repeated_keys = st.lists(st.sampled_from(fields), max_size=6).map(
    lambda more: ("{" + ",".join(('"start":1', '"caller":"ab","callee":"b"', *more)) + "}").encode()
)
lists_of_integers = st.lists(st.integers(), max_size=2)
spoilt_bodies = st.builds(
    lambda call, name, value: json.dumps(json.loads(call_to_json(call)) | {name: value}).encode(),
    calls,
    st.sampled_from(CALL_COLUMNS) | st.text(max_size=5),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300), lists_of_integers),
)


@given(calls)
def test_a_call_survives_a_round_trip(call):
    body = call_to_json(call)
    assert schema.read_call(body) == call
    assert call_to_json(schema.read_call(body)) == body


def test_an_unknown_field_may_be_null_or_left_out():
    body = b'{"start":1,"caller":"a","callee":"b","ring":null,"outcome":null}'
    assert schema.read_call(body) == Call(start=1.0, caller="a", callee="b")


def test_a_proxy_sends_headers_as_they_came():
    """The table in tests/support/servers/odd_invites.py has the readings of headers."""
    code = lambda text: base64.b64encode(text).decode()
    sip = {"target": code(b"sip:110@b.example"), "sender": code(b'"\xff\0" <sip:+8613800138000@a.example>;tag=1')}
    sip |= {"asserted": code(b"<tel:+8613800138001;verstat=TN-Validation-Passed-A>")}
    call = schema.read_call(json.dumps({"start": 1, "trunk": "t", "ring": 2, "sip": sip}).encode())
    assert call == Call(1.0, "+8613800138000", "110", 2.0, trunk="t", attestation="unknown")
    call = schema.read_call(json.dumps({"start": 1, "sip": sip | {"trusted": True}}).encode())
    assert (call.network_caller, call.attestation) == ("+8613800138001", "A")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b'{"start":1,"sip":null}', "missing: sip"),
        (b'{"start":1,"sip":{"target":"13800138000!","sender":""}}', "sip.* in base64"),
        (b'{"start":1,"sip":{"target":"c2lwOjE="}}', "sip.* must be an object with target, sender"),
        (b'{"start":1,"recorded":1,"sip":{"target":"c2lwOjE=","sender":""}}', "fields must be among start, sip"),
        (b'{"start":1,"sip":{"target":"","sender":""}}', "an address must hold a sip, sips or tel URI"),
        (b"", "one JSON object"),
        (b"[]", "must be an object"),
        (b"\xff", "one JSON object"),
        (b'{"start":1,"start":1}', "one JSON object"),
        (b'{"start":1,"caller":"a","callee":"b","caller" :"c"}', "without repeated keys"),
        (b'{"start" : 1,"caller":"a","callee":"b","caller" :"c"}', "without repeated keys"),
        (b'{"start":1e999,"caller":"a","callee":"b"}', "one JSON object"),
        (b'{"start":1,"caller":"a","callee":"b"}x', "one JSON object"),
        (b'\xef\xbb\xbf{"start":1,"caller":"a","callee":"b"}', "one JSON object"),
        (b'{"start":1,"\\u000013800138000":"a"}', "fields must be among"),
        (b'{"start":1,"":"a"}', "fields must be among"),
        (b"{}", "missing: start, caller, callee"),
        (b'{"start":1,"caller":"a"}', "missing: callee"),
        (b'{"start":1,"caller":"a","callee":"b","password":"x"}', "fields must be among"),
        (b'{"start":true,"caller":"a","callee":"b"}', "start must be a number of seconds"),
        (b'{"start":-1,"caller":"a","callee":"b"}', "start must be a number of seconds"),
        (b'{"start":18446744073709551616,"caller":"a","callee":"b"}', "start must be a number of seconds"),
        (b'{"start":1,"caller":"a","callee":"b","ring":"13800138000"}', "ring must be a number of seconds"),
        (b'{"start":1,"caller":13800138000,"callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"13800138000\\n","callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"a\\u0000","callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"\\ud800","callee":"b"}', "caller must be a printable text"),
        (b'{"start":1,"caller":"a","callee":"b","outcome":"13800138000"}', "outcome must be one of"),
        (b'{"start":1,"caller":"a","callee":"' + b"b" * 300 + b'"}', "callee must be .* at most 256 characters"),
        (b" " * 20_000, "at most 16384 bytes"),
        (b" " * 17_000 + b'{"start":1,"caller":"a","callee":"b"}', "at most 16384 bytes"),
        (b"[" * 9_000, "one JSON object"),
        *((body, "") for body in ODD_BODIES),
    ],
)
def test_a_refusal_names_the_expected_form_and_shows_no_number(body, rule):
    with refused(f"^call: .*{rule}"):
        schema.read_call(body)


@pytest.mark.parametrize(
    "body", [b'{"start":1,"caller":"a","callee":"b","trunk":"\\":"}', b' {"start":-0.0,"caller":"a","callee":"b"} ']
)
def test_odd_and_valid_bodies_are_read(body):
    fields = json.loads(body)
    assert schema.read_call(body) == Call(**fields)


@given(calls.map(call_to_json) | spoilt_bodies | repeated_keys)
def test_the_quick_reader_takes_no_body_that_the_careful_one_refuses(body):
    quick = schema._plain_call(body)
    assert quick is None or repr(quick) == repr(schema._call(body))


def test_the_quick_reader_takes_the_usual_call():
    assert schema._plain_call(b'{"start": 1, "caller": "a", "attestation": "none", "callee": "b"}') is not None


@given(bodies | spoilt_bodies)
def test_any_body_is_read_or_refused(body):
    for read in (schema.read_call, schema.read_complaint):
        try:
            read(body)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("name", ["reporter", "number"])
def test_a_complaint_with_unprintable_texts_is_refused(name):
    fields = {"reporter": NUMBER, "number": NUMBER, "at": 1.0, "category": "fraud", name: "138\x00"}
    with pytest.raises(ValueError, match="reporter and number must be printable texts"):
        schema.read_complaint(json.dumps(fields).encode())


@pytest.mark.source("L21", by="serving/http/schema.py")
@given(verdicts)
def test_a_verdict_is_sent_whole(verdict):
    body = msgspec.json.encode(verdict)
    # repr, because NaN is not equal to itself.
    assert repr(verdict_from_json(body)) == repr(verdict)
    assert json.loads(body)["score"] == (None if math.isnan(verdict.score) else verdict.score)


def test_the_openapi_document_has_the_fields_of_the_records():
    names = lambda kind: [field.name for field in msgspec.structs.fields(kind)]
    assert names(schema.CallIn) == list(CALL_COLUMNS) == [field.name for field in dataclasses.fields(Call)]
    assert names(answers.VerdictOut) == [field.name for field in dataclasses.fields(Verdict)]
    assert names(answers.ReasonOut) == [field.name for field in dataclasses.fields(Reason)]
    assert names(answers.FactOut) == [field.name for field in dataclasses.fields(Fact)]


def test_each_field_and_operation_of_the_openapi_document_is_typed_and_described():
    document = openapi()
    schemas = document["components"]["schemas"]
    for name, component in schemas.items():
        assert component["description"] and component["type"] == "object", name
        for field, form in component["properties"].items():
            assert form.get("description"), (name, field)
            for kind in form.get("anyOf", [form]):
                assert kind.keys() & {"type", "$ref"}, (name, field)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["summary"]
        for answer in operation["responses"].values():
            (content,) = answer["content"].values()
            assert answer["description"] and content["schema"].keys() & {"type", "$ref"}


PAGE = (ROOT / "docs" / "how-to" / "opensips-freeswitch.md").read_text()
NUMBERS = {"caller": NUMBER, "callee": "+8613900139000", "trunk": "192.0.2.1"}
ANSWER = encode(Verdict("label", 0.9, "watch", None, None, (), "scored", "0011", "model", "2100-01-01")).decode()


def test_the_script_of_the_page_for_opensips_sends_calls_and_reads_verdicts():
    values = {"Ts": 1_772_500_000, "fU": NUMBERS["caller"], "rU": NUMBERS["callee"], "si": NUMBERS["trunk"]}
    values |= {"var(ring)": 4, "var(talk)": 5}
    fields = dict(re.findall(r"\$json\(call/(\w+)\) = \$([\w()]+);", PAGE))
    for outcome in re.findall(r'\$var\(outcome\) = "(\w+)"', PAGE):
        call = {name: (values | {"var(outcome)": outcome})[value] for name, value in fields.items()}
        expected = Call(1_772_500_000.0, ring=4.0, talk=5.0, outcome=outcome, **NUMBERS)
        assert schema.read_call(json.dumps(call).encode()) == expected
        ringing = {name: call[name] for name in list(call)[:4]}
        assert schema.read_call(json.dumps(ringing).encode()) == Call(1_772_500_000.0, **NUMBERS)
    read = re.findall(r'\$json\(verdict/(\w+)\) == "(\w+)"', PAGE)
    assert [word for _, word in read] == ["block", "label"] and all(name in json.loads(ANSWER) for name, _ in read)
    assert set(re.findall(r"http://127\.0\.0\.1:8080([\w/]+)", PAGE)) == {schema.SCORE, schema.OBSERVE}


def test_the_script_of_the_page_for_freeswitch_sends_calls_and_reads_verdicts():
    begin, end = re.findall(r"string\.format\('(.*?)',", PAGE)
    values = (1_772_500_000, *NUMBERS.values())
    assert schema.read_call(f"{begin % values}}}".encode()) == Call(1_772_500_000.0, **NUMBERS)
    (table,) = re.findall(r"local outcomes = \{(.*?)\}", PAGE, re.DOTALL)
    for outcome in [*re.findall(r'= "(\w+)"', table), "failed"]:
        call = schema.read_call(f"{begin % values}{end % (4, 5, outcome)}}}".encode())
        assert call == Call(1_772_500_000.0, ring=4.0, talk=5.0, outcome=outcome, **NUMBERS)
    (pattern,) = re.findall(r":match\('(.*?)'\)", PAGE)
    assert re.search(pattern.replace("%l", "[a-z]"), ANSWER)[1] == "label"
