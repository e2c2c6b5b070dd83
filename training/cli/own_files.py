"""Options of commands for an operator's own files: calls, complaints, checks and trusted numbers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.options import ComplaintFile, KeyFile, LayoutName

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

LAYOUTS = {"complaints": "complaint_layout", "checks": "check_layout", "trusted": "trusted_layout"}
"""The files beside the calls, and the option of the layout of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnFiles:
    """An operator's own files, in place of a folder of keyed tables."""

    calls: Annotated[
        Path | None, typer.Option("--calls", help="File of call records to learn from; needs --complaints or --checks.")
    ] = None
    layout: LayoutName = "callsieve"
    complaints: ComplaintFile = None
    complaint_layout: Annotated[
        str | None,
        typer.Option(
            "--complaint-layout",
            help="callsieve, 12321, ftc, or a TOML file; by default the table `complaints` of --layout.",
        ),
    ] = None
    checks: Annotated[
        Path | None, typer.Option("--checks", help="File of checked numbers: number, verdict, checked_at.")
    ] = None
    check_layout: Annotated[
        str | None,
        typer.Option("--check-layout", help="callsieve, or a TOML file; by default the table `checks` of --layout."),
    ] = None
    trusted: Annotated[
        Path | None,
        typer.Option("--trusted", help="File of numbers that you trust: number, kind, trusted_from, trusted_to."),
    ] = None
    trusted_layout: Annotated[
        str | None,
        typer.Option("--trusted-layout", help="callsieve, or a TOML file; by default the table `trusted` of --layout."),
    ] = None
    key: KeyFile = None

    def check(self, context: typer.Context) -> None:
        """Ends the command if it has options of own files without the file that they describe."""
        if self.calls is None:
            refuse_unused(context, (field.name for field in fields(self) if field.name != "calls"), "no --calls")
            return
        if self.complaints is None and self.checks is None:
            name = context.command.name
            console.fail(
                f"{name}: --calls: expected --complaints FILE or --checks FILE; a model learns from these", code=2
            )
        for file, layout in LAYOUTS.items():
            if getattr(self, file) is None:
                refuse_unused(context, (layout,), f"no --{file}")

    def keyed(self, out: Path, progress: Progress) -> Path:
        """Keys the files into the folder `data` of a run, which is left empty after a fault; returns the folder.

        Without a key file and without the key of the environment, the run gets a new key, `number.key`.
        """
        from callsieve.training.data.ingest import OwnFile, key_own_files

        assert self.calls is not None  # noqa: S101 - the command has checked it
        made = None
        if self.key is not None:
            key = read_key(self.key)
        elif KEY_VARIABLE in os.environ:
            key = key_from_environment()
        else:
            key, made = Key.generate("e1"), out / "number.key"
            key.write(made)
        of_calls = self.layout if self.layout.endswith(".toml") else "callsieve"
        others = {
            file: OwnFile(path, getattr(self, layout) or of_calls)
            for file, layout in LAYOUTS.items()
            if (path := getattr(self, file)) is not None
        }
        try:
            invalid = key_own_files(OwnFile(self.calls, self.layout), key, out / "data", **others, progress=progress)
        except BaseException:
            shutil.rmtree(out / "data", ignore_errors=True)
            if made is not None:
                made.unlink()
            raise
        for path, counts in invalid.items():
            for line in console.quarantined(counts):
                console.note(f"{path}: {line}")
        return out / "data"
