"""The commands `features` and `score`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_IN_WORDS

from . import console
from .configuration import refuse_unused
from .console import Result
from .options import (
    KEYED,
    ROW_OPTIONS,
    SPARK,
    CalleesKey,
    CallRowOptions,
    Calls,
    ColumnFile,
    FeatureNames,
    Keep,
    KeyFile,
    LayoutName,
    ListsFile,
    PolicyFile,
    RegisterFolder,
    ShippedBundle,
    Trust,
)

if TYPE_CHECKING:
    from callsieve.serving.batch.call_files import CallFile


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorOptions:
    """Which vectors are made of call records, and how."""

    layout: LayoutName = "callsieve"
    zone: str | None = None
    only: FeatureNames = None
    keep: Keep = None
    key: KeyFile = None
    threads: int = 0


@console.private
def features(
    context: typer.Context,
    rows: CallRowOptions,
    catalogue: Annotated[
        bool, Option("--list", help="Print all features instead; with --json their exact definitions.")
    ] = False,
    calls: Annotated[Path | None, Option("--calls", help="File or folder of call records.")] = None,
    out: Annotated[
        Path | None, Option("--out", help="Folder for the vectors; an unfinished run in it is resumed.")
    ] = None,
    *,
    vectors: VectorOptions,
) -> Result:
    """Turn call records into feature vectors, one row a call.

    A vector uses only what was known when the call rang. Column row is the line of the file, as in the table of score.

    Next: callsieve train.

    Example: callsieve features --calls Master.csv --layout asterisk --out vectors
    """
    if catalogue:
        of_calls = (field.name for field in fields(VectorOptions))
        refuse_unused(context, ("calls", "out", *ROW_OPTIONS, *of_calls), "--list")
        return _listed()
    if calls is None or out is None:
        console.fail("features: expected --calls FILE and --out FOLDER, or --list", code=2)
    from callsieve.serving.batch.vector_files import feature_names, write_vectors

    if vectors.layout == KEYED:
        refuse_unused(context, ("key", *ROW_OPTIONS), "--layout keyed")
    if vectors.layout == SPARK:
        refuse_unused(context, ("key", "only", "keep", *ROW_OPTIONS), "--layout spark")
    with console.progress("features") as progress:
        if vectors.layout == SPARK:
            from callsieve.serving.batch import spark_scoring

            facts = spark_scoring.write_vectors(calls, out, threads=vectors.threads, progress=progress)
        else:
            facts = write_vectors(
                _call_file(calls, rows, vectors),
                out,
                names=feature_names(vectors.only),
                keep=vectors.keep or (),
                threads=vectors.threads,
                progress=progress,
            )
    return Result(facts, lambda: console.show_facts("features", facts))


def _listed() -> Result:
    from callsieve.features.catalogue import FEATURES, catalogue_hash
    from callsieve.features.catalogue.glossary import GLOSSARY

    def show() -> None:
        rows = [(feature.name, feature.unit, feature.en, feature.zh) for feature in FEATURES]
        console.show_table(f"{len(rows)} features", ("name", "unit", "meaning", "含义"), rows, texts=4)
        console.show_table("terms", ("term", "meaning"), list(GLOSSARY.items()), texts=2)

    definitions = [feature.definition for feature in FEATURES]
    return Result({"hash": catalogue_hash(), "features": definitions, "glossary": GLOSSARY}, show)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """The model that scores a file, its policy, the tables that are joined to the calls, and the output."""

    bundle: ShippedBundle = None
    layout: LayoutName = "callsieve"
    zone: str | None = None
    trust: Trust = None
    policy: PolicyFile = None
    key: KeyFile = None
    out: Annotated[Path | None, Option("--out", help="Parquet file for the verdict of each call.")] = None
    callees_key: CalleesKey = None
    columns: ColumnFile = None
    registers: RegisterFolder = None
    history: Annotated[
        Path | None, Option("--history", help="File of the same layout with the days before; its calls get no verdict.")
    ] = None
    lists: ListsFile = None
    keep: Keep = None
    threads: int = 0


@console.private
def score(context: typer.Context, calls: Calls, rows: CallRowOptions, options: ScoreOptions) -> Result:
    """Give each call of a file the verdict that it would have got as it rang.

    --out gets one row for each row of --calls, in the same order.

    Next: callsieve study policies, or model monitor.

    Example: callsieve score --calls Master.csv --layout asterisk --out verdicts.parquet
    """
    from callsieve.serving.batch.file_scoring import ScoreInputs, score_file

    if options.bundle is None:
        console.note(SHIPPED_IN_WORDS)
    _refuse_unused(context, options)
    lists = None
    if options.lists is not None:
        from callsieve.serving.lists.following import open_lists

        lists = open_lists(options.lists)
        for line in lists.statuses():
            console.note(line)
    inputs = ScoreInputs(
        calls=_call_file(calls, rows, options),
        bundle=options.bundle or SHIPPED_BUNDLE,
        trust=options.trust,
        policy=options.policy,
        registers=options.registers,
        columns=options.columns,
        history=options.history,
        out=options.out,
        callees=options.callees_key,
        keep=options.keep or (),
        listed=None if lists is None else lists.listed,
    )
    with console.progress("score") as progress:
        if options.layout == SPARK:
            from callsieve.serving.batch import spark_scoring

            result = spark_scoring.score(inputs, threads=options.threads, progress=progress)
        else:
            result = score_file(inputs, threads=options.threads, progress=progress)
    return Result(result, lambda: show_scored(result))


def _call_file(calls: Path, rows: CallRowOptions, options: VectorOptions | ScoreOptions) -> CallFile:
    from callsieve.serving.batch.call_files import CallFile

    return CallFile(
        path=calls,
        layout=options.layout,
        key=options.key,
        quarantine=rows.quarantine,
        strict=rows.strict,
        allow_quarantine=rows.allow_quarantine,
        zone=options.zone,
    )


def _refuse_unused(context: typer.Context, options: ScoreOptions) -> None:
    if options.layout == KEYED:
        # Registers as offices write them are keyed with it.
        refuse_unused(context, ROW_OPTIONS if options.registers else ("key", *ROW_OPTIONS), "--layout keyed")
        refuse_unused(context, ("lists",), "--layout keyed")  # a token cannot be turned into that of a list
    if options.layout == SPARK:
        unused = ("columns", "history", "lists", "keep", "registers", "key", *ROW_OPTIONS)
        refuse_unused(context, unused, "--layout spark")
    if options.out is None:
        refuse_unused(context, ("callees_key", "keep"), "counts alone, without --out")
    if options.layout == SPARK and options.out is not None and options.callees_key is None:
        console.fail("score: --out on Spark needs --callees-key, so that all workers use one key", code=2)


def show_scored(result: Mapping[str, Any]) -> None:
    """Prints the verdicts of a scored file by action, and the calls without a verdict."""
    rows = [(word, f"{n:,}", f"{result['callers'][word]:,}") for word, n in result["actions"].items()]
    title = f"verdicts of model {result['model']} on {result['calls']:,} calls"
    console.show_table(title, ("action", "calls", "callers"), rows)
    if result.get("rules"):
        rules = [(name.replace("_", " "), f"{calls:,}") for name, calls in result["rules"].items()]
        console.show_table("calls that meet a rule, independent of the score", ("rule", "calls"), rules)
    if result["filling"]:
        console.say(f"{result['filling']:,} calls were not scored: less than 7 days of history")
    console.say(f"feed of the records: {result['feed']}")
    if result["other_feed"]:
        console.say(f"{result['other_feed']:,} calls were not scored: the model has no threshold for this feed")
    if result["unlike_network"]:
        console.say(
            f"{result['unlike_network']:,} calls were not scored: the model's thresholds were chosen on other networks "
            f"({result['score_level']}); callsieve adapt makes thresholds for this one"
        )
    elif result["score_level"]:
        console.say(result["score_level"])
    for stratum, count in result["no_threshold"].items():
        console.say(f"{count:,} calls were not scored: the model has no threshold for the number class {stratum!r}")
    for line in (*console.quarantined(result["quarantined"]), *(f"warning: {sign}" for sign in result["odd_records"])):
        console.say(line)
    if result.get("resumed"):
        console.say("an unfinished run was resumed")
    if result["stale"]:
        console.say(f"the model is past its valid-until date, {result['valid_until']}")
