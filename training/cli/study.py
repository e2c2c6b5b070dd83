"""Commands that train several models to learn something of training. Thin: each study has its own module."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.serving.cli.options import FeatureNames, Json, Seed, Threads

if TYPE_CHECKING:
    from callsieve.training.log.looks import Ledger

commands = typer.Typer()

Data = Annotated[Path, typer.Option(help="Folder with calls, complaints and findings (Parquet).")]
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
    from callsieve.serving.cli import console
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.model.train import Settings
    from callsieve.training.studies.rolling import rolling

    from .tables import studies

    folder = console.new_folder(out)
    with console.progress("roll") as tell:
        settings = Settings(seed=seed, threads=threads, label_policy=read_label_policy(label_policy))
        result = rolling(
            read_dataset(data), settings, count=origins, step_days=step,
            ledger=ledger_in(folder, gates, audit, signing_key), progress=tell,
        )  # fmt: skip
    keep(folder / "roll.json", result)
    console.emit_json(result) if json else studies.rolling(result)


@commands.command()
def search(
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for search.db and parameters.toml; a search begun there is gone on with."),
    ] = Path("callsieve-search"),
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of an earlier part counted.")] = 60,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time to begin trials in; one is always made.")] = 30.0,
    only: FeatureNames = None,
    label_policy: Labels = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; by default SQLite in --out.")] = None,
    seed: Seed = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Search for the parameters of the fit on the training side alone; train --parameters takes what is found."""
    from callsieve.serving.batch.vector_files import feature_names
    from callsieve.serving.cli import console
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.log.run_paths import store_of
    from callsieve.training.model.train import Settings
    from callsieve.training.studies.search import search as look

    from .tables import studies

    with console.progress("search") as tell:
        settings = Settings(
            seed=seed, threads=threads, features=feature_names(only), label_policy=read_label_policy(label_policy)
        )
        result = look(
            read_dataset(data), settings, out, trials=trials, minutes=minutes,
            uri=tracking_uri or store_of(out), source=str(data), progress=tell,
        )  # fmt: skip
    console.emit_json(result) if json else studies.searched(result, out)


@commands.command()
def decay(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")] = Path("callsieve-decay"),
    train_days: Annotated[int, typer.Option(min=21, help="Days of calls that a training gets.")] = 35,
    weeks: Annotated[int, typer.Option(min=2, help="Periods after the first training.")] = 8,
    days: Annotated[int, typer.Option(min=1, help="Days of such a period.")] = 7,
    label_policy: Labels = None,
    gates: GatesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    seed: Seed = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train once and judge week after week, beside a model that is trained anew each week; decay.json, decay.svg."""
    from callsieve.features.files.folders import write_whole
    from callsieve.serving.cli import console
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.model.train import Settings
    from callsieve.training.studies.decay import decay as age
    from callsieve.training.studies.decay_picture import picture

    from .tables import studies

    folder = console.new_folder(out)
    with console.progress("decay") as tell:
        settings = Settings(seed=seed, threads=threads, label_policy=read_label_policy(label_policy))
        result = age(
            read_dataset(data), settings, train_days=train_days, periods=weeks, days=days,
            ledger=ledger_in(folder, gates, audit, signing_key), progress=tell,
        )  # fmt: skip
    keep(folder / "decay.json", result)
    write_whole(folder / "decay.svg", picture(result).encode())
    console.emit_json(result) if json else studies.decay(result, folder)


@commands.command()
def stress(
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")] = Path("callsieve-stress"),
    size: Annotated[str, typer.Option(help="Size of the simulated worlds: tiny, small, town, city.")] = "small",
    seeds: Annotated[str, typer.Option(help="Seeds of the worlds, with commas between.")] = "1,2,3",
    scenario: Annotated[Path | None, typer.Option(help="TOML file that overrides the default scenario.")] = None,
    label_policy: Labels = None,
    gates: GatesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train on worlds whose labels are flipped, whose reporters collude or are silent, beside the clean ones."""
    from callsieve.serving.cli import console
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.model.train import Settings
    from callsieve.training.studies.stress import stress as strain
    from callsieve.training.studies.stress import worlds

    from .tables import studies

    chosen = whole_numbers(seeds)
    folder = console.new_folder(out)
    with console.progress("stress") as tell:
        settings = Settings(threads=threads, label_policy=read_label_policy(label_policy))
        ledger = ledger_in(folder, gates, audit, signing_key)
        result = strain(worlds(size, chosen, scenario), settings, ledger, progress=tell, count=len(chosen))
    keep(folder / "stress.json", result)
    console.emit_json(result) if json else studies.stress(result, folder)


def whole_numbers(text: str) -> list[int]:
    """Seeds as a person writes them. Raises ValueError: in one line, if they are none, or one stands there twice."""
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds: expected whole numbers with commas between, got {text[:40]!r}") from None
    if len(set(found)) < len(found):  # the same twice would make intervals narrow
        raise ValueError(f"seeds: expected each once, got {text[:40]!r}")
    return found


def ledger_in(folder: Path, gates: Path | None, audit: Path | None, signing_key: Path | None) -> Ledger:
    """The audit log of a study: in its folder, signed by a key of its own, unless told otherwise."""
    from callsieve.training.log.gates import read_gates
    from callsieve.training.log.looks import Ledger
    from callsieve.training.log.run_paths import log_of
    from callsieve.training.run import signer

    return Ledger(log_of(folder, audit), signer(folder, signing_key), read_gates(gates))


def keep(path: Path, result: Mapping[str, Any]) -> None:
    """The figures of a study as a file."""
    from callsieve.features.files.folders import write_whole

    write_whole(path, (jsons.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
