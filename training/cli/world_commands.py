"""The commands `demo` and `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Out, Scenario, Size
from callsieve.training.language import language

COUNTS = "folder calls numbers complaints findings"


def demo(
    out: Out = Path("callsieve-demo"),
    size: Size = "",
    seed: int = 1,
    threads: int = 0,
    lang: str = "en",
    full: Annotated[
        bool, Option("--full", help="Adapt the shipped model, too. The world is larger: small in place of village.")
    ] = False,
) -> Result:
    """Simulate calls, evaluate the shipped model on them, train a small model, and write report.html.

    Next: callsieve score, to score your own call records.

    Example: callsieve demo --size tiny --seed 11
    """
    from callsieve.training.judging.judge import SHIPPED
    from callsieve.training.studies.demo import ADAPTED, run_demo

    from . import terminal_tables

    with console.progress("demo") as progress, language(lang):
        figures = run_demo(
            console.new_folder(out),
            size=size or ("small" if full else "village"),
            seed=seed,
            threads=threads,
            full=full,
            first=terminal_tables.shipped,
            progress=progress,
        )
    return Result(figures, lambda: terminal_tables.demo(figures, (SHIPPED, ADAPTED) if full else (SHIPPED,), out))


def simulate(
    out: Out,
    size: Size = "small",
    seed: int = 1,
    scenario: Scenario = None,
    key: Annotated[
        Path | None, Option("--key", help="Key file that turns numbers into tokens; by default a new key beside --out.")
    ] = None,
    worlds: Annotated[
        int, Option(min=1, help="Number of worlds, with this seed and the next ones; each gets a folder in --out.")
    ] = 1,
    vary: Annotated[
        bool, Option("--vary", help="Draw the assumed parameters of each world from stated ranges.")
    ] = False,
) -> Result:
    """Write one or more simulated worlds: call records with a known truth.

    A world has keyed calls, truth, numbers, complaints, findings and registers. With --worlds, the same command resumes
    an interrupted run.

    Next: callsieve train.

    Example: callsieve simulate --out world --size tiny
    """
    from callsieve.training.studies.simulated import simulate_to, simulate_worlds

    from . import terminal_tables

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
        row = {"folder": str(out), **facts}
        return Result(facts, lambda: terminal_tables.show_rows("simulated worlds", [row], COUNTS))
    return Result({"worlds": made}, lambda: terminal_tables.show_rows("simulated worlds", made, COUNTS))
