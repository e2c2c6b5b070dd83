"""Commands of the record: replay, monitor, approve, promote, rollback, audit. Thin: each step has its own module."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Bundle, Json, LooksIn, LooksKey, Threads, Trust

commands = typer.Typer()
audit = typer.Typer(no_args_is_help=True, help="The tamper-evident log of runs, promotions and accesses.")
commands.add_typer(audit, name="audit")

Folder = Annotated[Path, typer.Option("--in", help="Folder of a run: its audit log, store and key.")]
Log = Annotated[Path | None, typer.Option("--audit", help="Folder of the audit log; by default audit/ in the run's.")]
Store = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow store; by default SQLite in the run's.")]
LogKey = Annotated[
    Path | None,
    typer.Option("--signing-key", help="Key (PEM) that signs the log; by default the run's own."),
]
Run = Annotated[str, typer.Argument(help="Id of the run in MLflow, or of its model.")]
RUN = Path("callsieve-run")


class Noted(StrEnum):
    """What a person may enter in the log by hand."""

    ACCESS = "access"
    POLICY = "policy"
    THRESHOLD = "threshold"


@commands.command()
def replay(
    run: Annotated[str, typer.Argument(help="Folder of a run, or with --tracking-uri its id in MLflow.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the calls; by default where the record says that they came from.")
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store that holds the run's record.")] = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Make a run's dataset and model again from its record, and compare them byte for byte."""
    from callsieve.serving.cli import console
    from callsieve.training.tracking.reproduce import replay as make_again

    with console.progress("replay") as tell:
        result = make_again(run, data, uri=tracking_uri, threads=threads, progress=tell)
    if json:
        console.emit_json(result.to_json())
    else:
        for name in result.equal:
            console.say(f"equal    {name}")
        for name in result.differences:
            console.say(f"differs  {name}")
        console.say(f"model {result.model}: {'not ' if result.differences else ''}made again byte for byte")
    if result.differences:
        sys.exit(1)


@commands.command()
def monitor(
    bundle: Bundle,
    data: Annotated[Path, typer.Option(help="Folder of calls, complaints and findings, of 28 days before too.")],
    day: Annotated[str | None, typer.Option(help="Local date, such as 2026-03-01; by default the last one.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What was usual; by default record/reference.json beside the bundle.")
    ] = None,
    trust: Trust = None,
    audit: LooksIn = None,
    signing_key: LooksKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Compare a day of calls with those that a model was trained on; exit code 1 if something is out of the usual."""
    from callsieve.serving.cli import console
    from callsieve.training.drift.monitor import date_of
    from callsieve.training.drift.monitor import monitor as watch
    from callsieve.training.log.looks import ledger_beside

    from .tables import runs

    with console.progress("monitor") as tell:
        result = watch(
            bundle, data, date_of(day), reference=reference, trust=trust,
            ledger=ledger_beside(bundle, audit, signing_key), threads=threads, progress=tell,
        )  # fmt: skip
    console.emit_json(result) if json else runs.monitored(result)
    if result["alarm"]:
        sys.exit(1)


@commands.command()
def approve(
    run: Run,
    key: Annotated[Path, typer.Option(help="The approver's own Ed25519 key (PEM), which the gates must name.")],
    out: Annotated[Path, typer.Option(help="New file for the approval.")],
    folder: Folder = RUN,
    log: Log = None,
    tracking_uri: Store = None,
    json: Json = False,
) -> None:
    """Say with one's key that a run's model may become the champion; shows how its gates went."""
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.audit import promote as steps
    from callsieve.training.log.run_paths import place_of

    facts = steps.approve(place_of(folder, log, tracking_uri), run, read_signing_key(key), out)
    if json:
        console.emit_json(facts)
    else:
        for gate in facts["gates"]:
            console.say(f"{'passed' if gate['passed'] else 'FAILED'}  {steps.in_words(gate)}")
        console.say(f"{out}: model {facts['statement']['model']} approved by key {facts['key']}")


@commands.command("approver-key")
def approver_key(
    key: Annotated[Path, typer.Argument(help="New file for the private key (PEM).")], json: Json = False
) -> None:
    """Make an approver's key, and print the line that names its holder in a gates file."""
    from callsieve.serving.bundle.signing import generate_signing_key, read_public_key
    from callsieve.serving.cli import console

    public = key.with_suffix(".pub")
    name = generate_signing_key(key, public)
    line = read_public_key(public).public_bytes_raw().hex()
    console.emit_json({"key": name, "public": line}) if json else console.say(f'"{key.stem}" = "{line}"  # key {name}')


@commands.command()
def promote(
    run: Run,
    approval: Annotated[list[Path], typer.Option(help="File of an approval; once for each.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the run's calls, on which it must beat the champion.")
    ] = None,
    folder: Folder = RUN,
    log: Log = None,
    tracking_uri: Store = None,
    signing_key: LogKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Make a run's model the champion, if gates, approvals and the comparison with the champion allow it."""
    from callsieve.serving.cli import console
    from callsieve.training.audit import promote as steps
    from callsieve.training.log.run_paths import log_key, place_of

    place, key = place_of(folder, log, tracking_uri), log_key(folder, signing_key)
    with console.progress("promote") as tell:
        facts = steps.promote(place, run, approval, key, data=data, threads=threads, tell=tell)
    console.emit_json(facts) if json else console.say(f"model {facts['model']}, version {facts['version']}: champion")


@commands.command()
def rollback(
    why: Annotated[str, typer.Option(help="The reason, for the log.")],
    folder: Folder = RUN,
    log: Log = None,
    tracking_uri: Store = None,
    signing_key: LogKey = None,
    json: Json = False,
) -> None:
    """Make the champion before the present one the champion again."""
    from callsieve.serving.cli import console
    from callsieve.training.audit import promote as steps
    from callsieve.training.log.run_paths import log_key, place_of

    place, key = place_of(folder, log, tracking_uri), log_key(folder, signing_key)
    with console.progress("rollback") as tell:
        facts = steps.rollback(place, why, key, tell)
    console.emit_json(facts) if json else console.say(f"model {facts['model']}, version {facts['version']}: champion")


@audit.command()
def verify(
    folder: Folder = RUN,
    log: Log = None,
    tracking_uri: Store = None,
    trust: Annotated[Path | None, typer.Option(help="Public key (PEM) that must have signed the log.")] = None,
    head: Annotated[list[Path] | None, typer.Option(help="A signed head that was kept elsewhere.")] = None,
    json: Json = False,
) -> None:
    """Find what was edited, removed, reordered or cut off in the log, and edited in MLflow or in the run's folder; each
    by name."""
    from callsieve.serving.cli import console
    from callsieve.training.audit.verify import verify as check
    from callsieve.training.log.run_paths import place_of

    place = place_of(folder, log, tracking_uri)
    with console.progress("audit verify") as tell:
        result = check(place.log, uri=place.uri, trust=trust, heads=head or (), run_folder=folder, tell=tell)
    if json:
        console.emit_json(result.to_json())
    else:
        for fault in result.faults:
            console.say(str(fault))
        compared = f"{result.runs} runs compared with MLflow, {result.copies} files in the folder with the log"
        console.say(f"{result.entries} entries, {compared}, {len(result.faults)} faults")
    if result.faults:
        sys.exit(1)


@audit.command("log")
def show_log(folder: Folder = RUN, log: Log = None, json: Json = False) -> None:
    """List the entries."""
    from callsieve.serving.cli import console
    from callsieve.training.log.audit_log import read
    from callsieve.training.log.run_paths import log_of

    entries = read(log_of(folder, log))
    if json:
        console.emit_json({"entries": [{"index": e.index, "at": e.at, "kind": e.kind} for e in entries]})
    else:
        rows = [(str(e.index), e.at, e.kind) for e in entries]
        console.show_table("audit log", ("entry", "at", "kind"), rows, texts=3)


@audit.command()
def note(
    kind: Annotated[Noted, typer.Argument(help="access, policy or threshold.")],
    what: Annotated[str, typer.Option(help="What was looked at or changed, and to what.")],
    why: Annotated[str, typer.Option(help="Purpose or reason.")],
    file: Annotated[Path | None, typer.Option(help="The new policy; its hash and text go into the log.")] = None,
    folder: Folder = RUN,
    log: Log = None,
    signing_key: LogKey = None,
    json: Json = False,
) -> None:
    """Enter an access, or a change of a policy or a threshold."""
    from callsieve.serving.cli import console
    from callsieve.training.log.audit_log import note as enter
    from callsieve.training.log.run_paths import log_key, log_of

    entry = enter(log_of(folder, log), kind.value, what, why, file, log_key(folder, signing_key))
    console.emit_json({"entry": entry}) if json else console.say(f"entry {entry}: {kind.value}")


@audit.command()
def erase(
    entry: Annotated[int, typer.Argument(help="Index of the entry whose payload is erased.")],
    why: Annotated[str, typer.Option(help="The reason, for the log.")],
    folder: Folder = RUN,
    log: Log = None,
    signing_key: LogKey = None,
    json: Json = False,
) -> None:
    """Erase what an entry says; that it stood there, and that it was erased, stays."""
    from callsieve.serving.cli import console
    from callsieve.training.log.audit_log import erase as remove
    from callsieve.training.log.run_paths import log_key, log_of

    told = remove(log_of(folder, log), entry, why, log_key(folder, signing_key))
    console.emit_json({"entry": told, "erased": entry}) if json else console.say(f"entry {entry}: erased, entry {told}")


@audit.command()
def prove(
    entry: Annotated[int, typer.Argument(help="Index of an entry.")],
    since: Annotated[int | None, typer.Option(help="Size of an older head that the log grew from.")] = None,
    folder: Folder = RUN,
    log: Log = None,
    json: Json = False,
) -> None:
    """Print the proof (RFC 6962) that an entry is in the log, and that the log grew from an older head."""
    from callsieve.serving.cli import console
    from callsieve.training.log.audit_log import proof
    from callsieve.training.log.run_paths import log_of

    del json  # a proof has no other form
    console.emit_json(proof(log_of(folder, log), entry, since))


@audit.command("page")
def write_page(
    run: Run,
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    folder: Folder = RUN,
    log: Log = None,
    tracking_uri: Store = None,
    json: Json = False,
) -> None:
    """Write the audit report of a run: one page, without a network, for a reader who knows no code."""
    from callsieve.serving.cli import console
    from callsieve.training.audit.page import write_page as write
    from callsieve.training.log.run_paths import place_of

    write(place_of(folder, log, tracking_uri), run, out)
    console.emit_json({"page": str(out)}) if json else console.say(f"{out}: written")
