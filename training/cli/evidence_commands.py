"""The command `evidence`: runs every stated figure again. The work is in `training/evidence`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import Json


def evidence(
    root: Annotated[Path, typer.Option(help="The project's folder, with its README.")] = Path(),
    only: Annotated[list[str] | None, typer.Option(help="Name of a claim to run; by default all claims.")] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Run each command on a tiny world, write nothing; exit code 1 if EVIDENCE.md is older than the code.",
        ),
    ] = False,
    work: Annotated[
        Path | None, typer.Option("--work", help="Folder for the output of commands; by default deleted afterwards.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the command of every stated figure again, and write EVIDENCE.md.

    Next: callsieve govern traceability.

    Example: callsieve evidence --only demo
    """
    import tempfile

    from callsieve.training.evidence.claims import CLAIMS
    from callsieve.training.evidence.evidence_page import PAGE, outdated, run, write_page

    unknown = set(only or ()) - {claim.name for claim in CLAIMS}
    if unknown:
        expected = ", ".join(repr(claim.name) for claim in CLAIMS)
        console.fail(f"evidence: --only: expected one of {expected}, got {', '.join(sorted(unknown))}", code=2)
    if not (root / "README.md").exists():
        console.fail(f"{root / 'README.md'}: expected the folder of the project")
    names = {name for claim in CLAIMS if claim.name in (only or ()) for name in (claim.name, claim.after)}
    chosen = [claim for claim in CLAIMS if not only or claim.name in names]
    runnable = [claim for claim in chosen if not claim.needs or (root / claim.needs).exists()]
    rows = []
    with console.progress("evidence") as progress, tempfile.TemporaryDirectory() as temporary:
        outputs = (work or Path(temporary)).absolute()
        outputs.mkdir(parents=True, exist_ok=True)
        for done, claim in enumerate(runnable):
            progress(claim.name, done / len(runnable))
            rows.append(run(claim, root, outputs, quick=quick))
            if not quick:
                # After each claim: a complete run takes hours, and an interrupted one keeps its finished claims.
                write_page(rows, root / PAGE)
    skipped = [claim.name for claim in chosen if claim not in runnable]
    old = outdated(rows, (root / PAGE).read_text(encoding="utf-8")) if quick else []
    if json:
        console.emit_json({"rows": [asdict(row) for row in rows], "skipped": skipped, "outdated": old})
    else:
        for row in rows:
            for label, value in row.figures.items():
                console.say(f"{row.claim}: {label}: {value}")
        for name in skipped:
            console.say(f"{name}: not run, its data set is missing")
        for name in old:
            console.say(f"{name}: {PAGE} is older than the code; run callsieve evidence --only {name!r}")
    if old:
        sys.exit(1)
