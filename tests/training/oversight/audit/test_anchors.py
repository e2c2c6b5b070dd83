"""Checkpoints of a witness: they date the entries of a log, and only the witness's own key cosigns them."""

import base64
import hashlib
import shutil

import pytest

from callsieve.serving.bundle.signing import write_public_key
from callsieve.training.oversight.audit.anchors import Anchors
from callsieve.training.oversight.audit.checkpoint import checkpoint
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.audit_log import append
from tests.support import small_bundle as small
from tests.support.audit_notes import checkpoint_of, cosign, line_of
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


def cosigned(log, at, size):
    """Writes a checkpoint of the first entries of a log, cosigned at a moment."""
    path = log.parent / f"{at[:10]}_{size}.txt"
    path.write_text(cosign(checkpoint_of(log, small.KEY, size), at)[0])
    return path


def faults(log, *witnesses):
    seen = Anchors(witnesses=witnesses, witness_key=log.parent / "witness.pub")
    return [str(fault) for fault in verify(log, anchors=seen).faults]


def test_a_witness_dates_the_entries_before_and_after_it(log):
    assert faults(log, cosigned(log, DAY, 1)) == []
    early = cosigned(log, DAY, 2)
    assert faults(log, early) == [f"entry 1: dated {DAY_AFTER}, but {early.name} of {DAY} has it"]
    late = cosigned(log, "2026-03-04T12:00:00Z", 1)
    assert faults(log, late) == [f"entry 1: dated {DAY_AFTER}, but {late.name} of 2026-03-04T12:00:00Z lacks it"]


def test_the_key_of_the_witness_is_known_and_not_the_logs(log, tmp_path):
    path = cosigned(log, DAY, 1)
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


def test_a_checkpoint_that_a_stock_witness_cosigned_anchors_the_log(log, tmp_path):
    note, request, log_key = checkpoint(log, small.KEY, 1)
    name, size, root = note.split("\n")[:3]
    leaves = [bytes.fromhex(entry.leaf()) for entry in audit_log.read(log)]
    assert base64.b64decode(root) == hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest() and size == "2"
    assert request == f"old 1\n{base64.b64encode(leaves[1]).decode()}\n\n{note}"
    text = f"{name}\n{size}\n{root}\n"
    assert (note.removeprefix(f"{text}\n"), log_key) == line_of(name, 1, small.KEY, small.KEY.sign(text.encode()))
    path = tmp_path / "checkpoint"
    after = "2026-03-03T12:00:01Z"
    signed, public = cosign(note, after)
    path.write_text(signed)
    assert faults(log, path) == []
    (tmp_path / "witness.pub").write_text(public)
    assert faults(log, path) == []
    for wrong, says in (
        (note, "has not cosigned this checkpoint"),
        (cosign(note, after, small.OTHER_KEY)[0], "has not cosigned this checkpoint"),
        (signed.replace("\n2\n", "\n1\n", 1), "has not signed this checkpoint"),
        (signed.replace(root, base64.b64encode(leaves[0]).decode()), "has not signed this checkpoint"),
        (name + "\n", "expected a checkpoint of C2SP"),
    ):
        path.write_text(wrong)
        assert says in faults(log, path)[0]
    path.write_text(cosign(note, DAY)[0])
    assert faults(log, path) == [f"entry 1: dated {DAY_AFTER}, but checkpoint of {DAY} has it"]


def test_a_cosigned_checkpoint_names_a_rewritten_log(log, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_text(cosign(checkpoint(log, small.KEY).note, DAY_AFTER)[0])
    shutil.rmtree(log)
    for at in (DAY_BEFORE, DAY_AFTER):
        append(log, "policy", {"what": f"{at}, another"}, small.KEY)
    assert "signed for other first 2 entries: the log was rewritten" in faults(log, path)[0]
    with pytest.raises(ValueError, match="is signed by another key"):
        checkpoint(log, small.OTHER_KEY)
