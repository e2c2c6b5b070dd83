"""The commands `privacy key new`, `rotate`, `rekey` and `destroy`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import CaseStoreUrl, Json, LogOptions, Why


class Purpose(StrEnum):
    """The tokens that a key makes."""

    RECORDS = "records"
    CALLEES = "callees"
    SHARING = "sharing"
    CANARIES = "canaries"


def new(
    path: Annotated[Path, typer.Argument(help="New key file, readable by its owner only.")],
    epoch: Annotated[
        str, typer.Option(help="Name of the epoch, the time in which the key is used; each token begins with it.")
    ],
    purpose: Annotated[
        Purpose, typer.Option(help="What the tokens are for; the key is refused for any other purpose.")
    ] = Purpose.RECORDS,
    json: Json = False,
) -> None:
    """Make a key that turns numbers into tokens.

    Next: callsieve features --key.

    Example: callsieve privacy key new number.key --epoch e1
    """
    from callsieve.features.keys.callee_keys import EPHEMERAL
    from callsieve.features.keys.tokens import Key

    if epoch == EPHEMERAL:
        console.fail(f"privacy key new: --epoch {EPHEMERAL}: reserved for keys that are never stored; use another name")
    Key.generate(epoch, purpose.value).write(path)
    facts = {"key": str(path), "epoch": epoch, "purpose": purpose.value}
    text = f"{path}: key {epoch} for {purpose.value}; store it apart from the data"
    console.emit_json(facts) if json else console.say(text)


def rotate(
    old: Annotated[Path, typer.Argument(help="Key file of the current epoch.")],
    path: Annotated[Path, typer.Argument(help="New key file for the next epoch.")],
    epoch: Annotated[str, typer.Option(help="Name of the next epoch.")],
    json: Json = False,
) -> None:
    """Make the key of the next epoch; `rekey` then converts all stored tokens.

    Next: callsieve privacy key rekey.

    Example: callsieve privacy key rotate number.key next.key --epoch e2
    """
    from callsieve.features.keys.tokens import read_key

    read_key(old).rotated(epoch).write(path)
    facts = {"key": str(path), "epoch": epoch}
    console.emit_json(facts) if json else console.say(f"{path}: key {epoch}; next: callsieve privacy key rekey")


def rekey(
    old: Annotated[Path, typer.Argument(help="Key file of the old epoch.")],
    path: Annotated[Path, typer.Argument(help="Key file of the new epoch.")],
    log: LogOptions,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Folder of keyed tables; repeat for several.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder of a service's live state; stop the service first.")
    ] = None,
    store: CaseStoreUrl = None,
    callees: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--callee-keys", help="Old and new key of the called numbers in verdicts and exports."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert all tokens of the old epoch into tokens of the new epoch, and write no table of pairs.

    Next: callsieve privacy key destroy.

    Example: callsieve privacy key rekey number.key next.key --data world --audit audit --signing-key log.key
    """
    from callsieve.features.keys.rotation import Rekeying
    from callsieve.features.keys.tokens import read_key
    from callsieve.training.oversight.log.audit_log import SignedLog
    from callsieve.training.oversight.privacy.rekey import rekey_everything

    outer = None if callees is None else (read_key(callees[0], "callees"), read_key(callees[1], "callees"))
    keys = Rekeying(read_key(old), read_key(path), outer)
    with console.progress("privacy key rekey") as progress:
        signed_log = SignedLog.of(log.audit, log.signing_key)
        facts = rekey_everything(keys, data or [], state, store, signed_log, progress)
    if json:
        console.emit_json(facts)
        return
    for name, rows in facts["keyed"].items():
        console.say(f"{name}: {rows}")
    console.say(f"epoch {keys.old} is now {keys.new}; entry {facts['entry']} of the audit log")


def destroy(
    path: Annotated[Path, typer.Argument(help="Key file of the epoch that ends.")],
    why: Why,
    log: LogOptions,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder that must have no token of this key; repeat for several."),
    ] = None,
    json: Json = False,
) -> None:
    """Destroy a key, so that no copy of its tokens can be linked to a number.

    Next: callsieve govern compliance.

    Example: callsieve privacy key destroy number.key --why 'end of the epoch' --audit audit --signing-key log.key
    """
    from callsieve.features.keys.tokens import read_any_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.training.oversight.log.audit_log import append
    from callsieve.training.oversight.privacy.rekey import destroy as remove
    from callsieve.training.oversight.privacy.rekey import left_of

    old, log_key = read_any_key(path), read_signing_key(log.signing_key)
    for folder in data or ():
        if count := left_of(folder, old.epoch):
            console.fail(f"{folder}: {count} files have tokens of epoch {old.epoch}: run privacy key rekey first")
    remove(path, old)
    facts: dict[str, Any] = {"what": "destroyed", "epoch": old.epoch, "purpose": old.purpose, "why": why}
    entry = append(log.audit, "key", facts, log_key)
    console.emit_json(facts | {"entry": entry}) if json else console.say(f"epoch {old.epoch} is destroyed")
