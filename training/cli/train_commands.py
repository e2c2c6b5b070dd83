"""The commands `train` and `adapt`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import FeatureNames, LabelPolicyFile, Out, ShippedBundle, Trust, ValidDays, ValidFrom
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.language import language
from callsieve.training.oversight.log.gates import read_gates

from .ingest_commands import OwnFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callsieve.features.files.progress import Progress
    from callsieve.training.data.sources import Source
    from callsieve.training.model.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyedFolders:
    """Folders of keyed tables, and how calls are learnt from."""

    data: Annotated[
        list[Path] | None,
        Option("--data", help="Folder with calls, complaints and findings (Parquet), or with several such folders."),
    ] = None
    more: Annotated[
        list[Path] | None, Argument(metavar="[FOLDER]...", help="More folders like --data, for a shell's *.")
    ] = None
    certify: Annotated[
        list[Path] | None,
        Option(help="Folder used only for the certificate and the figures; by default a part of each --data."),
    ] = None
    poorer_feeds: Annotated[
        bool,
        Option("--poorer-feeds", help="Also train for incomplete records: answered calls only, outgoing calls only."),
    ] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordOptions:
    """How a model is signed and recorded, for which error and days it is valid, and by which labels it is judged."""

    signing_key: Path | None = None
    tracking_uri: str | None = None
    label_policy: LabelPolicyFile = None
    gates: Path | None = None
    audit_log: Path | None = None
    target: Annotated[
        str, typer.Option(help="Share of innocent calls that may be flagged, such as 1/1000; the thresholds follow it.")
    ] = "1/10000"
    valid_from: ValidFrom = ""
    valid_days: ValidDays = 90.0
    seed: int = 0
    threads: int = 0

    def plain_settings(self) -> Settings:
        """Returns the settings of a run that has no others."""
        from callsieve.training.model.settings import Settings

        return Settings(
            seed=self.seed,
            threads=self.threads,
            label_policy=read_label_policy(self.label_policy),
            target=share_of(self.target),
            valid_from=self.valid_from,
            valid_days=whole_days(self.valid_days),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions(RecordOptions):
    """How a model is trained, signed and recorded."""

    only: FeatureNames = None
    parameters: Annotated[Path | None, Option(help="LightGBM parameters (TOML), such as num_leaves = 31.")] = None
    own_columns: Annotated[
        bool, Option("--own-columns", help="Also learn from the own columns in columns.parquet of each folder.")
    ] = False
    dry_run: Annotated[
        bool, Option("--dry-run", help="Count days, labelled calls and groups of each fold; train nothing.")
    ] = False

    def settings(self, keyed: KeyedFolders, own_names: tuple[str, ...]) -> Settings:
        """Returns the settings of a training that also learns from the own columns of these names."""
        from callsieve.serving.batch.vector_files import feature_names
        from callsieve.training.model.settings import read_parameters

        return replace(
            self.plain_settings(),
            features=feature_names(self.only) + own_names,
            parameters=read_parameters(self.parameters),
            poorer_feeds=keyed.poorer_feeds,
        )


def train(
    context: typer.Context,
    own: OwnFiles,
    keyed: KeyedFolders,
    out: Out = Path("callsieve-run"),
    *,
    training: TrainOptions,
    lang: str = "en",
) -> Result:
    """Train, evaluate, certify and sign a model, from your files of calls and complaints or from keyed tables.

    --calls, --complaints, --checks (numbers that you have checked) and --trusted (numbers that you trust) name your
    files; their keyed tables are written to data/ in --out. --data names folders of keyed tables, such as months,
    provinces or simulated worlds, which train one model.

    Next: callsieve score, or audit page.

    Example: callsieve train --calls cdr.csv --layout op.toml --complaints complaints.csv --out run
    """
    _check_inputs(context, own, keyed)
    with console.progress("train") as progress, language(lang):
        if own.calls is not None:
            return _train_on_files(own, keyed, training, out, progress)
        return _train_on_folders(keyed, training, out, progress)


def _check_inputs(context: typer.Context, own: OwnFiles, keyed: KeyedFolders) -> None:
    if bool(keyed.data) == (own.calls is not None):
        console.fail("train: expected one of --calls FILE and --data FOLDER", code=2)
    own.check(context)
    if own.calls is not None and own.complaints is None and own.checks is None:
        console.fail("train: --calls: expected --complaints FILE or --checks FILE; a model learns from these", code=2)
    if own.calls is not None:
        refuse_unused(context, ("own_columns",), "--calls")


def _train_on_folders(keyed: KeyedFolders, training: TrainOptions, out: Path, progress: Progress) -> Result:
    from callsieve.serving.batch.own_column_join import own_features
    from callsieve.training.data.sources import folder_sources

    names = keyed.data or []
    sources = folder_sources([*names, *(keyed.more or ())], keyed.certify or ())
    own_names = own_features(Path(source.name) for source in sources) if training.own_columns else ()
    settings = training.settings(keyed, own_names)
    if training.dry_run:
        return _counted(sources, settings)
    return _recorded(sources, settings, training, console.new_folder(out), ", ".join(map(str, names)), progress)


def _train_on_files(
    own: OwnFiles, keyed: KeyedFolders, training: TrainOptions, out: Path, progress: Progress
) -> Result:
    from callsieve.training.data.sources import folder_sources

    settings = training.settings(keyed, ())
    if training.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            made = own.keyed(Path(scratch), progress)
            return _counted(folder_sources([made, *(keyed.more or ())], keyed.certify or ()), settings)
    folder = console.new_folder(out)
    sources = folder_sources([own.keyed(out, progress), *(keyed.more or ())], keyed.certify or ())
    return _recorded(sources, settings, training, folder, str(own.calls), progress)


def _recorded(
    sources: Sequence[Source], settings: Settings, training: TrainOptions, folder: Path, source: str, progress: Progress
) -> Result:
    from callsieve.training.run import record_training

    from . import terminal_tables

    figures = record_training(
        sources,
        settings,
        folder,
        source=source,
        signing_key=training.signing_key,
        tracking_uri=training.tracking_uri,
        gates=read_gates(training.gates),
        audit=training.audit_log,
        made_by="callsieve train",
        progress=progress,
    )
    return Result(figures, lambda: terminal_tables.training(figures, folder))


def _counted(sources: Sequence[Source], settings: Settings) -> Result:
    from callsieve.training.preflight import preflight

    from . import terminal_tables

    counts = preflight(sources, settings)
    return Result(counts, lambda: terminal_tables.preflight(counts), failed=bool(counts["too_small"]))


def share_of(text: str) -> float:
    """Returns a share that is written as a fraction or a decimal number. Raises ValueError for other text."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--target: expected a share such as 1/10000, got {text!r:.40}") from None


def whole_days(days: float) -> int:
    """Returns the days of a model's validity. Raises ValueError unless they are a whole number from 1 to 36,500."""
    if not (1 <= days <= 36_500 and days == int(days)):
        raise ValueError(f"--valid-days: expected a whole number from 1 to 36,500, got {days:g}")
    return int(days)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptOptions:
    """The bundle to adapt, and the answers of people who checked numbers."""

    bundle: ShippedBundle = None
    trust: Trust = None
    data: Annotated[
        Path | None, Option("--data", help="Folder of keyed calls, complaints and findings, in place of --calls.")
    ] = None
    answers: Annotated[
        list[Path] | None, Option("--answers", help="Filled-in to_check.csv of an earlier run; repeatable.")
    ] = None
    ask: Annotated[int, Option("--ask", min=0, max=100_000, help="Numbers to draw for a first round of checks.")] = 175


def adapt(
    context: typer.Context,
    own: OwnFiles,
    options: AdaptOptions,
    out: Out = Path("callsieve-adapted"),
    *,
    record: RecordOptions,
    lang: str = "en",
) -> Result:
    """Fit the shipped model, or another signed one, to your own call records, and sign the result.

    Complaints, checked numbers and trusted numbers are used if they are given; without checks the model stays as it
    is. to_check.csv in --out lists the numbers whose check helps most: fill in `verdict` (nuisance or innocent) and
    `checked_at`, and give the file back with --answers. The run page shows both models side by side.

    Next: callsieve score, or model verify.

    Example: callsieve adapt --calls cdr.csv --layout op.toml --complaints complaints.csv --out adapted
    """
    if (own.calls is None) == (options.data is None):
        console.fail("adapt: expected one of --calls FILE and --data FOLDER", code=2)
    own.check(context)
    with console.progress("adapt") as progress, language(lang):
        return _adapted(own, options, record, console.new_folder(out), progress)


def _adapted(own: OwnFiles, options: AdaptOptions, record: RecordOptions, folder: Path, progress: Progress) -> Result:
    from callsieve.serving.bundle.signing import read_public_key
    from callsieve.training.adapt.adapting import Adaptation
    from callsieve.training.adapt.answers import read_sheets
    from callsieve.training.adapt.base import read_base
    from callsieve.training.data.sources import folder_source
    from callsieve.training.run import record_training

    from . import terminal_tables

    base = read_base(options.bundle, None if options.trust is None else [read_public_key(options.trust)])
    source = folder_source(options.data or own.keyed(folder, progress), "certify")
    figures = record_training(
        [source],
        record.plain_settings(),
        folder,
        source=str(options.data or own.calls),
        signing_key=record.signing_key,
        tracking_uri=record.tracking_uri,
        gates=read_gates(record.gates),
        audit=record.audit_log,
        made_by="callsieve adapt",
        adaptation=Adaptation(base, read_sheets(options.answers or []), options.ask),
        progress=progress,
    )
    return Result(figures, lambda: terminal_tables.training(figures, folder))
