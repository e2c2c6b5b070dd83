"""The user's key folder: the private keys that sign bundles and audit logs, one file a key, named by the key's id.

A private key beside the log that it signs would go wherever the folder of the run goes. So a run has only public keys,
and its private key is found by the id of the public one. The folder is the one that CALLSIEVE_KEY_FOLDER names, or
`callsieve/keys` in the user's configuration.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.signing import (
    SIGNER,
    SIGNING_KEY,
    generate_signing_key,
    key_id,
    read_public_key,
    read_signing_key,
)

from .audit_log import PUBLIC_KEY

VARIABLE = "CALLSIEVE_KEY_FOLDER"


def key_folder() -> Path:
    """Returns the path of the user's key folder, which may not exist yet."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "callsieve" / "keys"


def new_key() -> Ed25519PrivateKey:
    """Makes a key in the user's key folder, which only the user can read, and returns it."""
    folder = key_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=folder) as part:
            private = Path(part) / "key"
            name = generate_signing_key(private, Path(part) / "pub")
            private.rename(folder / f"{name}.key")
    except OSError as error:
        reason = f"{folder}: no key can be made here ({error.strerror})"
        raise ValueError(f"{reason}; set {VARIABLE}, or give --signing-key FILE") from None
    return read_signing_key(folder / f"{name}.key")


def key_path(run: Path, log: Path) -> Path:
    """Returns the path of the private key of a log: in the user's key folder, or beside the run of an earlier version.

    Returns: A path that may not exist.
    """
    public = next((path for path in (log / PUBLIC_KEY, run / SIGNER) if path.exists()), None)
    private = run / SIGNING_KEY
    if public is None:
        return private
    own = key_folder() / f"{key_id(read_public_key(public))}.key"
    return private if private.exists() and not own.exists() else own


def log_signing_key(run: Path, log: Path, path: Path | None) -> Ed25519PrivateKey:
    """Reads the key that signs the log of a run: that of `path`, or the one of `key_path`."""
    private = path or key_path(run, log)
    if not private.exists():
        raise ValueError(f"{private}: no key that signs {log}; expected --signing-key FILE")
    return read_signing_key(private)
