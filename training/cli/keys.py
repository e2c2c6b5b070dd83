"""Commands of keys: new ones, the next epoch, everything keyed anew, an epoch destroyed. Thin."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from callsieve.serving.cli.options import Json, Log, LogKey

commands = typer.Typer()
key = typer.Typer(no_args_is_help=True, help="Keys of the tokens of numbers, and their epochs.")
commands.add_typer(key, name="key")


class Purpose(StrEnum):
    """What a key is for."""

    RECORDS = "records"
    CALLEES = "callees"
    SHARING = "sharing"
    CANARIES = "canaries"


@key.command()
def new(
    path: Annotated[Path, typer.Argument(help="New file, which only its owner may read.")],
    epoch: Annotated[str, typer.Option(help="Name of the epoch; it stands before each token.")],
    purpose: Annotated[
        Purpose, typer.Option(help="What for; a key is refused for any other purpose.")
    ] = Purpose.RECORDS,
    json: Json = False,
) -> None:
    """Make a key."""
    from callsieve.features.keys.callee_keys import ONCE
    from callsieve.features.keys.tokens import Key
    from callsieve.serving.cli import console

    if epoch == ONCE:
        console.fail(f"key: the epoch {ONCE} is that of keys which are kept nowhere; expected another name")
    Key.generate(epoch, purpose.value).write(path)
    facts = {"key": str(path), "epoch": epoch, "purpose": purpose.value}
    console.emit_json(facts) if json else console.say(
        f"{path}: key {epoch} for {purpose.value}; keep it apart from the data"
    )


@key.command()
def rotate(
    old: Annotated[Path, typer.Argument(help="Key file of the present epoch.")],
    path: Annotated[Path, typer.Argument(help="New file for the key of the next one.")],
    epoch: Annotated[str, typer.Option(help="Name of the next epoch.")],
    json: Json = False,
) -> None:
    """Make the key of the next epoch; `rekey` then turns the tokens of everything that is kept."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.cli import console

    read_key(old).rotated(epoch).write(path)
    facts = {"key": str(path), "epoch": epoch}
    console.emit_json(facts) if json else console.say(f"{path}: key {epoch}; next: callsieve key rekey")


@key.command()
def rekey(
    old: Annotated[Path, typer.Argument(help="Key file of the old epoch.")],
    path: Annotated[Path, typer.Argument(help="Key file of the new one.")],
    audit: Log,
    signing_key: LogKey,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder of keyed tables; once for each.")] = None,
    state: Annotated[Path | None, typer.Option("--state", help="Live state of a scorer that is stopped.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Address of the store of cases.")] = None,
    callees: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--callee-keys", help="Old and new key of called numbers in verdicts and exports among the data."),
    ] = None,
    json: Json = False,
) -> None:
    """Turn every token of the old epoch into that of the new one: histories go on, and no table of pairs is written."""
    from callsieve.features.keys.rotation import Rekeying
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.privacy.rekey import rekey_everything

    outer = None if callees is None else (read_key(callees[0], "callees"), read_key(callees[1], "callees"))
    keys = Rekeying(read_key(old), read_key(path), outer)
    with console.progress("key rekey") as tell:
        facts = rekey_everything(keys, data or [], state, store, audit, read_signing_key(signing_key), tell)
    if json:
        console.emit_json(facts)
    else:
        for name, rows in facts["keyed"].items():
            console.say(f"{name}: {rows}")
        console.say(f"epoch {keys.old} is now {keys.new}; entry {facts['entry']} of the audit log")


@key.command()
def destroy(
    path: Annotated[Path, typer.Argument(help="Key file of the epoch that ends.")],
    why: Annotated[str, typer.Option(help="Reason, for the log.")],
    audit: Log,
    signing_key: LogKey,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder that must hold none of its tokens.")] = None,
    json: Json = False,
) -> None:
    """Destroy a key: what is left of its tokens, in whatever copy, is linked to nobody any more."""
    from callsieve.features.keys.tokens import read_any_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.log.audit_log import append
    from callsieve.training.privacy.rekey import destroy as burn
    from callsieve.training.privacy.rekey import left_of

    old, log_key = read_any_key(path), read_signing_key(signing_key)
    for folder in data or ():
        if found := left_of(folder, old.epoch):
            console.fail(f"{folder}: {found} files hold tokens of epoch {old.epoch}: key them anew first")
    burn(path, old)
    facts: dict[str, Any] = {"what": "destroyed", "epoch": old.epoch, "purpose": old.purpose, "why": why}
    entry = append(audit, "key", facts, log_key)
    console.emit_json(facts | {"entry": entry}) if json else console.say(f"epoch {old.epoch} is destroyed")
