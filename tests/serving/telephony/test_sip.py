"""SIP messages are read and written byte for byte, and parsers read or refuse any bytes."""

import math
import random
import re
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.records import ATTESTATIONS, OUTCOMES, RELEASED_BY, Call
from callsieve.serving.scorer.verdict import Verdict
from callsieve.serving.telephony import sip, sip_replies
from callsieve.serving.telephony.sip_replies import Redress, Reply
from tests.support.errors import refused
from tests.support.servers.odd_invites import mutant

INVITE = (
    b"INVITE sip:+8613900139000@callee.example;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP proxy.example;branch=z9hG4bK776asdhds\r\n"
    b"v: SIP/2.0/UDP caller.example;branch=z9hG4bKnashds8\r\n"
    b"Max-Forwards: 69\r\n"
    b'f: "Li, Wei" <sip:+86-138-0013-8000@caller.example;user=phone>;tag=1928301774\r\n'
    b"To: <sip:+8613900139000@callee.example;user=phone>\r\n"
    b"i: a84b4c76e66710@caller.example\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b"P-Asserted-Identity: <sip:+8613800138001;verstat=TN-Validation-Passed-B@carrier.example;user=phone>\r\n"
    b"Identity: e30.e30.c2lnbmF0dXJl;info=<https://cert.example.org/shaken.crt>;alg=ES256;ppt=shaken\r\n"
    b"Subject: a header\r\n"
    b" in two lines\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"v=0\n"
)
BLOCKED = (
    b"SIP/2.0 603 Network Blocked\r\n"
    b"Via: SIP/2.0/UDP proxy.example;branch=z9hG4bK776asdhds\r\n"
    b"Via: SIP/2.0/UDP caller.example;branch=z9hG4bKnashds8\r\n"
    b'From: "Li, Wei" <sip:+86-138-0013-8000@caller.example;user=phone>;tag=1928301774\r\n'
    b"To: <sip:+8613900139000@callee.example;user=phone>;tag=t1\r\n"
    b"Call-ID: a84b4c76e66710@caller.example\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b'Reason: SIP;cause=603;text="v=analytics1;url=https://redress.example/calls;tel=+12025550100;'
    b'email=redress@carrier.example;id=00112233aabbccdd";location=TN\r\n'
    b"Content-Length: 0\r\n"
    b"\r\n"
)
# RFC 8688, section 3.2
CARD = b"Call-Info: <https://redress.example/card.jws>;purpose=jwscard"
REJECTED = re.sub(rb"Reason: [^\r]*", CARD, BLOCKED.replace(b"603 Network Blocked", b"608 Rejected"))
REDRESS = Redress(
    url="https://redress.example/calls",
    tel="+12025550100",
    email="redress@carrier.example",
    location="TN",
    source="carrier.example",
    card="https://redress.example/card.jws",
)


def verdict(action="label", confidence=0.9731, content=None, band="watch"):
    fields = (None, (), "scored", "00112233aabbccdd", "model", "2027-01-01")
    return Verdict(action, 0.5, band, content, *fields, confidence=confidence)


def test_an_invite_becomes_a_call():
    assert sip.read_invite(INVITE, 1_772_500_000.0, trusted=True, trunk="192.0.2.1") == Call(
        start=1_772_500_000.0,
        caller="+8613800138000",
        callee="+8613900139000",
        network_caller="+8613800138001",
        attestation="B",
        trunk="192.0.2.1",
    )


def test_a_message_keeps_all_values_of_a_header():
    message = sip.read_message(INVITE)
    assert message.headers["via"] == (
        "SIP/2.0/UDP proxy.example;branch=z9hG4bK776asdhds",
        "SIP/2.0/UDP caller.example;branch=z9hG4bKnashds8",
    )
    assert message.first_value("subject") == "a header in two lines"
    assert message.first_value("body") == ""


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n\n\r\n"])
def test_line_ends_before_a_message_are_skipped(before):
    """See RFC 3261, section 7.5. Peers send two line ends to keep a connection open."""
    assert sip.read_message(before + INVITE) == sip.read_message(INVITE)


def test_responses_equal_the_golden_messages():
    assert sip_replies.response(INVITE, sip_replies.network_blocked(REDRESS, "00112233aabbccdd"), "t1") == BLOCKED
    assert sip_replies.response(INVITE, sip_replies.rejected(REDRESS), "t1") == REJECTED
    q850 = sip_replies.network_blocked(Redress(tel="+12025550100"), q850=True)
    assert q850.headers == (("Reason", 'Q.850;cause=21;text="v=analytics1;tel=+12025550100";location=RLN'),)


def test_a_written_response_is_read():
    answer = sip.read_message(BLOCKED)
    status, phrase = re.fullmatch(r"SIP/2\.0 (\d{3}) (.*)", answer.first).groups()
    assert sip.outcome_of(int(status), phrase) == ("blocked", "network")
    # A request within a dialog has a tag already, which the response repeats.
    tagged = INVITE.replace(b"user=phone>\r\ni:", b"user=phone>;tag=old\r\ni:")
    assert b"user=phone>;tag=old\r\n" in sip_replies.response(tagged, Reply(404, "Not Found"), "new")


@pytest.mark.parametrize(
    ("word", "dialect", "attestation", "result", "level", "diverted"),
    [
        ("TN-Validation-Passed", "3gpp", "unknown", "passed", None, False),
        ("TN-Validation-Failed", "3gpp", "failed", "failed", None, False),
        ("No-TN-Validation", "3gpp", "none", "none", None, False),
        ("TN-Validation-Passed", "telnyx", "A", "passed", "A", False),
        ("TN-Validation-Passed-B", "telnyx", "B", "passed", "B", False),
        ("TN-Validation-Failed", "telnyx", "failed", "failed", None, False),
        ("TN-Validation-Passed-C", "twilio", "C", "passed", "C", False),
        ("TN-Validation-Failed-A", "twilio", "failed", "failed", "A", False),
        ("TN-Validation-Passed-A-Diverted", "twilio", "A", "passed", "A", True),
        ("TN-Validation-Failed-C-Diverted", "twilio", "failed", "failed", "C", True),
        ("TN-Validation-Passed-A-Passthrough", "twilio", "A", "passed", "A", False),
        ("tn-validation-passed-a", "twilio", "A", "passed", "A", False),
        ("NULL", "twilio", "unknown", "unknown", None, False),
        ("TN-Validation-Passed-D", "twilio", "unknown", "unknown", None, False),
        ("", "3gpp", "unknown", "unknown", None, False),
    ],
)
def test_verstat_is_read_in_each_dialect(word, dialect, attestation, result, level, diverted):
    verstat = sip.read_verstat(word, dialect)
    assert (verstat.result, verstat.level, verstat.diverted, verstat.raw) == (result, level, diverted, word)
    assert verstat.attestation == attestation
    assert attestation in ATTESTATIONS


def test_a_verstat_is_read_from_each_of_its_places():
    call = lambda **more: sip.to_call(
        0.0, "tel:110", "<tel:+8613800138000;verstat=No-TN-Validation>", trusted=True, **more
    )
    assert call().attestation == "none"
    passed = "<sip:+1@a.example;verstat=TN-Validation-Passed>"
    assert call(asserted=passed).attestation == "unknown"
    assert call(asserted=passed, attestation_info='"B"').attestation == "B"
    assert call(asserted=passed, attestation_info="D").attestation == "unknown"
    assert call(asserted=passed, dialect="telnyx").attestation == "A"
    assert call(attestation_info="A").attestation == "none"
    assert call(verstat="TN-Validation-Failed-A", dialect="twilio").attestation == "failed"
    with pytest.raises(ValueError, match="dialect must be one of"):
        sip.read_verstat("", "other")


def test_hidden_callers_are_withheld():
    asserted = "<tel:+8613800138001>"
    call = lambda sender, **more: sip.to_call(0.0, "sip:110@b.example", sender, trusted=True, **more)
    hidden = call("<sip:anonymous@anonymous.invalid>", asserted=asserted)
    private = call("<sip:+1@a.example>", asserted=asserted, privacy="header;id")
    assert hidden == private
    assert (hidden.caller, hidden.network_caller) == ("", "+8613800138001")
    assert call("<sip:+1@a.example>", privacy="idle").caller == "+1"


def test_an_untrusted_peer_asserts_nothing():
    call = sip.read_invite(INVITE, 0.0)
    assert (call.caller, call.network_caller, call.attestation) == ("+8613800138000", None, "unknown")
    sender, more = "<tel:+8613800138000;verstat=TN-Validation-Passed-A>", {"verstat": "TN-Validation-Passed-A"}
    call = sip.to_call(0.0, "tel:110", sender, asserted=sender, attestation_info="A", dialect="telnyx", **more)
    assert (call.network_caller, call.attestation) == (None, "unknown")


@pytest.mark.parametrize(("address", "user"), [
    ("sip:+8613800138000@a.example", "+8613800138000"),
    ("SIPS:+8613800138000:secret@a.example", "+8613800138000"),
    ("<tel:+86(138)0013.8000;phone-context=x>;tag=1", "+8613800138000"),
    ('"a \\" <sip:1@b>" <sip:95588;verstat=x@a.example?Replaces=y>', "95588"),
    ("Li Wei <sip:li-wei@a.example>", "li-wei"),
    ("sip:we%22ird@a.example", 'we"ird'),
    ("sip:a.example", ""),
])  # fmt: skip
def test_the_user_of_an_address_is_read(address, user):
    assert sip.user_of(address) == user


@pytest.mark.parametrize("address", ["", "mailto:a@b.example", "<http://a.example>", "sip:%00@a", f"tel:{'1' * 200}"])
def test_an_invalid_address_is_refused(address):
    with pytest.raises(ValueError, match=r"^an address must") as error:
        sip.user_of(address)
    assert "111" not in str(error.value)


def test_every_final_status_has_an_outcome_and_607_alone_is_a_complaint():
    for status in range(100, 800):
        outcome, by = sip.outcome_of(status)
        assert outcome in OUTCOMES
        assert by in RELEASED_BY
        assert (outcome == "answered") == (200 <= status < 300)
        assert (outcome == "unknown") == (status < 200 or status >= 700)
        assert (outcome == "unwanted") == (status == 607)


@pytest.mark.parametrize(
    ("confidence", "content", "band", "parameters"),
    [
        (0.9731, None, "watch", ";confidence=97;type=spam"),
        (0.999999, "fraud", "watch", ";confidence=99;type=fraud"),
        (1.0, "loans", "watch", ";confidence=100;type=spam"),
        (0.07, "debt_collection", "watch", ";confidence=7;type=debt-collection"),
        (0.29, "survey", "watch", ";confidence=29;type=survey"),  # not 28, though the nearest float64 lies below 0.29
        (1e-9, None, "watch", ";confidence=0;type=spam"),
        (0.8, "fraud", "", ";confidence=80;type=spam"),  # a rule: the model's content is not its own
        (math.nan, None, "", ";type=spam"),  # a rule without a figure in the policy
    ],
)
def test_a_label_states_confidence_and_type(confidence, content, band, parameters):
    expected = f"<https://redress.example/calls>;source=carrier.example;purpose=info{parameters}"
    for action in ("label", "screen"):
        assert sip_replies.label(verdict(action, confidence, content, band), REDRESS) == expected


def test_only_a_label_or_screen_is_labelled():
    for unlabelled in (verdict("pass"), verdict("block")):
        assert sip_replies.label(unlabelled, REDRESS) is None
    assert sip_replies.label(verdict(), Redress(tel="+1234")).startswith("<data:,>;purpose=info;")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "redress needs a url, a tel or an email"),
        ({"url": "http://a.example"}, "url must be an https URL"),
        ({"url": 'https://a.example/";x'}, "url must be an https URL"),
        ({"url": "https://a.example\r\nX: y"}, "url must be an https URL"),
        ({"tel": "13800138000"}, "tel must be a number in E.164 form"),
        ({"email": "a@b;c"}, "email must be an e-mail address"),
        ({"tel": "+1234", "location": "HERE"}, "location must be one of"),
        ({"tel": "+1234", "source": "a b"}, "source must be a host name"),
        ({"tel": "+1234", "card": "data:,"}, "card must be an https URL"),
    ],
)
def test_an_invalid_redress_is_refused(fields, rule):
    with refused(rule):
        Redress(**fields)


def test_an_invalid_response_is_refused():
    with pytest.raises(ValueError, match="608 needs the address of a signed jCard"):
        sip_replies.rejected(Redress(tel="+1234"))
    with pytest.raises(ValueError, match="case id"):
        sip_replies.network_blocked(REDRESS, 'x";location=LN')
    with pytest.raises(ValueError, match="tag must be a token"):
        sip_replies.response(INVITE, Reply(603, "Decline"), "a b")
    with pytest.raises(ValueError, match="must have a CSeq header"):
        sip_replies.response(INVITE.replace(b"CSeq", b"Sequence"), Reply(603, "Decline"), "t")


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "first line"),
        (b"BYE sip:a@b SIP/2.0\r\n\r\n", "first line"),
        (b"INVITE sip:a@b SIP/3.0\r\n\r\n", "first line"),
        (b"INVITE sip:a@b SIP/2.0\r\n\r\n", "From header"),
        (b"INVITE sip:a@b SIP/2.0\r\nno header\r\n\r\n", "header line 1 must be"),
        (b"x" * 70_000, "at most 65535 bytes"),
        (b"INVITE sip:a@b SIP/2.0\r\n" + b"a: b\r\n" * 300, "at most 256 headers"),
        (INVITE.replace(b"sip:+8613900139000@callee.example;user=phone S", b"http://a.example S"), "an address must"),
    ],
)
def test_an_invalid_invite_is_refused(data, rule):
    with pytest.raises(ValueError, match=rule):
        sip.read_invite(data, 0.0)


def read_in_every_way(data):
    """Reads bytes with every parser; a ValueError must have one line and no number."""
    text = data.decode("utf-8", "replace")
    readers = [
        lambda: sip.read_message(data),
        lambda: sip.read_invite(data, 0.0),
        lambda: sip.read_invite(data, 0.0, dialect="twilio"),
        lambda: sip_replies.response(data, Reply(603, "Decline"), "t"),
        lambda: sip.read_verstat(text),
        lambda: sip.user_of(text),
        lambda: sip.to_call(
            0.0, text, text, asserted=text, privacy=text, verstat=text, attestation_info=text, trusted=True
        ),
    ]
    for read in readers:
        try:
            value = read()
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
            assert not re.search(r"\d{7}", str(error))
        else:
            if isinstance(value, Call):
                assert value.attestation in ATTESTATIONS
                assert len(value.caller) <= sip.MAX_USER
            if isinstance(value, bytes):
                assert value.startswith(b"SIP/2.0 603 Decline\r\n")


PIECES = st.sampled_from([b"sip:", b"tel:", b"<", b">", b'"', b";", b"@", b".", b"verstat=", b"\r\n", b" ", b"INVITE ",
                          b" SIP/2.0", b"From:", b"To:", b"1" * 9, b"\\", b"%", b"\xff", b"e30", b"tag="])  # fmt: skip


@pytest.mark.system
@settings(max_examples=300)
@given(st.binary(max_size=300) | st.lists(PIECES, max_size=40).map(b"".join))
@example(b"")
@example(b'"' * 60_000)
@example(b";" * 60_000)
@example(b" " * 60_000 + b"<")
@example(b"a" + b"\r\n " * 20_000)
@example(b";verstat" * 7_000)
@example(b"[" * 8_000 + b"." + b"[" * 100 + b".x")
def test_any_bytes_are_read_or_refused(data):
    read_in_every_way(data)


@pytest.mark.system
def test_mutants_of_a_message_are_read_or_refused():
    draw, read = random.Random(608), 0
    pieces = [b"\r\n", b"\0", b";", b'"', b"<", b">", b"@", "你".encode()]
    for _ in range(3000):
        changed = mutant(INVITE, draw, pieces)
        read_in_every_way(changed)
        try:
            sip.read_invite(changed, 0.0)
        except ValueError:
            continue
        read += 1
    assert 500 < read < 2950


@given(st.text(max_size=40))
def test_a_redress_cannot_add_parameters_or_headers(text):
    for name in ("url", "tel", "email", "source", "card", "location"):
        try:
            redress = Redress(**({"tel": "+1234"} | {name: text}))
        except ValueError:
            continue
        for _, value in sip_replies.network_blocked(redress).headers:
            assert value.count('"') == 2
            assert value.isprintable()
            assert len(re.findall(r"(?:^|;)(cause|text|location)=", re.sub(r'"[^"]*"', "", value))) == 3


@given(st.floats(0, 1, exclude_min=True), st.sampled_from([None, "fraud", "x;y", "survey"]))
def test_a_label_states_a_whole_percentage(share, content):
    header = sip_replies.label(verdict("label", share, content), REDRESS)
    confidence, kind = re.search(r";confidence=(\d{1,3});type=([a-z-]+)$", header).groups()
    assert int(confidence) == math.floor(100 * Fraction(repr(share)))
    assert kind in ("spam", "fraud", "survey")
