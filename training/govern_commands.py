"""Commands for those who govern: reports, incidents, sharing, and what answers to what. Thin: each has its module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


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
