"""Commands of calls: simulated, read, made into vectors, scored. Thin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import (
    KEYED,
    OF_ROWS,
    Bundle,
    CalleesKey,
    Engine,
    EngineName,
    Json,
    KeyFile,
    LayoutName,
    Out,
    PolicyFile,
    QuarantineFile,
    RegisterFolder,
    Seed,
    Strict,
    Threads,
    Trust,
)

commands = typer.Typer()


@commands.command()
def simulate(
    out: Out,
    size: Annotated[str, typer.Option(help="tiny, small, town or city.")] = "small",
    seed: Seed = 1,
    scenario: Annotated[Path | None, typer.Option(help="TOML file that overrides the default scenario.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key file for the tokens of numbers; else a new key is written.")
    ] = None,
    json: Json = False,
) -> None:
    """Simulate calls with a known truth, and write them keyed: calls, truth, numbers, reports, findings."""
    from callsieve.serving.cli import console
    from callsieve.training.studies.simulated import simulate_to

    with console.progress("simulate") as tell:
        facts = simulate_to(console.new_folder(out), size=size, seed=seed, scenario=scenario, key=key, progress=tell)
    console.emit_json(facts) if json else console.show_facts("simulated world", facts)


@commands.command()
def features(
    context: typer.Context,
    calls: Annotated[Path, typer.Option(help="Call records.")],
    out: Annotated[Path, typer.Option(help="Folder for the vectors; one in which this was begun is gone on with.")],
    layout: LayoutName = "callsieve",
    only: Annotated[
        str | None,
        typer.Option("--features", help="Names with commas between, a file with one a line, or lite; all by default."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to plan for, e.g. 4GiB; by default half of the machine's.")
    ] = None,
    key: KeyFile = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Turn call records into feature vectors, one row a call, as of the moment it rings."""
    from callsieve.serving.batch.memory_size import parse_bytes
    from callsieve.serving.batch.vector_files import feature_names, write_vectors
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused

    if layout == KEYED:
        refuse_unused(context, ("key", *OF_ROWS), "--layout keyed")
    if engine is Engine.SPARK:
        refuse_unused(context, ("only", "memory"), "--engine spark")
    with console.progress("features") as tell:
        if engine is Engine.SPARK:
            from callsieve.serving.batch import spark_scoring

            facts = spark_scoring.write_vectors(calls, layout, out, threads=threads, progress=tell)
        else:
            facts = write_vectors(
                calls,
                layout,
                out,
                names=feature_names(only),
                memory=parse_bytes(memory),
                key=key,
                quarantine=quarantine,
                strict=strict,
                threads=threads,
                progress=tell,
            )
    console.emit_json(facts) if json else console.show_facts("features", facts)


@commands.command()
def catalogue(json: Json = False) -> None:
    """Print every feature with its meaning; --json adds definitions from which it can be recomputed."""
    from callsieve.features.catalogue import ALL_FEATURES, FEATURES, catalogue_hash
    from callsieve.serving.cli import console

    if json:
        console.emit_json({"hash": catalogue_hash(), "features": [one.definition for one in ALL_FEATURES.values()]})
        return
    rows = [(name, one.unit, one.en, one.zh) for name, one in ALL_FEATURES.items()]
    title = f"{len(FEATURES)} features, and {len(rows) - len(FEATURES)} of reports that a model has only if asked to"
    console.show_table(title, ("name", "unit", "meaning", "含义"), rows, texts=4)


@commands.command()
def reports(
    file: Annotated[Path, typer.Argument(help="File of complaints: text, plain or gzip, or Parquet.")],
    layout: Annotated[str, typer.Option(help="callsieve, 12321, ftc or ftc-counts.")] = "callsieve",
    published: Annotated[
        str | None, typer.Option(help="Day on which the file came out: nothing in it was known before.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the keyed complaints.")] = None,
    key: KeyFile = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Read a file of complaints, key its numbers, put bad rows apart, and say how far a list of its numbers reaches."""
    from callsieve.serving.cli import console
    from callsieve.training.cli.tables.checks import show_complaints
    from callsieve.training.data.ingest import ingest

    with console.progress("reports") as tell:
        facts = ingest(
            file, layout, published=published, key=key, out=out, quarantine=quarantine, strict=strict, tell=tell
        )
    console.emit_json(facts) if json else show_complaints(facts)


@commands.command()
def score(
    context: typer.Context,
    bundle: Bundle,
    calls: Annotated[Path, typer.Option(help="Call records.")],
    layout: LayoutName = "callsieve",
    trust: Trust = None,
    policy: PolicyFile = None,
    key: KeyFile = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file for the verdict of each call.")] = None,
    callees_key: CalleesKey = None,
    complaints: Annotated[
        Path | None, typer.Option(help="Complaints (Parquet, as for training), for a model that has features of them.")
    ] = None,
    registers: RegisterFolder = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Score a file of call records: what would have happened to each call as it rang."""
    from callsieve.serving.batch.score import score_file
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused

    from .tables import runs

    if layout == KEYED:
        # Registers as offices write them are keyed with it.
        refuse_unused(context, OF_ROWS if registers else ("key", *OF_ROWS), "--layout keyed")
    if engine is Engine.SPARK:
        refuse_unused(context, ("complaints",), "--engine spark")
    if out is None:
        refuse_unused(context, ("callees_key",), "counts alone, without --out")
    with console.progress("score") as tell:
        if engine is Engine.SPARK:
            from callsieve.serving.batch import spark_scoring

            if registers is not None:
                console.fail("score: registers are not looked up on Spark; expected --engine table", code=2)
            if out is not None and callees_key is None:
                console.fail(
                    "score: called people are written under a key that workers read; expected --callees-key", code=2
                )
            result = spark_scoring.score(
                bundle, calls, layout, trust=trust, policy=policy, out=out, callees=callees_key, threads=threads,
                progress=tell,
            )  # fmt: skip
        else:
            result = score_file(
                bundle, calls, layout, trust=trust, policy=policy, key=key, out=out, callees=callees_key,
                complaints=complaints, registers=registers, quarantine=quarantine, strict=strict, threads=threads,
                progress=tell,
            )  # fmt: skip
    console.emit_json(result) if json else runs.scored(result)
