"""The commands `study roll`, `decay` and `worlds`: trainings to compare, or on many worlds."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Data, LabelPolicyFile, Out, Size, ValidDays, ValidFrom
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.oversight.log.gates import read_gates
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.oversight.log.run_paths import log_folder

if TYPE_CHECKING:
    from callsieve.training.model.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerOptions:
    """The audit log that counts the looks of a study at test sets."""

    gates: Path | None = None
    audit_log: Path | None = None
    signing_key: Path | None = None

    def within(self, folder: Path) -> Ledger:
        """Returns the ledger of a study; by default in its folder, signed with a key of its own."""
        from callsieve.training.run import signer

        log = log_folder(folder, self.audit_log)
        return Ledger(log, signer(folder, log, self.signing_key), read_gates(self.gates))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """The labels, the seed and the threads of each training of a study."""

    label_policy: LabelPolicyFile = None
    seed: int = 0
    threads: int = 0

    def settings(self) -> Settings:
        """Returns the settings of the trainings."""
        from callsieve.training.model.settings import Settings

        labels = read_label_policy(self.label_policy)
        return Settings(seed=self.seed, threads=self.threads, label_policy=labels)


def roll(data: Data, ledger: LedgerOptions, out: Out = Path("callsieve-roll"), *, training: TrainingOptions) -> Result:
    """Train on three periods of the same calls, three days apart, and show how much the main figures vary.

    Next: callsieve train.

    Example: callsieve study roll --data world
    """
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.studies.decay import rolling

    from . import terminal_tables

    folder = console.new_folder(out)
    with console.progress("study roll") as progress:
        settings, counted = training.settings(), ledger.within(folder)
        result = rolling(read_dataset(data), settings, count=3, step_days=3, ledger=counted, progress=progress)
    save(folder / "roll.json", result)
    return Result(result, lambda: terminal_tables.rolling(result))


def decay(
    data: Data, ledger: LedgerOptions, out: Out = Path("callsieve-decay"), *, training: TrainingOptions
) -> Result:
    """Compare a model of 35 days that ages for 8 weeks with one that is retrained every week.

    Writes decay.json and decay.svg.

    Next: callsieve model monitor.

    Example: callsieve study decay --data world --out decay
    """
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.studies.decay import decay as run
    from callsieve.training.studies.decay import picture

    from . import terminal_tables

    folder = console.new_folder(out)
    with console.progress("study decay") as progress:
        result = run(
            read_dataset(data),
            training.settings(),
            train_days=35,
            periods=8,
            days=7,
            ledger=ledger.within(folder),
            progress=progress,
        )
    save(folder / "decay.json", result)
    write_atomic(folder / "decay.svg", picture(result).encode())
    return Result(result, lambda: terminal_tables.decay(result, folder))


def worlds(
    out: Out = Path("callsieve-worlds"),
    size: Size = "small",
    count: Annotated[int, Option("--worlds", min=1, max=900, help="Number of worlds to learn from.")] = 16,
    valid_from: ValidFrom = "",
    valid_days: ValidDays = 90.0,
    signing_key: Path | None = None,
    threads: int = 0,
) -> Result:
    """Train on many varied simulated worlds, and evaluate the model on worlds of other seeds and scenarios.

    This makes the model that the package ships. The same command resumes an interrupted run.

    Next: callsieve score.

    Example: callsieve study worlds --out worlds
    """
    from callsieve.training.model.settings import Settings
    from callsieve.training.studies.worlds import CALLER_FEATURES, PARAMETERS, study_worlds

    from . import terminal_tables
    from .train_commands import whole_days

    settings = Settings(
        seed=1,
        threads=threads,
        learn_from="truth",
        poorer_feeds=True,
        features=CALLER_FEATURES,
        parameters=PARAMETERS,
        valid_from=valid_from,
        valid_days=whole_days(valid_days),
    )
    with console.progress("study worlds") as progress:
        figures = study_worlds(out, settings, size=size, learnt=count, signing_key=signing_key, progress=progress)
    return Result(figures, lambda: terminal_tables.training(figures, out / "run"))


def save(path: Path, result: Mapping[str, object]) -> None:
    """Writes the figures of a study as JSON."""
    write_atomic(path, (jsons.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode())
