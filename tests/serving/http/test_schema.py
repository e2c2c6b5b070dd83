"""What the service reads and writes is what the wire reads and writes: every body, odd ones and drawn ones."""

import dataclasses
import gzip
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.records import CALL_COLUMNS, Call
from callsieve.serving.http import schema, wire
from callsieve.serving.scorer.reasons import Reason
from callsieve.serving.scorer.verdict import Verdict
from tests.serving.http.test_wire import calls as drawn_calls
from tests.serving.http.test_wire import columns, verdicts
from tests.support.http_service import NUMBER, call_json

SAID = [
    b"",
    b"{",
    b"[]",
    NUMBER.encode(),
    b"\xff" * 50,
    call_json(caller=13800138000),
    call_json(outcome=NUMBER),
    call_json(talk=NUMBER),
    call_json(more=NUMBER),
    call_json(caller=NUMBER * 50),
    call_json(start=-13800138000),
    call_json(start=NUMBER),
    b"[" * 9000,
    b'"%b"' % NUMBER.encode(),
    call_json(attestation=NUMBER),
    call_json(ring=True),
    call_json(caller=None),
    gzip.compress(call_json()),
]
bodies = st.binary(max_size=100) | columns.map(lambda value: json.dumps(value).encode())
spoilt = st.builds(
    lambda call, name, value: json.dumps(json.loads(wire.call_to_json(call)) | {name: value}).encode(),
    drawn_calls,
    st.sampled_from(CALL_COLUMNS) | st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.lists(st.integers(), max_size=2),
)


def outcome(read, given_body):
    try:
        return repr(read(given_body))
    except ValueError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("name", ["reporter", "number"])
def test_a_report_of_texts_that_nobody_can_read_is_refused(name):
    said = {"reporter": NUMBER, "number": NUMBER, "at": 1.0, "category": "fraud", name: "138\x00"}
    with pytest.raises(ValueError, match="reporter and number must be printable texts"):
        schema.read_report(json.dumps(said).encode())


@given(bodies | spoilt | drawn_calls.map(wire.call_to_json))
def test_a_body_is_read_as_the_wire_reads_it(said):
    assert outcome(schema.read_call, said) == outcome(wire.call_from_json, said)


@pytest.mark.parametrize("said", [
    b'{"start":1,"caller":"a","callee":"b","caller":"c"}', b'{"start" : 1,"caller":"a","callee":"b","caller" :"c"}',
    b'{"start":1,"caller":"a\\u0000","callee":"b"}', b'{"start":1e400,"caller":"a","callee":"b"}',
    b'{"start":1,"caller":"a","callee":"b","trunk":"\\":"}', b'{"start":1,"caller":"\\ud800","callee":"b"}',
    b' {"start":1,"caller":"a","callee":"b"} ', b'{"start":1,"caller":"a","callee":"b"}x',
    b'\xef\xbb\xbf{"start":1,"caller":"a","callee":"b"}', b'{"start":true,"caller":"a","callee":"b"}',
    b'{"start":18446744073709551616,"caller":"a","callee":"b"}', b'{"start":-0.0,"caller":"a","callee":"b"}',
    b" " * 17_000 + b'{"start":1,"caller":"a","callee":"b"}', *SAID,
])  # fmt: skip
def test_odd_bodies_are_read_as_the_wire_reads_them(said):
    assert outcome(schema.read_call, said) == outcome(wire.call_from_json, said)


@given(verdicts)
def test_a_verdict_is_written_as_the_wire_reads_it(verdict):
    read = wire.verdict_from_json(msgspec.json.encode(verdict))
    assert repr(read) == repr(wire.verdict_from_json(wire.verdict_to_json(verdict)))


def test_the_document_is_of_the_fields_of_the_wire():
    names = lambda kind: [field.name for field in msgspec.structs.fields(kind)]
    assert names(schema.CallIn) == list(CALL_COLUMNS) == [field.name for field in dataclasses.fields(Call)]
    assert names(schema.VerdictOut) == [field.name for field in dataclasses.fields(Verdict)]
    assert names(schema.ReasonOut) == [field.name for field in dataclasses.fields(Reason)]
