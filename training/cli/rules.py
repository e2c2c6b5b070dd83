"""Commands about registers, rules and policies. Thin: every step lives in its own module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import KEYED, Json, KeyFile, LooksIn, LooksKey, RegisterFolder, Threads, Trust

OF_LOOKS = ("audit", "signing_key")

commands = typer.Typer()
policies = typer.Typer(no_args_is_help=True, help="Policies: what would another one do?")
commands.add_typer(policies, name="policy")


@commands.command()
def registers(
    folder: Annotated[Path, typer.Argument(help="Folder of registers: NAME.csv, .parquet or .jsonl.")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the keyed registers, NAME.jsonl.")],
    key: KeyFile = None,
    zone: Annotated[str, typer.Option(help="Time zone of moments that are written without one.")] = "Asia/Shanghai",
    quarantine: Annotated[Path | None, typer.Option(help="Folder for bad rows, with their reasons.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on the first bad row.")] = False,
    json: Json = False,
) -> None:
    """Read registers, key their numbers and trunks, put bad rows apart, and write what a scorer reads."""
    from callsieve.serving.batch.call_files import key_or_temporary
    from callsieve.serving.batch.register_files import read_registers, write_registers
    from callsieve.serving.cli import console
    from callsieve.serving.custody.purposes import copy_declaration, current_declaration

    current_declaration(folder)
    with console.progress("registers") as tell:
        read = read_registers(
            folder, key_or_temporary(key), quarantine=quarantine, strict=strict, zone=zone, progress=tell
        )
    write_registers(read.registers, console.new_folder(out))
    copy_declaration(folder, out)
    told = {name: {"rows": read.accepted[name], "quarantined": dict(read.quarantined[name])} for name in read.accepted}
    if json:
        console.emit_json(told)
        return
    rows = [
        (name, f"{read.accepted[name]:,}", ", ".join(f"{why} {count}" for why, count in read.quarantined[name].items()))
        for name in read.accepted
    ]
    console.show_table("registers", ("register", "rows", "put apart"), rows)


@commands.command()
def rules(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder with calls, registers and truth, as `simulate` writes it.")],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="A signed bundle: its certified band is told apart from the rules.")
    ] = None,
    trust: Trust = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="Policy file; the shipped one by default.")] = None,
    key: KeyFile = None,
    registers: RegisterFolder = None,
    audit: LooksIn = None,
    signing_key: LooksKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Judge each rule by the truth: calls hit, precision, recall, and which innocent callers it hits."""
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused
    from callsieve.training.log.looks import ledger_beside
    from callsieve.training.studies import rule_figures

    from .tables import checks

    if bundle is None:
        refuse_unused(context, ("trust", *OF_LOOKS), "rules alone, without --bundle")
    with console.progress("rules") as tell:
        found = rule_figures.rule_figures(
            data,
            bundle=bundle,
            trust=trust,
            policy=policy,
            key=key,
            registers=registers,
            ledger=None if bundle is None else ledger_beside(bundle, audit, signing_key),
            threads=threads,
            progress=tell,
        )
    console.emit_json(found) if json else checks.show_rule_figures(found)


@policies.command()
def diff(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(help="Policy file in service.")],
    new: Annotated[Path, typer.Argument(help="Policy file under review.")],
    calls: Annotated[Path, typer.Option(help="Call records.")],
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of a signed bundle.")],
    layout: Annotated[str, typer.Option("--layout", help="As for `score`.")] = "callsieve",
    trust: Trust = None,
    key: KeyFile = None,
    registers: RegisterFolder = None,
    truth: Annotated[
        Path | None, typer.Option(help="truth.parquet of these calls, for slices of what they were.")
    ] = None,
    complaints: Annotated[Path | None, typer.Option(help="Complaints, for a model that has features of them.")] = None,
    audit: LooksIn = None,
    signing_key: LooksKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """A dry run: how many calls of which slice change fate under another policy, from what to what."""
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused
    from callsieve.training.log.looks import ledger_beside
    from callsieve.training.studies import policy_diff

    from .tables import checks

    if truth is None:
        refuse_unused(context, OF_LOOKS, "calls alone, without --truth")
    if layout == KEYED and registers is None:
        refuse_unused(context, ("key",), "--layout keyed")
    with console.progress("policy diff") as tell:
        told = policy_diff.difference(
            old,
            new,
            calls,
            layout,
            bundle,
            trust=trust,
            key=key,
            registers=registers,
            truth=truth,
            complaints=complaints,
            ledger=None if truth is None else ledger_beside(bundle, audit, signing_key),
            threads=threads,
            progress=tell,
        )
    console.emit_json(told) if json else checks.show_policy_diff(told)
