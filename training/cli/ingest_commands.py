"""The commands `ingest complaints`, `ingest checks`, `ingest trusted`, `ingest columns` and `ingest registers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import KeyFile, Out, RowOptions, Zone
from callsieve.serving.custody.purposes import copy_declaration, current_declaration


def complaints(
    file: Annotated[Path, typer.Argument(help="File of complaints: text, plain or gzip, or Parquet.")],
    rows: RowOptions,
    layout: Annotated[str, typer.Option(help="callsieve, 12321, ftc or ftc-counts.")] = "callsieve",
    published: Annotated[
        str | None, typer.Option(help="Day of publication; complaints count as known from then on.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the keyed complaints.")] = None,
    key: KeyFile = None,
) -> Result:
    """Replace the numbers of a complaint file by tokens, and print how many later complaints a list of them covers.

    Next: callsieve train.

    Example: callsieve ingest complaints complaints.csv --layout 12321 --key number.key --out complaints.parquet
    """
    from callsieve.training.data.ingest import ingest

    from .terminal_tables import checks as tables

    with console.progress("ingest complaints") as progress:
        facts = ingest(
            file,
            layout,
            published=published,
            key=key,
            out=out,
            quarantine=rows.quarantine,
            strict=rows.strict,
            progress=progress,
        )
    return Result(facts, lambda: tables.complaints(facts))


def checks(
    file: Annotated[Path, typer.Option("--checks", help="File of checked numbers: number, verdict, checked_at.")],
    rows: RowOptions,
    layout: Annotated[
        str, typer.Option(help="callsieve, or a TOML file, such as of calls with `checks`.")
    ] = "callsieve",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file: findings.parquet in a folder to learn from; rows are added."),
    ] = None,
    key: KeyFile = None,
) -> Result:
    """Replace the numbers that you have checked by tokens, and add them to the findings of a folder to learn from.

    `verdict` is nuisance or innocent. A check counts from `checked_at` on; the last check of a number counts.

    Next: callsieve train --data.

    Example: callsieve ingest checks --checks checks.csv --key number.key --out data/findings.parquet
    """
    from callsieve.training.data.check_files import ingest_checks

    with console.progress("ingest checks") as progress:
        facts = ingest_checks(
            file, layout, key=key, out=out, quarantine=rows.quarantine, strict=rows.strict, progress=progress
        )
    return Result(facts, lambda: console.show_facts("checks", facts))


def trusted(
    file: Annotated[Path, typer.Argument(help="File of trusted numbers: number, kind, trusted_from, trusted_to.")],
    rows: RowOptions,
    layout: Annotated[
        str, typer.Option(help="callsieve, or a TOML file, such as of calls with `trusted`.")
    ] = "callsieve",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to learn from, or its lists.parquet; rows are added."),
    ] = None,
    registers: Annotated[
        Path | None, typer.Option("--registers", help="Folder of registers for `callsieve score`; rows are added.")
    ] = None,
    key: KeyFile = None,
) -> Result:
    """Replace the numbers that you trust by tokens, and add them to a folder to learn from, to registers, or to both.

    `kind` is customer, own_line, survey, announcement or other. A number counts as innocent from `trusted_from` on, up
    to `trusted_to`; a row replaces an earlier one with its number and `trusted_from`.

    Next: callsieve train --data, or callsieve score --registers.

    Example: callsieve ingest trusted trusted.csv --key number.key --out data --registers registers
    """
    from callsieve.training.data.trusted_files import ingest_trusted

    with console.progress("ingest trusted") as progress:
        facts = ingest_trusted(
            file,
            layout,
            key=key,
            out=out,
            registers=registers,
            quarantine=rows.quarantine,
            strict=rows.strict,
            progress=progress,
        )
    return Result(facts, lambda: console.show_facts("trusted numbers", facts))


def columns(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: number, known_at and numeric columns.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file: columns.parquet in a folder to learn from.")],
    key: KeyFile = None,
    zone: Zone = "Asia/Shanghai",
) -> Result:
    """Replace the numbers of a table of your own columns, such as tariff and account age, by tokens.

    A call gets the values of its caller's latest row with `known_at` before the call.

    Next: callsieve train --own-columns.

    Example: callsieve ingest columns accounts.csv --key number.key --out columns.parquet
    """
    from callsieve.serving.batch.own_column_join import write_own_columns

    with console.progress("ingest columns"):
        facts = write_own_columns(file, out, key=key, zone=zone)
    return Result(facts, lambda: console.show_facts("own columns", facts))


def registers(
    folder: Annotated[Path, typer.Argument(help="Folder of registers: NAME.csv, .parquet or .jsonl.")],
    out: Out,
    key: KeyFile = None,
    zone: Zone = "Asia/Shanghai",
    quarantine: Annotated[
        Path | None, typer.Option("--quarantine", help="Folder for invalid rows, with their reasons.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on the first invalid row.")] = False,
) -> Result:
    """Replace the numbers and trunks of registers by tokens, and write them as the scorer reads them.

    Next: callsieve score --registers.

    Example: callsieve ingest registers offices --out registers
    """
    from callsieve.serving.batch.call_files import key_or_temporary
    from callsieve.serving.batch.register_files import read_registers, write_registers

    current_declaration(folder)
    with console.progress("ingest registers") as progress:
        read = read_registers(
            folder, key_or_temporary(key), quarantine=quarantine, strict=strict, zone=zone, progress=progress
        )
    write_registers(read.registers, console.new_folder(out))
    copy_declaration(folder, out)
    facts = {name: {"rows": read.accepted[name], "quarantined": dict(read.quarantined[name])} for name in read.accepted}
    lines = [
        (name, f"{read.accepted[name]:,}", ", ".join(f"{why} {count}" for why, count in read.quarantined[name].items()))
        for name in read.accepted
    ]
    head = ("register", "rows", "quarantined")
    return Result(facts, lambda: console.show_table("registers", head, lines))
