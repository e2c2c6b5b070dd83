"""The commands `privacy key new`, `rotate`, `rekey` and `destroy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key, Purpose, read_any_key, read_key
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import CaseStoreUrl, Why

from .log_options import LogOptions


def new(
    path: Annotated[Path, typer.Argument(help="New key file, readable by its owner only.")],
    epoch: Annotated[
        str, typer.Option(help="Name of the epoch, the time in which the key is used; each token begins with it.")
    ],
    purpose: Annotated[
        Purpose, typer.Option(help="What the tokens are for; the key is refused for any other purpose.")
    ] = "records",
) -> Result:
    """Make a key that turns numbers into tokens.

    Next: callsieve features --key.

    Example: callsieve privacy key new number.key --epoch e1
    """
    if epoch == EPHEMERAL:
        console.fail(f"privacy key new: --epoch {EPHEMERAL}: reserved for keys that are never stored; use another name")
    Key.generate(epoch, purpose).write(path)
    facts = {"key": str(path), "epoch": epoch, "purpose": purpose}
    return Result(facts, f"{path}: key {epoch} for {purpose}; store it apart from the data")


def rotate(
    old: Annotated[Path, typer.Argument(help="Key file of the current epoch.")],
    path: Annotated[Path, typer.Argument(help="New key file for the next epoch.")],
    epoch: Annotated[str, typer.Option(help="Name of the next epoch.")],
) -> Result:
    """Make the key of the next epoch; `rekey` then converts all stored tokens.

    Next: callsieve privacy key rekey.

    Example: callsieve privacy key rotate number.key next.key --epoch e2
    """
    read_key(old).rotated(epoch).write(path)
    facts = {"key": str(path), "epoch": epoch}
    return Result(facts, f"{path}: key {epoch}; next: callsieve privacy key rekey")


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
) -> Result:
    """Convert all tokens of the old epoch into tokens of the new epoch, and write no table of pairs.

    Next: callsieve privacy key destroy.

    Example: callsieve privacy key rekey number.key next.key --data world --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy.rekey import rekey_everything

    outer = None if callees is None else (read_key(callees[0], "callees"), read_key(callees[1], "callees"))
    keys = Rekeying(read_key(old), read_key(path), outer)
    with console.progress("privacy key rekey") as progress:
        facts = rekey_everything(keys, data or [], state, store, log.signed(), progress)
    lines = [f"{name}: {rows}" for name, rows in facts["keyed"].items()]
    return Result(facts, [*lines, f"epoch {keys.old} is now {keys.new}; entry {facts['entry']} of the audit log"])


def destroy(
    path: Annotated[Path, typer.Argument(help="Key file of the epoch that ends.")],
    why: Why,
    log: LogOptions,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder that must have no token of this key; repeat for several."),
    ] = None,
) -> Result:
    """Destroy a key, so that no copy of its tokens can be linked to a number.

    Next: callsieve govern compliance.

    Example: callsieve privacy key destroy number.key --why 'end of the epoch' --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy import rekey as stores

    old, signed_log = read_any_key(path), log.signed()
    for folder in data or ():
        if count := stores.left_of(folder, old.epoch):
            console.fail(f"{folder}: {count} files have tokens of epoch {old.epoch}: run privacy key rekey first")
    stores.destroy(path, old)
    facts = {"what": "destroyed", "epoch": old.epoch, "purpose": old.purpose, "why": why}
    entry = signed_log.append("key", facts)
    return Result(facts | {"entry": entry}, f"epoch {old.epoch} is destroyed")
