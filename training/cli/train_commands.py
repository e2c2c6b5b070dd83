"""The commands `demo`, `simulate` and `train`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.options import (
    ComplaintFile,
    FeatureNames,
    GatesFile,
    Json,
    KeyFile,
    LabelPolicyFile,
    Lang,
    LayoutName,
    Out,
    Scenario,
    Seed,
    Size,
    Threads,
    TrackingUri,
    ValidDays,
    ValidFrom,
)

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.training.tracking.feature_table import TableRun

CALL_OPTIONS = (
    "more",
    "certify",
    "learn_from",
    "poorer_feeds",
    "signing_key",
    "label_policy",
    "gates",
    "audit",
    "only",
    "parameters",
    "estimator",
    "judge_seed",
    "own_columns",
    "valid_from",
    "valid_days",
)
VECTOR_OPTIONS = ("label", "where", "groups", "time")
OWN_OPTIONS = ("layout", "complaints", "complaint_layout", "key")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnFiles:
    """An operator's own files, in place of a folder of keyed tables."""

    calls: Annotated[
        Path | None, typer.Option("--calls", help="File of call records to learn from; needs --complaints.")
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
    key: KeyFile = None


def demo(
    out: Out = Path("callsieve-demo"),
    size: Size = "small",
    seed: Seed = 1,
    threads: Threads = 0,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Simulate calls, evaluate the shipped model on them, train a small model, and write report.html.

    Next: callsieve score, to score your own call records.

    Example: callsieve demo --size tiny --seed 11
    """
    from callsieve.training.language import language
    from callsieve.training.studies.demo import SHIPPED, run_demo

    from .tables import runs

    with console.progress("demo") as progress, language(lang):
        figures = run_demo(console.new_folder(out), size=size, seed=seed, threads=threads, progress=progress)
    console.emit_json(figures) if json else runs.demo(figures, SHIPPED, out)


def simulate(
    out: Out,
    size: Size = "small",
    seed: Seed = 1,
    scenario: Scenario = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Key file that turns numbers into tokens; by default a new key beside --out."),
    ] = None,
    worlds: Annotated[
        int,
        typer.Option(min=1, help="Number of worlds, with this seed and the next ones; each gets a folder in --out."),
    ] = 1,
    vary: Annotated[
        bool, typer.Option("--vary", help="Draw the assumed parameters of each world from stated ranges.")
    ] = False,
    json: Json = False,
) -> None:
    """Write one or more simulated worlds: call records with a known truth.

    A world has keyed calls, truth, numbers, complaints, findings and registers. With --worlds, the same command resumes
    an interrupted run.

    Next: callsieve train.

    Example: callsieve simulate --out world --size tiny
    """
    from callsieve.training.studies.simulated import simulate_to, simulate_worlds

    from .tables import runs

    with console.progress("simulate") as progress:
        if worlds == 1:
            folder = console.new_folder(out)
            facts = simulate_to(
                folder, size=size, seed=seed, scenario=scenario, key=key, varied=vary, progress=progress
            )
        else:
            made = simulate_worlds(
                out, worlds, size=size, seed=seed, scenario=scenario, key=key, varied=vary, progress=progress
            )
    if worlds == 1:
        console.emit_json(facts) if json else runs.worlds([{"folder": str(out)} | facts])
    else:
        console.emit_json({"worlds": made}) if json else runs.worlds(made)


def train(
    context: typer.Context,
    own: OwnFiles,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", help="Folder with calls, complaints and findings (Parquet), or with several such folders."
        ),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="More folders like --data, for a shell's *."),
    ] = None,
    certify: Annotated[
        list[Path] | None,
        typer.Option(help="Folder used only for the certificate and the figures; by default a part of each --data."),
    ] = None,
    learn_from: Annotated[
        str, typer.Option(help='"labels" as known at the time, or the "truth" of simulated worlds.')
    ] = "labels",
    poorer_feeds: Annotated[
        bool,
        typer.Option(
            "--poorer-feeds", help="Also train for incomplete records: answered calls only, outgoing calls only."
        ),
    ] = False,
    out: Out = Path("callsieve-run"),
    vectors: Annotated[Path | None, typer.Option(help="A feature table instead of calls.")] = None,
    label: Annotated[str, typer.Option(help="With --vectors: the column of 0 and 1.")] = "label",
    where: Annotated[str | None, typer.Option(help="With --vectors: rows to keep, e.g. 'voc_cnt >= 5'.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="With --vectors: the column of the caller; each caller is in one set only.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="With --vectors: the column of the time; test rows are the latest.")
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Key (PEM) that signs model and log; by default the log's, or a new one in your key folder."),
    ] = None,
    tracking_uri: TrackingUri = None,
    label_policy: LabelPolicyFile = None,
    gates: GatesFile = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of the audit log; by default audit/ in --out.")] = None,
    only: FeatureNames = None,
    parameters: Annotated[
        Path | None, typer.Option(help="LightGBM parameters (TOML), as `callsieve study search` writes them.")
    ] = None,
    estimator: Annotated[
        str, typer.Option(help="Another classifier, as MODULE:NAME of a class or function that makes it.")
    ] = "",
    own_columns: Annotated[
        bool, typer.Option("--own-columns", help="Also learn from the own columns in columns.parquet of each folder.")
    ] = False,
    valid_from: ValidFrom = "",
    valid_days: ValidDays = 90.0,
    seed: Seed = 0,
    judge_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed that selects the test calls; by default --seed.")
    ] = None,
    threads: Threads = 0,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Train, evaluate, certify and sign a model, from your files of calls and complaints or from keyed tables.

    --calls and --complaints name your files; their keyed tables are written to data/ in --out. --data names folders of
    keyed tables, such as months, provinces or simulated worlds, which train one model. --vectors names a feature table.

    Next: callsieve score, or audit page.

    Example: callsieve train --calls cdr.csv --layout op.toml --complaints complaints.csv --out run
    """
    from callsieve.training.language import language

    _check_inputs(context, own, data, vectors)
    if vectors is not None:
        from .tables import runs

        options = {"label": label, "where": where, "groups": groups, "start": time}
        with language(lang):
            result = _train_on_table(vectors, options, out, tracking_uri, seed, threads)
        console.emit_json(result) if json else runs.feature_table(result, out)
        return
    from callsieve.serving.batch.column_files import own_features
    from callsieve.serving.batch.vector_files import feature_names
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.data.sources import folder_sources
    from callsieve.training.model.settings import Settings, read_parameters
    from callsieve.training.oversight.log.gates import read_gates
    from callsieve.training.run import record_training

    from .tables import runs

    own_names: tuple[str, ...] = ()
    if own_columns:
        folders = folder_sources([*(data or []), *(more or ())], certify or ())
        own_names = own_features(Path(source.name) for source in folders)
    with console.progress("train") as progress, language(lang):
        settings = Settings(
            seed=seed,
            threads=threads,
            features=feature_names(only) + own_names,
            label_policy=read_label_policy(label_policy),
            parameters=read_parameters(parameters),
            estimator=estimator,
            judge_seed=judge_seed,
            learn_from=learn_from,
            poorer_feeds=poorer_feeds,
            valid_from=valid_from,
            valid_days=whole_days(valid_days),
        )
        names = [own.calls] if own.calls is not None else data or []
        if own.calls is None:
            sources, run_folder = folder_sources([*names, *(more or ())], certify or ()), console.new_folder(out)
        else:
            run_folder = console.new_folder(out)
            sources = folder_sources([_keyed(own, out, progress), *(more or ())], certify or ())
        figures = record_training(
            sources,
            settings,
            run_folder,
            source=", ".join(str(path) for path in names),
            signing_key=signing_key,
            tracking_uri=tracking_uri,
            gates=read_gates(gates),
            audit=audit,
            made_by="callsieve train",
            progress=progress,
        )
    console.emit_json(figures) if json else runs.training(figures, out)


def _check_inputs(context: typer.Context, own: OwnFiles, data: list[Path] | None, vectors: Path | None) -> None:
    """Ends the command unless it has calls, folders or a feature table, and only options that these use."""
    if own.calls is None:
        refuse_unused(context, OWN_OPTIONS, "no --calls")
    if sum((bool(data), own.calls is not None, vectors is not None)) != 1:
        console.fail("train: expected one of --calls FILE, --data FOLDER and --vectors FILE", code=2)
    if vectors is not None:
        refuse_unused(context, CALL_OPTIONS, "--vectors")
        return
    if own.calls is not None and own.complaints is None:
        console.fail("train: --calls: expected --complaints FILE; a model learns from complaints", code=2)
    refuse_unused(context, VECTOR_OPTIONS, "--data" if data else "--calls")
    if own.calls is not None:
        refuse_unused(context, ("own_columns",), "--calls")


def _keyed(own: OwnFiles, out: Path, progress: Progress) -> Path:
    """Keys own files into the folder `data` of a run, which is left empty after a fault; returns the folder."""
    from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
    from callsieve.training.data.own_files import key_own_files

    assert own.calls is not None and own.complaints is not None  # noqa: S101 - the command has checked it
    made = None
    if own.key is not None:
        key = read_key(own.key)
    elif KEY_VARIABLE in os.environ:
        key = key_from_environment()
    else:
        key, made = Key.generate("e1"), out / "number.key"
        key.write(made)
    complaint_layout = own.complaint_layout or (own.layout if own.layout.endswith(".toml") else "callsieve")
    try:
        invalid = key_own_files(
            own.calls, own.layout, own.complaints, complaint_layout, key, out / "data", progress=progress
        )
    except BaseException:
        shutil.rmtree(out / "data", ignore_errors=True)
        if made is not None:
            made.unlink()
        raise
    for path, counts in zip((own.calls, own.complaints), invalid.values(), strict=True):
        for reason, count in counts.items():
            console.note(f"{path}: quarantined: {count:,} rows, {reason}")
    return out / "data"


def whole_days(days: float) -> int:
    """Returns the days of a model's validity. Raises ValueError unless they are a whole number from 1 to 36,500."""
    if not (1 <= days <= 36_500 and days == int(days)):
        raise ValueError(f"--valid-days: expected a whole number from 1 to 36,500, got {days:g}")
    return int(days)


def _train_on_table(
    vectors: Path, options: dict[str, Any], out: Path, tracking_uri: str | None, seed: int, threads: int
) -> TableRun:
    from callsieve.training.tracking.feature_table import read_table, record_table

    table = read_table(vectors, purpose="training", **options)
    figures = record_table(
        table,
        vectors,
        console.new_folder(out),
        seed=seed,
        threads=threads,
        tracking_uri=tracking_uri,
        made_by="callsieve train",
    )
    if table.groups is None:
        console.note("train: without --groups, a caller can be in training and test set, and the AUC too high")
    return figures
