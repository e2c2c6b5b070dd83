"""SIP messages and headers are read, and parsers read or refuse any bytes."""

import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.records import ATTESTATIONS, OUTCOMES, RELEASED_BY, Call
from callsieve.serving.telephony import sip
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


@pytest.mark.parametrize(
    ("word", "dialect", "attestation"),
    [
        ("TN-Validation-Passed", "3gpp", "passed"),
        ("TN-Validation-Failed", "3gpp", "failed"),
        ("No-TN-Validation", "3gpp", "none"),
        ("TN-Validation-Passed", "telnyx", "A"),
        ("TN-Validation-Passed-B", "telnyx", "B"),
        ("TN-Validation-Failed", "telnyx", "failed"),
        ("TN-Validation-Passed-C", "twilio", "C"),
        ("TN-Validation-Failed-A", "twilio", "failed"),
        ("TN-Validation-Passed-A-Diverted", "twilio", "A"),
        ("TN-Validation-Failed-C-Diverted", "twilio", "failed"),
        ("TN-Validation-Passed-A-Passthrough", "twilio", "A"),
        ("tn-validation-passed-a", "twilio", "A"),
        ("NULL", "twilio", "unknown"),
        ("TN-Validation-Passed-D", "twilio", "unknown"),
        ("", "3gpp", "unknown"),
    ],
)
def test_verstat_is_read_in_each_dialect(word, dialect, attestation):
    assert sip.read_verstat(word, dialect) == attestation


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
    ("data", "rule"),
    [
        (b"INVITE sip:a@b SIP/2.0\r\nno header\r\n\r\n", "header line 1 must be"),
        (b"x" * 70_000, "at most 65535 bytes"),
        (b"INVITE sip:a@b SIP/2.0\r\n" + b"a: b\r\n" * 300, "at most 256 headers"),
    ],
)
def test_an_invalid_message_is_refused(data, rule):
    with pytest.raises(ValueError, match=rule):
        sip.read_message(data)


def read_in_every_way(data):
    """Reads bytes with every parser; a ValueError must have one line and no number."""
    text = data.decode("utf-8", "replace")
    readers = [
        lambda: sip.read_message(data),
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
            sip.read_message(changed)
        except ValueError:
            continue
        read += 1
    assert 500 < read < 2950
