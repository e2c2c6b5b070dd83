"""Checkpoints of an audit log and cosignatures, written after the specifications of C2SP, not by callsieve's code."""

import base64
import hashlib
from datetime import datetime

from callsieve.serving.bundle.signing import key_id
from callsieve.training.oversight.log import audit_log
from tests.support.trainings import recorded_run


def line_of(name, kind, key, signature):
    """A signature line of C2SP signed-note, written after its specification."""
    public = key.public_key().public_bytes_raw()
    digest = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
    return (
        f"\u2014 {name} {base64.b64encode(digest + signature).decode()}\n",
        f"{name}+{digest.hex()}+" + base64.b64encode(bytes([kind]) + public).decode(),
    )


def cosign(note, at, key=recorded_run.WITNESS, name="witness.example/w1"):
    """The note with a cosignature/v1, as a stock witness gives it, and the witness's key as text."""
    text, seconds = note.split("\n\n")[0] + "\n", int(datetime.fromisoformat(at).timestamp())
    signature = key.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    line, public = line_of(name, 4, key, seconds.to_bytes(8, "big") + signature)
    return note + line, public


def checkpoint_of(log, key, size):
    """The checkpoint of the first entries of a log, signed by the log's key."""
    name, root = f"callsieve/{key_id(key.public_key())}", audit_log.read(log)[size - 1].head.root
    text = f"{name}\n{size}\n{base64.b64encode(bytes.fromhex(root)).decode()}\n"
    return f"{text}\n{line_of(name, 1, key, key.sign(text.encode()))[0]}"
