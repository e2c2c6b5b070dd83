"""The commands `features` and `score`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.options import (
    KEYED,
    ROW_OPTIONS,
    CalleesKey,
    Calls,
    ColumnFile,
    ComplaintFile,
    Engine,
    EngineName,
    ExchangeZone,
    FeatureNames,
    Json,
    KeyFile,
    LayoutName,
    PolicyFile,
    RegisterFolder,
    RowOptions,
    Threads,
    Trust,
)


def features(
    context: typer.Context,
    rows: RowOptions,
    catalogue: Annotated[
        bool, typer.Option("--list", help="Print all features instead; with --json their exact definitions.")
    ] = False,
    calls: Annotated[Path | None, typer.Option("--calls", help="File or folder of call records.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the vectors; an unfinished run in it is resumed.")
    ] = None,
    layout: LayoutName = "callsieve",
    zone: ExchangeZone = None,
    only: FeatureNames = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to use, e.g. 4GiB; by default half of the machine's.")
    ] = None,
    key: KeyFile = None,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Turn call records into feature vectors, one row a call.

    A vector uses only what was known when the call rang.

    Next: callsieve train --vectors.

    Example: callsieve features --calls Master.csv --layout asterisk --out vectors
    """
    if catalogue:
        _list_features(json=json)
        return
    if calls is None or out is None:
        console.fail("features: expected --calls FILE and --out FOLDER, or --list", code=2)
    from callsieve.serving.batch.call_files import CallFile
    from callsieve.serving.batch.vector_files import feature_names, write_vectors

    if layout == KEYED:
        refuse_unused(context, ("key", *ROW_OPTIONS), "--layout keyed")
    if engine is Engine.SPARK:
        refuse_unused(context, ("only", "memory"), "--engine spark")
    with console.progress("features") as progress:
        if engine is Engine.SPARK:
            from callsieve.serving.batch import spark_scoring

            facts = spark_scoring.write_vectors(calls, layout, out, threads=threads, progress=progress)
        else:
            facts = write_vectors(
                CallFile(path=calls, layout=layout, key=key, quarantine=rows.quarantine, strict=rows.strict, zone=zone),
                out,
                names=feature_names(only),
                memory=parse_bytes(memory),
                threads=threads,
                progress=progress,
            )
    console.emit_json(facts) if json else console.show_facts("features", facts)


def _list_features(*, json: bool) -> None:
    from callsieve.features.catalogue import ALL_FEATURES, FEATURES, catalogue_hash
    from callsieve.features.catalogue.glossary import GLOSSARY

    if json:
        definitions = [feature.definition for feature in ALL_FEATURES.values()]
        console.emit_json({"hash": catalogue_hash(), "features": definitions, "glossary": GLOSSARY})
        return
    rows = [(name, feature.unit, feature.en, feature.zh) for name, feature in ALL_FEATURES.items()]
    title = f"{len(FEATURES)} features, and {len(rows) - len(FEATURES)} complaint features that a model has on request"
    console.show_table(title, ("name", "unit", "meaning", "含义"), rows, texts=4)
    console.show_table("terms", ("term", "meaning"), list(GLOSSARY.items()), texts=2)


def parse_bytes(text: str | None) -> int | None:
    """Returns the number of bytes in a size such as 4GiB or 800MiB; None for None.

    Raises:
        ValueError: in one line, if the text is not a size.

    >>> parse_bytes("1.5GiB")
    1610612736
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) ?([KMGT])iB", text)
    if not match:
        raise ValueError(f"memory: expected a size such as 4GiB or 800MiB, got {text!r}")
    return int(float(match[1]) * 1024 ** (1 + "KMGT".index(match[2])))


def score(
    context: typer.Context,
    calls: Calls,
    rows: RowOptions,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Folder of a signed model (bundle); by default the shipped one.")
    ] = None,
    layout: LayoutName = "callsieve",
    zone: ExchangeZone = None,
    trust: Trust = None,
    policy: PolicyFile = None,
    key: KeyFile = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the verdict of each call.")] = None,
    callees_key: CalleesKey = None,
    complaints: ComplaintFile = None,
    columns: ColumnFile = None,
    registers: RegisterFolder = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", help="File of the same layout with the days before; its calls are not scored."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Column of --calls to copy to --out; repeat for several.")
    ] = None,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Give each call of a file the verdict that it would have got as it rang.

    --out gets one row for each row of --calls, in the same order.

    Next: callsieve study policies, or model monitor.

    Example: callsieve score --calls Master.csv --layout asterisk --out verdicts.parquet
    """
    from callsieve.serving.batch.call_files import CallFile
    from callsieve.serving.batch.file_scoring import score_file
    from callsieve.serving.batch.score import ScoreInputs
    from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_IN_WORDS

    from .verdict_counts import scored

    if bundle is None:
        bundle = SHIPPED_BUNDLE
        console.note(SHIPPED_IN_WORDS)
    if layout == KEYED:
        # Registers as offices write them are keyed with it.
        refuse_unused(context, ROW_OPTIONS if registers else ("key", *ROW_OPTIONS), "--layout keyed")
    if engine is Engine.SPARK:
        refuse_unused(context, ("complaints", "columns", "history", "keep"), "--engine spark")
    if out is None:
        refuse_unused(context, ("callees_key", "keep"), "counts alone, without --out")
    if engine is Engine.SPARK and registers is not None:
        console.fail("score: --registers: not supported on Spark; use --engine table", code=2)
    if engine is Engine.SPARK and out is not None and callees_key is None:
        console.fail("score: --out on Spark needs --callees-key, so that all workers use one key", code=2)
    inputs = ScoreInputs(
        calls=CallFile(path=calls, layout=layout, key=key, quarantine=rows.quarantine, strict=rows.strict, zone=zone),
        bundle=bundle,
        trust=trust,
        policy=policy,
        registers=registers,
        complaints=complaints,
        columns=columns,
        history=history,
        out=out,
        callees=callees_key,
        keep=keep or (),
    )
    with console.progress("score") as progress:
        if engine is Engine.SPARK:
            from callsieve.serving.batch import spark_scoring

            result = spark_scoring.score(inputs, threads=threads, progress=progress)
        else:
            result = score_file(inputs, threads=threads, progress=progress)
    console.emit_json(result) if json else scored(result)
