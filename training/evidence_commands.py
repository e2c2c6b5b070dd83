"""The command that runs every stated figure again. Thin: the work is in `claims.py` and `evidence_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared_options import Json

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

    from . import console
    from .claims import CLAIMS
    from .evidence_page import PAGE, outdated, run, update_texts, write_page

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
    changed = [] if quick else update_texts(here, rows, root)
    skipped = [claim.name for claim in chosen if claim not in here]
    old = outdated(rows, (root / PAGE).read_text(encoding="utf-8")) if quick else []
    if json:
        shown = [
            {"claim": row.claim, "said": row.said, "interval": row.interval, "took": row.took, "code": row.code}
            for row in rows
        ]
        console.emit_json({"rows": shown, "changed": changed, "skipped": skipped, "outdated": old})
    else:
        for row in rows:
            console.say(f"{row.claim}: {row.said}{f' ({row.interval})' if row.interval else ''}, {row.took}")
        for name in skipped:
            console.say(f"{name}: not run, its data are not here")
        for name in changed:
            console.say(f"{name}: figures changed")
        for name in old:
            console.say(f"{name}: {PAGE} is older than the code; run callsieve evidence --only {name!r}")
    if old:
        raise typer.Exit(1)
