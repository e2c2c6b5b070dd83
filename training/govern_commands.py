"""Commands for those who govern: reports, incidents, sharing, and what answers to what. Thin: each has its module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .shared_options import Json

commands = typer.Typer()


@commands.command()
def report(
    data: Annotated[
        Path, typer.Option(help="Folder with keyed calls, reports and registers, declared for statistics.")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder for report.html and cells.parquet.")],
    releases: Annotated[Path, typer.Option(help="Folder of earlier releases; this one is added.")],
    verdicts: Annotated[
        Path | None, typer.Option(help="What `callsieve score --out` wrote for these calls: adds what was decided.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Local date after the last day; by default that of the last call.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How many days; as many before are compared.")] = 7,
    callees: Annotated[int, typer.Option(min=1, help="People called that a figure must be of, at least.")] = 10,
    callers: Annotated[int, typer.Option(min=1, help="Calling numbers that a figure must be of, at least.")] = 5,
    json: Json = False,
) -> None:
    """Report to those who govern: by connecting party, trunk and trade, and no small group can be reckoned."""
    from . import console
    from .governance import govern

    with console.progress("report") as tell:
        facts = govern(
            data, console.new_folder(out), releases, verdicts=verdicts, until=until, days=days,
            least={"callee": callees, "caller": callers}, progress=tell,
        )  # fmt: skip
    if json:
        console.emit_json(facts)
        return
    told = [(name, f"{len(rows):,}") for name, rows in facts["tables"].items()]
    console.show_table(f"release {facts['release']}: rows that can be shown", ("table", "rows"), told)
    console.say(f"{out / 'report.html'}: written")


@commands.command()
def traceability(
    root: Annotated[Path, typer.Option(help="The project's source tree, with its tests.")] = Path(),
    json: Json = False,
) -> None:
    """Show what the project answers to, with the files and tests that answer; exit code 1 if a row has none."""
    from . import console
    from .traceability import trace

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
