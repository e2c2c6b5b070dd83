"""Commands that train several models to learn something of training. Thin: each study has its own module."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .touches import Ledger

commands = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option(help="Cores to use; 0 means all. No result depends on it.")]
Data = Annotated[Path, typer.Option(help="Folder with calls, reports and findings (Parquet).")]
Labels = Annotated[Path | None, typer.Option("--label-policy", help="Label policy; the shipped one by default.")]
GatesFile = Annotated[Path | None, typer.Option("--gates", help="Gates of the runs; the shipped ones by default.")]
Log = Annotated[
    Path | None,
    typer.Option(
        "--audit", help="Folder of the audit log, where each look at judging calls is counted; else in --out."
    ),
]
LogKey = Annotated[
    Path | None, typer.Option("--signing-key", help="Key (PEM) that signs the log; a new one in --out by default.")
]


@commands.command()
def roll(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")] = Path("callsieve-roll"),
    origins: Annotated[int, typer.Option(help="How many starts, 3 or more.")] = 3,
    step: Annotated[int, typer.Option(help="Days between two starts.")] = 3,
    label_policy: Labels = None,
    gates: GatesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    seed: Seed = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train and judge anew from several starts, and say how the headline spreads."""
    from . import console, present
    from .evidence import read_evidence
    from .label_policy import read_label_policy
    from .rolling import rolling
    from .train import Settings

    folder = console.new_folder(out)
    with console.progress("roll") as tell:
        settings = Settings(seed=seed, threads=threads, label_policy=read_label_policy(label_policy))
        result = rolling(
            read_evidence(data), settings, count=origins, step_days=step,
            ledger=ledger_in(folder, gates, audit, signing_key), progress=tell,
        )  # fmt: skip
    keep(folder / "roll.json", result)
    console.emit_json(result) if json else present.rolling(result)


def ledger_in(folder: Path, gates: Path | None, audit: Path | None, signing_key: Path | None) -> Ledger:
    """The audit log of a study: in its folder, signed by a key of its own, unless told otherwise."""
    from .gates import read_gates
    from .place import log_of
    from .study import signer
    from .touches import Ledger

    return Ledger(log_of(folder, audit), signer(folder, signing_key), read_gates(gates))


def keep(path: Path, result: Mapping[str, Any]) -> None:
    """The figures of a study as a file."""
    from ..serving.files import write_whole

    write_whole(path, (jsons.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
