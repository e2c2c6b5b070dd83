"""The command that runs every stated figure again. Thin: the work is in `claims.py` and `evidence_page.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.serving.cli.options import Json

if TYPE_CHECKING:
    from callsieve.training.figures.page import Row

commands = typer.Typer()


@commands.command()
def evidence(
    root: Annotated[Path, typer.Option(help="Folder of the project, with its README.")] = Path(),
    only: Annotated[list[str] | None, typer.Option(help="Claims to run, by name; all by default.")] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Try each command, on tiny worlds; write nothing; exit code 1 if EVIDENCE.md is older than the code.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run every figure that the texts state again, write EVIDENCE.md, and bring the texts up to date."""
    import tempfile

    from callsieve.serving.cli import console
    from callsieve.training.figures.claims import CLAIMS
    from callsieve.training.figures.page import PAGE, outdated, run, update_texts, write_page

    unknown = set(only or ()) - {claim.name for claim in CLAIMS}
    if unknown:
        known = ", ".join(repr(claim.name) for claim in CLAIMS)
        console.fail(f"evidence: --only: expected one of {known}, got {', '.join(sorted(unknown))}", code=2)
    if not (root / "README.md").exists():
        console.fail(f"{root / 'README.md'}: expected the folder of the project")
    wanted = {name for claim in CLAIMS if claim.name in (only or ()) for name in (claim.name, claim.after)}
    chosen = [claim for claim in CLAIMS if not only or claim.name in wanted]
    here = [claim for claim in chosen if not claim.needs or (root / claim.needs).exists()]
    rows = []
    with console.progress("evidence") as tell, tempfile.TemporaryDirectory() as work:
        for done, claim in enumerate(here):
            tell(claim.name, done / len(here))
            rows += run(claim, root, Path(work), quick=quick)
            if not quick:
                # One by one: a run takes an hour, and what is done stays done.
                write_page(rows, root / PAGE)
    told: dict[str, Any] = {
        "rows": rows,
        "changed": [] if quick else update_texts(here, rows, root),
        "skipped": [claim.name for claim in chosen if claim not in here],
        "outdated": outdated(rows, (root / PAGE).read_text(encoding="utf-8")) if quick else [],
    }
    console.emit_json(told | {"rows": [asdict(row) for row in rows]}) if json else _show(**told)
    if told["outdated"]:
        sys.exit(1)


def _show(rows: Sequence[Row], changed: Sequence[str], skipped: Sequence[str], outdated: Sequence[str]) -> None:
    from callsieve.serving.cli import console
    from callsieve.training.figures.page import PAGE

    for row in rows:
        console.say(f"{row.claim}: {row.said}{f' ({row.interval})' if row.interval else ''}, {row.took}")
    for name in skipped:
        console.say(f"{name}: not run, its data are not here")
    for name in changed:
        console.say(f"{name}: figures changed")
    for name in outdated:
        console.say(f"{name}: {PAGE} is older than the code; run callsieve evidence --only {name!r}")
