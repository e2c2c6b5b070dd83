"""The statement beside a bundle: other tools accept it, and a forged or foreign one is refused in one line."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from callsieve.serving.bundle import attestation
from callsieve.serving.bundle.attestation import attestation_path, verify_attestation, write_attestation
from callsieve.serving.bundle.signing import write_public_key
from tests.support import small_bundle as small
from tests.support.debian import program
from tests.support.paths import ROOT

PUBLIC = small.KEY.public_key()
PAGE = ROOT / "docs" / "reference" / "bundle.md"


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """The folder of a run: a bundle, its statement, the signer's public key, and another bundle with its statement."""
    folder = tmp_path_factory.mktemp("stated")
    (folder / "documents").mkdir()
    (folder / "documents/model_card.md").write_text("# Model card\n")
    digest = hashlib.sha256(b"# Model card\n").hexdigest()
    card = {"name": "documents/model_card.md", "digest": {"sha256": digest}}
    for name, epoch in (("bundle", 5), ("other", 6)):
        small.write_bundle(folder / name, epoch=epoch)
        write_attestation(folder / name, {"buildDefinition": {}, "runDetails": {"byproducts": [card]}}, small.KEY)
    write_public_key(PUBLIC, folder / "signer.pub")
    return folder


@pytest.fixture
def folder(stated, tmp_path):
    return shutil.copytree(stated, tmp_path / "run")


def dsse(kind, payload):
    """Returns the bytes that a signature covers, by the specification of DSSE 1.0."""
    return b" ".join([b"DSSEv1", b"%d" % len(kind), kind.encode(), b"%d" % len(payload), payload])


def rewrite(path, *, key=small.KEY, kind=attestation.PAYLOAD_TYPE, payload_of=lambda payload: payload, **changes):
    """Changes the statement and signs it, as a person with that key would."""
    payload = base64.b64decode(json.loads(path.read_bytes())["payload"])
    payload = payload_of(json.dumps(json.loads(payload) | changes).encode())
    signature = {"keyid": "anything", "sig": base64.b64encode(key.sign(dsse(kind, payload))).decode()}
    envelope = {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}
    path.write_text(json.dumps(envelope))


def payload_edited(path):
    envelope = json.loads(path.read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b"buildDefinition", b"buildDefinitioN")
    path.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))


def payload_signed_without_its_type(path):
    envelope = json.loads(path.read_bytes())
    signature = small.KEY.sign(base64.b64decode(envelope["payload"]))
    path.write_text(json.dumps(envelope | {"signatures": [{"sig": base64.b64encode(signature).decode()}]}))


def test_the_statement_names_all_files_of_its_bundle(folder):
    statement = verify_attestation(folder / "bundle", PUBLIC)
    names = [subject.name for subject in statement.subject]
    assert names == sorted(path.name for path in (folder / "bundle").iterdir())
    assert statement.predicate["buildDefinition"] == {}
    # Others may sign it, too, and a link to the bundle leads to the statement.
    path = attestation_path(folder / "bundle")
    envelope = json.loads(path.read_bytes())
    envelope["signatures"].insert(0, {"sig": "c2lnbmF0dXJl"})
    path.write_text(json.dumps(envelope))
    (folder / "current").symlink_to("bundle")
    assert verify_attestation(folder / "current", PUBLIC) == statement


FORGERIES = [
    ("edited", payload_edited, "no valid signature"),
    ("signed by a stranger", lambda path: rewrite(path, key=small.OTHER_KEY), "no valid signature"),
    ("signed without its type", payload_signed_without_its_type, "no valid signature"),
    ("not signed", lambda path: path.write_text(json.dumps(json.loads(path.read_bytes()) | {"signatures": []})),
        "signatures: expected `array` of length >= 1"),
    ("of another type", lambda path: rewrite(path, kind="text/plain"), "payloadType: invalid enum value 'text/plain'"),
    ("of another bundle", lambda path: shutil.copy(path.with_name("other.provenance.json"), path),
        "other files than the bundle's: MANIFEST.json, MANIFEST.sig, bundle.json$"),
    ("about no file", lambda path: rewrite(path, subject=[]), "subject: expected `array` of length >= 1"),
    ("about too few files", lambda path: rewrite(path, subject=[{"name": "model.txt", "digest": {"sha256": "0"}}]),
        "other files than the bundle's: MANIFEST.json, .*model.txt"),
    ("about a file of two lines", lambda path: rewrite(path, subject=[{"name": "a\nb", "digest": {}}]),
        "subject.*: expected a printable text"),
    ("another statement", lambda path: rewrite(path, _type="https://in-toto.io/Statement/v0.1"), "_type: invalid"),
    ("of another predicate", lambda path: rewrite(path, predicateType="https://slsa.dev/verification_summary/v1"),
        "predicateType: invalid enum value"),
    ("no statement", lambda path: rewrite(path, payload_of=lambda _: b"[]"), "statement: expected `object`"),
    ("no JSON", lambda path: path.write_bytes(b"\xff"), "can't decode"),
    ("no base64", lambda path: path.write_text(
        json.dumps({"payloadType": attestation.PAYLOAD_TYPE, "payload": "?", "signatures": []})),
        "payload: invalid base64"),
    ("no payload", lambda path: path.write_text(json.dumps({"payloadType": attestation.PAYLOAD_TYPE})),
        "missing required field `payload`"),
    ("huge", lambda path: path.write_bytes(b" " * (attestation._MAX_BYTES + 1)), "at most"),
]  # fmt: skip


@pytest.mark.source("L36", by="serving/bundle/attestation.py")
@pytest.mark.parametrize(("forge", "text"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forged_or_foreign_statement_is_refused(folder, forge, text):
    forge(attestation_path(folder / "bundle"))
    with pytest.raises(ValueError, match=text) as caught:
        verify_attestation(folder / "bundle", PUBLIC)
    assert "\n" not in str(caught.value)


def test_the_test_signs_as_the_bundle_does(folder):
    """Without a change, `rewrite` gives a valid statement: the refusals above have their own reasons."""
    rewrite(attestation_path(folder / "bundle"))
    assert verify_attestation(folder / "bundle", PUBLIC).predicate_type == attestation.PREDICATE


def test_the_commands_of_the_page_verify_it_without_this_package(folder):
    assert program("jq") and program("openssl")
    (commands,) = re.findall(r"```sh\n(jq .*?)```", PAGE.read_text(), re.DOTALL)

    def run():
        words = ("bash", "-e", "-c", commands)
        return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    assert "Verified Successfully" in done.stdout and done.stdout.count(": OK") == 8
    payload_edited(attestation_path(folder / "bundle"))
    assert run().returncode != 0
