"""Commands about registers, rules and policies. Thin: every step lives in its own module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file for the tokens of numbers; by default CALLSIEVE_KEY, else a new key."),
]
RegisterFolder = Annotated[
    Path | None, typer.Option("--registers", help="Folder of registers; see the command `registers`.")
]


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
    from . import console
    from .registerfiles import read_registers, write_registers
    from .score import key_or_new

    read = read_registers(folder, key_or_new(key), quarantine=quarantine, strict=strict, zone=zone)
    write_registers(read.registers, console.new_folder(out))
    told = {name: {"rows": read.taken[name], "quarantined": dict(read.quarantined[name])} for name in read.taken}
    if json:
        console.emit_json(told)
        return
    rows = [
        (name, f"{read.taken[name]:,}", ", ".join(f"{why} {count}" for why, count in read.quarantined[name].items()))
        for name in read.taken
    ]
    console.show_table("registers", ("register", "rows", "put apart"), rows)
