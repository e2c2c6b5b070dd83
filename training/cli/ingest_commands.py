"""The commands of `ingest`, and own files of other commands."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import AllowQuarantine, ComplaintFile, KeyFile, LayoutName, Out, RowOptions
from callsieve.serving.custody.purposes import copy_declaration, current_declaration

from .log_options import ImportOptions

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

BESIDE = ("complaints", "checks", "trusted")
"""The files beside the calls: the layout of the calls has a table for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnFiles:
    """An operator's own files, in place of a folder of keyed tables."""

    calls: Annotated[
        Path | None, Option("--calls", help="File of call records; a training also needs --complaints or --checks.")
    ] = None
    layout: LayoutName = "callsieve"
    complaints: ComplaintFile = None
    checks: Annotated[Path | None, Option("--checks", help="File of checked numbers: number, verdict, checked_at.")] = (
        None
    )
    trusted: Annotated[
        Path | None, Option("--trusted", help="File of numbers that you trust: number, kind, trusted_from, trusted_to.")
    ] = None
    key: KeyFile = None
    allow_quarantine: AllowQuarantine = False

    def check(self, context: typer.Context) -> None:
        """Ends the command if it has options of own files without the file that they describe."""
        if self.calls is None:
            refuse_unused(context, (field.name for field in fields(self) if field.name != "calls"), "no --calls")

    def keyed(self, out: Path, progress: Progress) -> Path:
        """Keys the files into the folder `data` of a run, which is left empty after a fault; returns the folder.

        Without a key file and without the key of the environment, the run gets a new key, `number.key`.
        """
        made = None
        if self.key is not None:
            key = read_key(self.key)
        elif KEY_VARIABLE in os.environ:
            key = key_from_environment()
        else:
            key, made = Key.generate("e1"), out / "number.key"
            key.write(made)
        try:
            self.write(out / "data", key, progress, "training")
        except BaseException:
            if made is not None:
                made.unlink()
            raise
        return out / "data"

    def write(
        self, folder: Path, key: Key, progress: Progress, purpose: str | None = None
    ) -> dict[str, dict[str, int]]:
        """Keys the files into a new folder, which is removed after a fault.

        `purpose`: what the tables are for; None for all that the declaration of the calls permits.
        Returns: for each file, the number of quarantined rows by reason; a note names them.
        """
        from callsieve.training.data.ingest import OwnFile, key_own_files

        assert self.calls is not None  # noqa: S101 - the command has checked it
        of_calls = self.layout if self.layout.endswith(".toml") else "callsieve"
        others = {file: OwnFile(path, of_calls) for file in BESIDE if (path := getattr(self, file)) is not None}
        try:
            own = OwnFile(self.calls, self.layout)
            invalid = key_own_files(
                own, key, folder, **others, allow_quarantine=self.allow_quarantine, purpose=purpose, progress=progress
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for path, counts in invalid.items():
            for line in console.quarantined(counts):
                console.note(f"{path}: {line}")
        return {str(path): counts for path, counts in invalid.items()}


@console.private
def calls(
    context: typer.Context,
    own: OwnFiles,
    out: Annotated[Path, Option("--out", help="New or empty folder for the keyed tables.")],
) -> Result:
    """Replace the numbers of your files by tokens, in a folder that evaluate, model monitor and train --data read.

    These commands also need --complaints or --checks. In calls.parquet, `call` is the line of the file.

    Next: callsieve model monitor --data, or evaluate.

    Example: callsieve ingest calls --calls cdr.csv --layout op.toml --complaints complaints.csv --out november
    """
    from callsieve.serving.batch.call_files import key_or_temporary

    if own.calls is None:
        console.fail("ingest calls: expected --calls FILE", code=2)
    own.check(context)
    console.new_folder(out).chmod(0o700)  # keyed calls of people
    with console.progress("ingest calls") as progress:
        quarantined = own.write(out, key_or_temporary(own.key), progress)
    tables = sorted(path.name for path in out.glob("*.parquet"))
    facts = {"out": str(out), "tables": tables, "quarantined": quarantined}
    return Result(facts, f"{out}: {', '.join(tables)}")


@console.private
def complaints(
    file: Annotated[Path, Argument(help="File of complaints: text, plain or gzip, or Parquet.")],
    rows: RowOptions,
    layout: Annotated[str, Option(help="callsieve, 12321, ftc or ftc-counts.")] = "callsieve",
    published: Annotated[str | None, Option(help="Day of publication; complaints count as known from then on.")] = None,
    out: Annotated[Path | None, Option("--out", help="Parquet file for the keyed complaints.")] = None,
    key: KeyFile = None,
) -> Result:
    """Replace the numbers of a complaint file by tokens, and print its counts.

    Next: callsieve train.

    Example: callsieve ingest complaints complaints.csv --layout 12321 --key number.key --out complaints.parquet
    """
    from callsieve.training.data.ingest import ingest
    from callsieve.training.reports.csv_tables import flatten

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
    return Result(facts, lambda: console.show_facts("complaints", flatten(facts)))


@console.private
def checks(
    file: Annotated[Path, Option("--checks", help="File of checked numbers: number, verdict, checked_at.")],
    rows: RowOptions,
    layout: Annotated[str, Option(help="callsieve, or a TOML file, such as of calls with `checks`.")] = "callsieve",
    out: Annotated[
        Path | None, Option("--out", help="Parquet file: findings.parquet in a folder to learn from; rows are added.")
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


@console.private
def trusted(
    file: Annotated[Path, Argument(help="File of trusted numbers: number, kind, trusted_from, trusted_to.")],
    rows: RowOptions,
    act: ImportOptions,
    layout: Annotated[str, Option(help="callsieve, or a TOML file, such as of calls with `trusted`.")] = "callsieve",
    out: Annotated[
        Path | None, Option("--out", help="Folder to learn from, or its lists.parquet; rows are added.")
    ] = None,
    registers: Annotated[
        Path | None, Option("--registers", help="Folder of registers for `callsieve score`; rows are added.")
    ] = None,
    key: KeyFile = None,
) -> Result:
    """Replace the numbers that you trust by tokens, and add them to a folder to learn from, to registers, or to both.

    The audit log in each folder records it with the person.

    `kind` is customer, own_line, survey, announcement or other. A number counts as innocent from `trusted_from` on, up
    to `trusted_to`; a row replaces an earlier one with its number and `trusted_from`.

    Next: callsieve train --data, or score --registers.

    Example: callsieve ingest trusted trusted.csv --key number.key --out data --registers registers
    """
    from callsieve.training.data.trusted_files import ingest_trusted, trusted_places

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
    for path in trusted_places(out, registers):
        act.enter(path.parent, {path.name: path})
    return Result(facts, lambda: console.show_facts("trusted numbers", facts))


@console.private
def columns(
    file: Annotated[Path, Argument(help="CSV or Parquet: number, known_at and numeric columns.")],
    out: Annotated[Path, Option("--out", help="Parquet file: columns.parquet in a folder to learn from.")],
    key: KeyFile = None,
    zone: str = "Asia/Shanghai",
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


@console.private
def registers(
    folder: Annotated[Path, Argument(help="Folder of registers: NAME.csv, .parquet or .jsonl.")],
    out: Out,
    act: ImportOptions,
    key: KeyFile = None,
    zone: str = "Asia/Shanghai",
    quarantine: Annotated[
        Path | None, Option("--quarantine", help="Folder for invalid rows, with their reasons.")
    ] = None,
    strict: Annotated[bool, Option("--strict", help="Fail on the first invalid row.")] = False,
) -> Result:
    """Replace the numbers and trunks of registers by tokens, and write them as the scorer reads them.

    The audit log in the new folder records their hashes with the person.

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
    act.enter(out, {path.name: path for path in sorted(out.glob("*.jsonl"))})
    facts = {name: {"rows": read.accepted[name], "quarantined": dict(read.quarantined[name])} for name in read.accepted}
    lines = [
        (name, f"{read.accepted[name]:,}", ", ".join(f"{why} {count}" for why, count in read.quarantined[name].items()))
        for name in read.accepted
    ]
    head = ("register", "rows", "quarantined")
    return Result(facts, lambda: console.show_table("registers", head, lines))
