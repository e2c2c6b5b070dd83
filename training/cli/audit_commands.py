"""The commands of the audit log: verify, witness, show, attempts, note, erase, prove, page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import Json, Lang, LogKeyOption, RunOptions, SigningKey, TrackingUri, Why

if TYPE_CHECKING:
    from callsieve.training.oversight.log.entry import Entry

KINDS = {"touch": "use of test data"}  # names of entries that a table shows in other words


class Kind(StrEnum):
    """The entries that a person may write."""

    ACCESS = "access"
    POLICY = "policy"
    THRESHOLD = "threshold"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorOptions:
    """Files that were stored outside the log, which a verification rests on."""

    trust: Annotated[Path | None, typer.Option("--trust", help="Public key (PEM) of the log's signer.")] = None
    head: Annotated[
        list[Path] | None, typer.Option(help="Signed head of the log, stored outside it; repeat for several.")
    ] = None
    witness: Annotated[list[Path] | None, typer.Option(help="File that `audit witness` wrote; repeat for several.")] = (
        None
    )
    witness_key: Annotated[Path | None, typer.Option("--witness-key", help="Public key (PEM) of the witness.")] = None
    gates_key: Annotated[Path | None, typer.Option("--gates-key", help="Public key (PEM) of the gates' owner.")] = None


def verify(
    folder: RunOptions,
    anchor: AnchorOptions,
    tracking_uri: TrackingUri = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Verify that log, MLflow store and run folder are unchanged; exit code 1 and one line for each change.

    The first line names the files from outside the log with which it was compared.

    Next: callsieve audit attempts.

    Example: callsieve audit verify --trust log.pub --head head.json
    """
    from callsieve.training.language import gettext, language
    from callsieve.training.oversight.audit.anchors import Anchors
    from callsieve.training.oversight.audit.verify import verify as check
    from callsieve.training.oversight.log.run_paths import run_paths

    place = run_paths(folder.path, folder.audit, tracking_uri)
    anchors = Anchors(anchor.trust, anchor.head or (), anchor.witness or (), anchor.witness_key, anchor.gates_key)
    with console.progress("audit verify") as progress, language(lang):
        result = check(place.log, uri=place.uri, anchors=anchors, run_folder=folder.path, progress=progress)
    if json:
        console.emit_json(result.to_json())
    else:
        with language(lang):
            notes = (gettext("note: %(note)s", note=note) for note in result.notes)
            for line in (result.anchor, *result.faults, *notes):
                console.say(str(line))
            summary = gettext(
                "%(entries)s entries, %(runs)s runs compared with MLflow, %(copies)s files in the folder with the log, "
                "%(faults)s faults",
                entries=result.entries,
                runs=result.runs,
                copies=result.copies,
                faults=len(result.faults),
            )
            console.say(summary)
    if result.faults:
        sys.exit(1)


def witness(
    out: Annotated[Path, typer.Option("--out", help="New file for the statement; keep it outside the log.")],
    signing_key: SigningKey,
    folder: RunOptions,
    json: Json = False,
) -> None:
    """Sign the newest head of a log and the time, as a witness: later changes of these entries are detected.

    Next: callsieve audit verify --head.

    Example: callsieve audit witness --signing-key witness.key --out witness.json
    """
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.training.oversight.audit.anchors import witness as sign
    from callsieve.training.oversight.log.run_paths import log_folder

    head = sign(log_folder(folder.path, folder.audit), read_signing_key(signing_key), out)
    facts = {"entries": head.size, "root": head.root, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {head.size} entries, root {head.root}")


def show(
    folder: RunOptions,
    entry: Annotated[int | None, typer.Argument(help="Index of an entry; its content is printed.")] = None,
    json: Json = False,
) -> None:
    """List the entries of the log and who wrote them, or print the content of one.

    Next: callsieve audit verify.

    Example: callsieve audit show 2
    """
    from callsieve.training.oversight.log.audit_log import read
    from callsieve.training.oversight.log.run_paths import log_folder

    log = log_folder(folder.path, folder.audit)
    entries = [_shown(log, item) for item in read(log) if entry in (None, item.index)]
    if entry is None:
        if json:
            console.emit_json({"entries": entries})
        else:
            rows = [(str(e["index"]), e["at"], KINDS.get(e["kind"], e["kind"]), e["by"]) for e in entries]
            console.show_table("audit log", ("entry", "at", "kind", "by"), rows, texts=4)
    elif not entries:
        console.fail(f"entry {entry}: the log has no such entry")
    else:
        console.emit_json(entries[0])


def _shown(log: Path, entry: Entry) -> dict[str, Any]:
    """Returns an entry with its actors and their roles in words, and its payload, which is null if it was erased."""
    from callsieve.training.oversight.log.audit_log import read_actor, read_payload
    from callsieve.training.oversight.log.gates import parse_gates

    actor, payload = read_actor(log, entry), read_payload(log, entry)
    writer = [f"{actor['user']}, signer of the log, key {actor['key']}"] if actor else []
    approvers = [approval["by"] for approval in (payload or {}).get("approvals", ())]
    roles = [f"approved by {', '.join(approvers)}"] if approvers else []
    if payload and entry.kind == "gates":
        owner = parse_gates(payload["text"].encode(), "gates", payload.get("signature", "")).owner
        roles = [f"owned by {owner[0]}" if owner else "without an owner"]
    by = "; ".join([*writer, *roles])
    return {"index": entry.index, "at": entry.at, "kind": entry.kind, "by": by, "payload": payload}


def attempts(folder: RunOptions, json: Json = False) -> None:
    """List all trainings and studies with their results, including failed ones.

    Next: callsieve audit page.

    Example: callsieve audit attempts
    """
    from callsieve.training.oversight.audit.attempts import attempts as register
    from callsieve.training.oversight.log.run_paths import log_folder

    rows = register(log_folder(folder.path, folder.audit))
    if json:
        console.emit_json({"attempts": [row.to_json() for row in rows]})
        return
    table = [(str(row.entry), row.at, row.model, str(len(row.looks)), row.result) for row in rows]
    console.show_table("trainings and studies", ("entry", "at", "model", "uses of test data", "result"), table, texts=5)


def note(
    kind: Annotated[Kind, typer.Argument(help="access, policy or threshold.")],
    what: Annotated[str, typer.Option(help="What was read or changed, and to what.")],
    why: Why,
    folder: RunOptions,
    log_key: LogKeyOption,
    file: Annotated[Path | None, typer.Option(help="New policy file; its hash and text are recorded.")] = None,
    json: Json = False,
) -> None:
    """Record in the log that it was read, or that a policy or a threshold was changed.

    Next: callsieve audit show.

    Example: callsieve audit note access --what 'read the log' --why 'yearly audit'
    """
    from callsieve.training.oversight.log.audit_log import note as enter
    from callsieve.training.oversight.log.key_folder import log_signing_key as key_of
    from callsieve.training.oversight.log.run_paths import log_folder

    log = log_folder(folder.path, folder.audit)
    key = key_of(folder.path, log, log_key.signing_key)
    entry = enter(log, kind.value, what, why, file, key)
    console.emit_json({"entry": entry}) if json else console.say(f"entry {entry}: {kind.value}")


def erase(
    entry: Annotated[int, typer.Argument(help="Index of the entry whose content is erased.")],
    why: Why,
    folder: RunOptions,
    log_key: LogKeyOption,
    json: Json = False,
) -> None:
    """Erase the content of an entry; the log still proves that the entry existed and was erased.

    Next: callsieve audit verify.

    Example: callsieve audit erase 7 --why 'request of a subscriber'
    """
    from callsieve.training.oversight.log.audit_log import erase as remove
    from callsieve.training.oversight.log.key_folder import log_signing_key as key_of
    from callsieve.training.oversight.log.run_paths import log_folder

    log = log_folder(folder.path, folder.audit)
    key = key_of(folder.path, log, log_key.signing_key)
    new = remove(log, entry, why, key)
    console.emit_json({"entry": new, "erased": entry}) if json else console.say(f"entry {entry}: erased, entry {new}")


def prove(
    entry: Annotated[int, typer.Argument(help="Index of an entry.")],
    folder: RunOptions,
    since: Annotated[int | None, typer.Option("--since-size", help="Size of an older head of the log.")] = None,
    json: Json = False,
) -> None:
    """Print the proof (RFC 6962) that an entry is in the log, and that the log extends an older head.

    Next: callsieve audit verify.

    Example: callsieve audit prove 7
    """
    from callsieve.training.oversight.log.audit_log import proof
    from callsieve.training.oversight.log.run_paths import log_folder

    del json  # a proof is always JSON
    console.emit_json(proof(log_folder(folder.path, folder.audit), entry, since))


def page(
    run: Annotated[str, typer.Argument(help="Id of the run in MLflow, or of its model.")],
    out: Annotated[Path, typer.Option("--out", help="HTML file.")],
    folder: RunOptions,
    tracking_uri: TrackingUri = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Write the audit page of a run: one HTML file that needs no network and no knowledge of the code.

    Next: callsieve audit verify.

    Example: callsieve audit page a1b2c3 --out audit.html
    """
    from callsieve.training.language import language
    from callsieve.training.oversight.audit.audit_page import write_page
    from callsieve.training.oversight.log.run_paths import run_paths

    if out.resolve() == (folder.path / "audit.html").resolve():
        console.fail(f"{out}: the log commits to this file; choose another name", code=2)
    with language(lang):
        write_page(run_paths(folder.path, folder.audit, tracking_uri), run, folder.path, out)
    console.emit_json({"page": str(out)}) if json else console.say(f"{out}: written")
