"""The commands of the audit log: verify, log, note, erase, prove, page."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import Json, LogKeyOption, RunOptions, TrackingUri, Why


class Kind(StrEnum):
    """The entries that a person may write."""

    ACCESS = "access"
    POLICY = "policy"
    THRESHOLD = "threshold"


def verify(
    folder: RunOptions,
    tracking_uri: TrackingUri = None,
    trust: Annotated[Path | None, typer.Option("--trust", help="Public key (PEM) of the log's signer.")] = None,
    head: Annotated[list[Path] | None, typer.Option(help="Signed head that was stored elsewhere; repeatable.")] = None,
    json: Json = False,
) -> None:
    """Find each change of the log, of MLflow and of the run's folder; exit code 1 if there is one.

    Example: callsieve audit verify --head head.json
    """
    from callsieve.training.audit.verify import verify as check
    from callsieve.training.log.run_paths import run_paths

    place = run_paths(folder.path, folder.audit, tracking_uri)
    with console.progress("audit verify") as progress:
        result = check(
            place.log, uri=place.uri, trust=trust, heads=head or (), run_folder=folder.path, progress=progress
        )
    if json:
        console.emit_json(result.to_json())
    else:
        for fault in result.faults:
            console.say(str(fault))
        compared = f"{result.runs} runs compared with MLflow, {result.copies} files in the folder with the log"
        console.say(f"{result.entries} entries, {compared}, {len(result.faults)} faults")
    if result.faults:
        sys.exit(1)


def log(folder: RunOptions, json: Json = False) -> None:
    """List the entries of the log.

    Example: callsieve audit log --json
    """
    from callsieve.training.log.audit_log import read
    from callsieve.training.log.run_paths import log_folder

    entries = read(log_folder(folder.path, folder.audit))
    if json:
        console.emit_json({"entries": [{"index": e.index, "at": e.at, "kind": e.kind} for e in entries]})
    else:
        rows = [(str(e.index), e.at, e.kind) for e in entries]
        console.show_table("audit log", ("entry", "at", "kind"), rows, texts=3)


def note(
    kind: Annotated[Kind, typer.Argument(help="access, policy or threshold.")],
    what: Annotated[str, typer.Option(help="What was read or changed, and to what.")],
    why: Why,
    folder: RunOptions,
    log_key: LogKeyOption,
    file: Annotated[Path | None, typer.Option(help="New policy; its hash and text enter the log.")] = None,
    json: Json = False,
) -> None:
    """Enter an access, or a change of a policy or a threshold.

    Example: callsieve audit note access --what 'read the log' --why 'yearly audit'
    """
    from callsieve.training.log.audit_log import note as enter
    from callsieve.training.log.run_paths import log_folder
    from callsieve.training.log.run_paths import log_signing_key as key_of

    key = key_of(folder.path, log_key.signing_key)
    entry = enter(log_folder(folder.path, folder.audit), kind.value, what, why, file, key)
    console.emit_json({"entry": entry}) if json else console.say(f"entry {entry}: {kind.value}")


def erase(
    entry: Annotated[int, typer.Argument(help="Index of the entry whose payload is erased.")],
    why: Why,
    folder: RunOptions,
    log_key: LogKeyOption,
    json: Json = False,
) -> None:
    """Erase the payload of an entry; the log still proves that the entry existed and was erased.

    Example: callsieve audit erase 7 --why 'request of a subscriber'
    """
    from callsieve.training.log.audit_log import erase as remove
    from callsieve.training.log.run_paths import log_folder
    from callsieve.training.log.run_paths import log_signing_key as key_of

    key = key_of(folder.path, log_key.signing_key)
    new = remove(log_folder(folder.path, folder.audit), entry, why, key)
    console.emit_json({"entry": new, "erased": entry}) if json else console.say(f"entry {entry}: erased, entry {new}")


def prove(
    entry: Annotated[int, typer.Argument(help="Index of an entry.")],
    folder: RunOptions,
    since: Annotated[int | None, typer.Option("--since-size", help="Size of an older head of the log.")] = None,
    json: Json = False,
) -> None:
    """Print the proof (RFC 6962) that an entry is in the log, and that the log extends an older head.

    Example: callsieve audit prove 7
    """
    from callsieve.training.log.audit_log import proof
    from callsieve.training.log.run_paths import log_folder

    del json  # a proof is always JSON
    console.emit_json(proof(log_folder(folder.path, folder.audit), entry, since))


def page(
    run: Annotated[str, typer.Argument(help="Id of the run in MLflow, or of its model.")],
    out: Annotated[Path, typer.Option("--out", help="HTML file.")],
    folder: RunOptions,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Write the audit page of a run: one HTML file that needs no network and no knowledge of the code.

    Example: callsieve audit page a1b2c3 --out audit.html
    """
    from callsieve.training.audit.page import write_page
    from callsieve.training.log.run_paths import run_paths

    write_page(run_paths(folder.path, folder.audit, tracking_uri), run, out)
    console.emit_json({"page": str(out)}) if json else console.say(f"{out}: written")
