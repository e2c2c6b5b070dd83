"""Statements of a witness: they date the entries of a log, and only the witness's own key makes them."""

import json

import pytest

from callsieve.serving.bundle.signing import write_public_key
from callsieve.training.oversight.audit import anchors
from callsieve.training.oversight.audit.anchors import Anchors, witness
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.audit_log import append
from callsieve.training.oversight.log.entry import encode
from tests.support import small_bundle as small
from tests.support.trainings import recorded_run

DAY_BEFORE, DAY, DAY_AFTER = (f"2026-03-0{day}T12:00:00Z" for day in (1, 2, 3))


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log with an entry of each of two days, and its witness's public key beside it."""
    for at in (DAY_BEFORE, DAY_AFTER):
        monkeypatch.setattr(audit_log, "_moment", lambda _before, at=at: at)
        append(tmp_path / "audit", "policy", {"what": at}, small.KEY)
    write_public_key(recorded_run.WITNESS.public_key(), tmp_path / "witness.pub")
    return tmp_path / "audit"


def statement(log, at, size):
    """Writes what a witness says of the first entries of a log at a moment."""
    path = log.parent / f"{at[:10]}_{size}.json"
    head = audit_log.read(log)[size - 1].head
    value = anchors.to_builtins(anchors.Statement("callsieve witness", head, at))
    signature = anchors.sign(anchors.encode(value), recorded_run.WITNESS).decode().strip()
    path.write_bytes(anchors.encode({"statement": value, "signature": signature}))
    return path


def faults(log, *witnesses):
    seen = Anchors(witnesses=witnesses, witness_key=log.parent / "witness.pub")
    return [str(fault) for fault in verify(log, anchors=seen).faults]


def test_a_witness_dates_the_entries_before_and_after_it(log):
    assert faults(log, statement(log, DAY, 1)) == []
    early = statement(log, DAY, 2)
    assert faults(log, early) == [f"entry 1: dated {DAY_AFTER}, but {early.name} of {DAY} has it"]
    late = statement(log, "2026-03-04T12:00:00Z", 1)
    assert faults(log, late) == [f"entry 1: dated {DAY_AFTER}, but {late.name} of 2026-03-04T12:00:00Z lacks it"]


def test_a_statement_is_signed_by_the_witness_over_a_head_of_the_log(log, tmp_path):
    path = tmp_path / "seen.json"
    head = witness(log, recorded_run.WITNESS, path)
    assert head.size == 2
    signed = json.loads(path.read_bytes())
    signed["statement"]["at"] = DAY
    path.write_bytes(encode(signed))
    assert "does not fit the signed file" in faults(log, path)[0]
    other = tmp_path / "other.json"
    witness(log, small.OTHER_KEY, other)
    assert "which is not trusted" in faults(log, other)[0]
    with pytest.raises(FileExistsError):
        witness(log, recorded_run.WITNESS, other)


def test_the_key_of_the_witness_is_known_and_not_the_logs(log, tmp_path):
    path = statement(log, DAY, 1)
    with pytest.raises(ValueError, match="--witness: expected --witness-key FILE, too"):
        verify(log, anchors=Anchors(witnesses=[path]))
    with pytest.raises(ValueError, match="signs the log, and cannot witness it"):
        verify(log, anchors=Anchors(witnesses=[path], witness_key=log / "log.pub"))
    (tmp_path / "gates.pub").write_bytes((tmp_path / "witness.pub").read_bytes())
    known = Anchors(trust=log / "log.pub", gates_key=tmp_path / "gates.pub")
    anchor = verify(log, anchors=known).anchor
    assert anchor.startswith("not anchored (key ") and "gates of gates.pub" in anchor


def test_an_entry_of_the_future_is_a_fault(log, monkeypatch):
    monkeypatch.setattr(audit_log, "_moment", lambda _before: "2999-01-01T00:00:00Z")
    append(log, "policy", {}, small.KEY)
    assert faults(log) == ["entry 2: dated 2999-01-01T00:00:00Z, in the future"]
