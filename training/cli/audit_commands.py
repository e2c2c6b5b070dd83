"""The commands of the audit log: verify, checkpoint, show, attempts, note, erase, prove, page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from callsieve.features.files.atomic import write_new
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Why
from callsieve.training.language import gettext, language
from callsieve.training.oversight.audit import anchors
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.entry import Entry
from callsieve.training.oversight.log.gates import parse_gates
from callsieve.training.oversight.log.run_paths import run_paths

from .log_options import RunOptions, SignedRunOptions

KINDS = {"touch": "use of test data"}  # names of entries that a table shows in other words


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorOptions:
    """Files that were stored outside the log, which a verification rests on."""

    trust: Annotated[Path | None, Option("--trust", help="Public key (PEM) of the log's signer.")] = None
    head: Annotated[
        list[Path] | None, Option(help="Signed head of the log, stored outside it; repeat for several.")
    ] = None
    witness: Annotated[
        list[Path] | None, Option(help="Checkpoint that a witness has cosigned; repeat for several.")
    ] = None
    witness_key: Annotated[Path | None, Option("--witness-key", help="Public key (PEM or C2SP) of the witness.")] = None
    gates_key: Annotated[Path | None, Option("--gates-key", help="Public key (PEM) of the gates' owner.")] = None


def verify(folder: RunOptions, anchor: AnchorOptions, tracking_uri: str | None = None, lang: str = "en") -> Result:
    """Verify that log, MLflow store and run folder are unchanged; exit code 1 and one line for each change.

    The first line names the files from outside the log with which it was compared.

    Next: callsieve audit attempts.

    Example: callsieve audit verify --trust log.pub --head head.json
    """
    from callsieve.training.oversight.audit.verify import verify as check

    place = run_paths(folder.path, folder.audit_log, tracking_uri)
    outside = anchors.Anchors(
        anchor.trust, anchor.head or (), anchor.witness or (), anchor.witness_key, anchor.gates_key
    )
    with console.progress("audit verify") as progress, language(lang):
        result = check(place.log, uri=place.uri, anchors=outside, run_folder=folder.path, progress=progress)
    with language(lang):
        summary = gettext(
            "%(entries)s entries, %(runs)s runs compared with MLflow, %(copies)s files in the folder with the log, "
            "%(faults)s faults",
            entries=result.entries,
            runs=result.runs,
            copies=result.copies,
            faults=len(result.faults),
        )
        notes = (gettext("note: %(note)s", note=note) for note in result.notes)
        lines = [str(line) for line in (result.anchor, *result.faults, *notes, summary)]
    return Result(result.to_json(), lines, failed=bool(result.faults))


@console.private
def checkpoint(
    out: Annotated[Path, Option("--out", help="New file for the checkpoint; add the cosignatures to its end.")],
    folder: SignedRunOptions,
    since: Annotated[int, Option("--since-size", min=0, help="Size that the witness has cosigned last.")] = 0,
) -> Result:
    """Write the newest head of a log as a checkpoint (C2SP), and in OUT.request the request for a stock witness.

    Next: callsieve audit verify --witness.

    Example: callsieve audit checkpoint --out checkpoint
    """
    from callsieve.training.oversight.audit import checkpoint as c2sp

    head, request = c2sp.checkpoint(folder.log, folder.key, since), out.with_name(f"{out.name}.request")
    write_new(out, head.note.encode())
    write_new(request, head.request.encode())
    facts = {"checkpoint": head.note, "request": head.request, "log_key": head.log_key}
    return Result(facts, f"{out}, {request}: written; the witness knows the log by {head.log_key}")


def show(
    folder: RunOptions, entry: Annotated[int | None, Argument(help="Index of an entry; its content is printed.")] = None
) -> Result:
    """List the entries of the log and who wrote them, or print the content of one.

    Next: callsieve audit verify.

    Example: callsieve audit show 2
    """
    log = folder.log
    entries = [_shown(log, item) for item in audit_log.read(log) if entry in (None, item.index)]
    if entry is None:
        rows = [(str(e["index"]), e["at"], KINDS.get(e["kind"], e["kind"]), e["by"]) for e in entries]
        head = ("entry", "at", "kind", "by")
        return Result({"entries": entries}, lambda: console.show_table("audit log", head, rows, texts=4))
    if not entries:
        console.fail(f"entry {entry}: the log has no such entry")
    return Result(entries[0], lambda: console.emit_json(entries[0]))


def _shown(log: Path, entry: Entry) -> dict[str, Any]:
    actor, payload = audit_log.read_actor(log, entry), audit_log.read_payload(log, entry)
    writer = [f"{actor['user']}, signer of the log, key {actor['key']}"] if actor else []
    approvers = [approval["by"] for approval in (payload or {}).get("approvals", ())]
    roles = [f"approved by {', '.join(approvers)}"] if approvers else []
    if payload and entry.kind == "gates":
        owner = parse_gates(payload["text"].encode(), "gates", payload.get("signature", "")).owner
        roles = [f"owned by {owner[0]}" if owner else "without an owner"]
    by = "; ".join([*writer, *roles])
    return {"index": entry.index, "at": entry.at, "kind": entry.kind, "by": by, "payload": payload}


def attempts(folder: RunOptions) -> Result:
    """List all trainings and studies with their results, including failed ones; rounds of an adaptation are one.

    Next: callsieve audit page.

    Example: callsieve audit attempts
    """
    from callsieve.training.oversight.audit.attempts import attempts as register

    rows = register(folder.log)
    table = [(str(row.entry), row.at, row.model, str(len(row.rounds) or ""), str(row.uses), row.result) for row in rows]
    head = ("entry", "at", "model", "rounds", "uses of test data", "result")
    return Result(
        {"attempts": [row.to_json() for row in rows]},
        lambda: console.show_table("trainings and studies", head, table, texts=6),
    )


def note(
    kind: Annotated[Literal["access", "policy", "threshold"], Argument(help="access, policy or threshold.")],
    what: Annotated[str, Argument(help="What was read or changed, and to what.")],
    why: Why,
    folder: SignedRunOptions,
    file: Annotated[Path | None, Option(help="New policy file; its hash and text are recorded.")] = None,
) -> Result:
    """Record in the log that it was read, or that a policy or a threshold was changed.

    Next: callsieve audit show.

    Example: callsieve audit note access 'read the log' --why 'yearly audit'
    """
    entry = audit_log.note(folder.log, kind, what, why, file, folder.key)
    return Result({"entry": entry}, f"entry {entry}: {kind}")


def erase(
    entry: Annotated[int, Argument(help="Index of the entry whose content is erased.")],
    why: Why,
    folder: SignedRunOptions,
) -> Result:
    """Erase the content of an entry; the log still proves that the entry existed and was erased.

    Next: callsieve audit verify.

    Example: callsieve audit erase 7 --why 'request of a subscriber'
    """
    new = audit_log.erase(folder.log, entry, why, folder.key)
    return Result({"entry": new, "erased": entry}, f"entry {entry}: erased, entry {new}")


def prove(
    entry: Annotated[int, Argument(help="Index of an entry.")],
    folder: RunOptions,
    since: Annotated[int | None, Option("--since-size", help="Size of an older head of the log.")] = None,
) -> Result:
    """Print the proof (RFC 6962) that an entry is in the log, and that the log extends an older head.

    Next: callsieve audit verify.

    Example: callsieve audit prove 7
    """
    proof = audit_log.proof(folder.log, entry, since)
    return Result(proof, lambda: console.emit_json(proof))  # a proof is always JSON


def page(
    run: Annotated[str, Argument(help="Id of the run in MLflow, or of its model.")],
    out: Annotated[Path, Option("--out", help="HTML file.")],
    folder: RunOptions,
    tracking_uri: str | None = None,
    lang: str = "en",
) -> Result:
    """Write the audit page of a run: one HTML file that needs no network and no knowledge of the code.

    Next: callsieve audit verify.

    Example: callsieve audit page a1b2c3 --out audit.html
    """
    from callsieve.training.oversight.audit.audit_page import write_page

    if out.resolve() == (folder.path / "audit.html").resolve():
        console.fail(f"{out}: the log commits to this file; choose another name", code=2)
    with language(lang):
        write_page(run_paths(folder.path, folder.audit_log, tracking_uri), run, folder.path, out)
    return Result({"page": str(out)}, f"{out}: written")
