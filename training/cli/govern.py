"""Commands for those who govern: reports, incidents, sharing, and what answers to what. Thin: each has its module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Bundle, Json, Threads, Trust

commands = typer.Typer()


@commands.command()
def report(
    data: Annotated[
        Path, typer.Option(help="Folder with keyed calls, complaints and registers, declared for statistics.")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder for report.html and cells.parquet.")],
    verdicts: Annotated[
        Path | None, typer.Option(help="What `callsieve score --out` wrote for these calls: adds what was decided.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Local date after the last day; by default that of the last call.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How many days; as many before are compared.")] = 7,
    callees: Annotated[int, typer.Option(min=1, help="Minimum of distinct callees in a shown count.")] = 10,
    callers: Annotated[int, typer.Option(min=1, help="Minimum of distinct callers in a shown count.")] = 5,
    json: Json = False,
) -> None:
    """Write the governance report: rounded counts of calls by connecting party, trunk, industry and regulator."""
    from callsieve.serving.cli import console
    from callsieve.training.governance.report import write_report

    with console.progress("report") as progress:
        figures = write_report(
            data,
            console.new_folder(out),
            verdicts=verdicts,
            until=until,
            days=days,
            least={"callee": callees, "caller": callers},
            progress=progress,
        )
    if json:
        console.emit_json(figures)
        return
    rows = [(name, f"{len(rows):,}") for name, rows in figures["tables"].items()]
    console.show_table(f"rows shown for {figures['now']}", ("table", "rows"), rows)
    console.say(f"{out / 'report.html'}: written")


@commands.command()
def traceability(
    root: Annotated[Path, typer.Option(help="The project's source tree, with its tests.")] = Path(),
    json: Json = False,
) -> None:
    """Show what the project answers to, with the files and tests that answer; exit code 1 if a row has none."""
    from callsieve.serving.cli import console
    from callsieve.training.governance.traceability import trace

    told = trace(root)
    if json:
        console.emit_json(told)
    else:
        for one in told["rows"]:
            console.say(f"{one['row']:<4} {one['asks']}")
            for line in (one.get("out") or ", ".join(one["files"]) or "OPEN", *one["tests"]):
                console.say(f"     {line}")
        console.say(f"{len(told['rows'])} rows, {len(told['open'])} open: {', '.join(told['open']) or 'none'}")
    if told["open"]:
        sys.exit(1)


@commands.command()
def membership(
    bundle: Bundle,
    data: Annotated[Path, typer.Option("--data", help="Folder of the calls that it was trained on.")],
    trust: Trust = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Attack a model: can its scores tell whose calls it learnt from? Exit code 1 if innocent callers' can."""
    from callsieve.serving.cli import console
    from callsieve.training.judging import membership as attacked

    from .tables import checks

    with console.progress("membership") as tell:
        found = attacked.membership(bundle, data, trust=trust, threads=threads, progress=tell)
    console.emit_json(found) if json else checks.show_membership(found)
    if found["kinds"]["innocent"]["holds"] is False:
        sys.exit(1)


@commands.command()
def compliance(
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder of calls; once for each.")] = None,
    audit: Annotated[Path | None, typer.Option("--audit", help="Folder of the audit log.")] = None,
    key: Annotated[list[Path] | None, typer.Option("--key", help="Key file of tokens; once for each.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="File of the keys that clients show.")] = None,
    json: Json = False,
) -> None:
    """The register of processing, and which duties hold; reads only. Exit code 1 if one is broken."""
    from callsieve.serving.cli import console
    from callsieve.training.governance import compliance as duties

    from .tables import checks

    asked = duties.Asked(tuple(data or ()), audit, tuple(key or ()), keys)
    found = duties.report(asked)
    console.emit_json(found) if json else checks.show_duties(found)
    if not found["holds"]:
        sys.exit(1)
