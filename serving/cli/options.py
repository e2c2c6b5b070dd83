"""Options that stand in more than one command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option(min=0, help="Cores to use; 0 means all. No result depends on it.")]
Out = Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="Folder of a signed bundle.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) that signed the bundle; by default signer.pub beside the bundle."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file for the tokens of numbers; by default CALLSIEVE_KEY, else a new key."),
]
CalleesKey = Annotated[
    Path | None,
    typer.Option("--callees-key", help="Key file of called numbers in what is written for others; else a new key."),
]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy file; the shipped one by default.")]
RegisterFolder = Annotated[
    Path | None, typer.Option("--registers", help="Folder of registers; see the command `registers`.")
]
LayoutName = Annotated[
    str,
    typer.Option("--layout", help="callsieve, asterisk, sichuan, plain, copenhagen, reality, keyed, or a TOML file."),
]
KEYED = "keyed"
OF_ROWS = ("quarantine", "strict")  # of bad rows: a table that the intake wrote is taken or refused as a whole
Log = Annotated[Path, typer.Option("--audit", help="Folder of the audit log.")]
LogKey = Annotated[Path, typer.Option("--signing-key", help="Key (PEM) that signs the log.")]
LooksIn = Annotated[
    Path | None,
    typer.Option("--audit", help="Folder of the audit log that counts this look; by default audit/ beside the bundle."),
]
LooksKey = Annotated[
    Path | None,
    typer.Option("--signing-key", help="Key (PEM) that signs that log; by default signing.key beside the bundle."),
]
FeatureNames = Annotated[
    str | None,
    typer.Option(
        "--features", help="Names with commas between, a file with one a line, or lite; all but reports by default."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on the first bad row instead of putting it apart.")]


class Engine(StrEnum):
    """What computes the vectors."""

    TABLE = "table"
    SPARK = "spark"


EngineName = Annotated[
    Engine,
    typer.Option("--engine", help="spark: of keyed calls in Parquet, to a new folder, with Spark's own settings."),
]
QuarantineFile = Annotated[
    Path | None,
    typer.Option("--quarantine", help="Where bad rows go, with their reasons (JSON lines)."),
]
