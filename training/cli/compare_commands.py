"""The commands `evaluate`, `study compare`, `study membership`, `study rules` and `study policies`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from callsieve.serving.cli import console
from callsieve.serving.cli.configuration import refuse_unused
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import (
    KEYED,
    Bundle,
    Calls,
    Data,
    KeyFile,
    LayoutName,
    PolicyFile,
    RegisterFolder,
    Trust,
    shipped_or_own,
)
from callsieve.training.language import language

from .log_options import LOOK_OPTIONS, LookOptions


def evaluate(
    bundle: Bundle,
    data: Data,
    look: LookOptions,
    trust: Trust = None,
    out: Annotated[
        Path | None, Option("--out", help="New or empty folder for a report, its pictures and all figures.")
    ] = None,
    threads: int = 0,
    lang: str = "en",
) -> Result:
    """Evaluate a signed model on other calls.

    The audit log records this use of the calls. With --out, it also writes report.html, figures.json and plots.

    Next: callsieve study compare.

    Example: callsieve evaluate --bundle run/bundle --data world
    """
    from callsieve.training.judging.evaluate import evaluate as run
    from callsieve.training.reports.run_page import write_evaluation

    from . import terminal_tables

    folder = None if out is None else console.new_folder(out)
    with console.progress("evaluate") as progress, language(lang):
        figures = run(bundle, data, trust=trust, threads=threads, progress=progress, ledger=look.ledger(bundle))
        if folder is not None:
            write_evaluation(figures, folder)

    def show() -> None:
        terminal_tables.evaluation(figures)
        if folder is not None:
            console.say(f"report   {folder / 'report.html'}")

    return Result(figures, show)


def compare(
    first: Annotated[Path, Argument(metavar="RUN", help="Folder of a run.")],
    second: Annotated[Path, Argument(metavar="RUN", help="Folder of another run on the same data.")],
) -> Result:
    """Compare two runs on the test calls that they share: which catches more, with an interval, and which callers.

    Both runs must have read the same data. Runs with the same --seed have the same test calls.

    Next: callsieve model promote.

    Example: callsieve study compare run other-run
    """
    from callsieve.training.studies.run_comparison import compare_runs

    from . import terminal_tables

    with console.progress("study compare"):
        result = compare_runs(first, second)
    return Result(result, lambda: terminal_tables.run_comparison(result))


def membership(bundle: Bundle, data: Data, trust: Trust = None, threads: int = 0) -> Result:
    """Measure whether scores reveal the callers a model was trained on; exit code 1 if they reveal innocent ones.

    Next: callsieve train.

    Example: callsieve study membership --bundle run/bundle --data world
    """
    from callsieve.training.judging import membership as attack

    from . import terminal_tables

    with console.progress("study membership") as progress:
        figures = attack.membership(bundle, data, trust=trust, threads=threads, progress=progress)
    failed = figures["kinds"]["innocent"]["holds"] is False
    return Result(figures, lambda: terminal_tables.membership(figures), failed=failed)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleOptions:
    """The rules that are measured, and a model to compare with them."""

    bundle: Annotated[
        Path | None, Option("--bundle", help="Folder of a signed model (bundle) to compare with the rules.")
    ] = None
    trust: Trust = None
    policy: PolicyFile = None
    key: KeyFile = None
    registers: RegisterFolder = None
    threads: int = 0


def rules(
    context: typer.Context,
    data: Annotated[
        Path, Option("--data", help="Folder with calls, registers and truth, as `callsieve simulate` writes it.")
    ],
    look: LookOptions,
    options: RuleOptions,
) -> Result:
    """Measure precision and recall of each rule, and the innocent callers that it hits.

    Next: callsieve study policies.

    Example: callsieve study rules --data world
    """
    from callsieve.training.studies import rule_figures

    from . import terminal_tables

    if options.bundle is None:
        refuse_unused(context, ("trust", *LOOK_OPTIONS), "rules alone, without --bundle")
    with console.progress("study rules") as progress:
        figures = rule_figures.rule_figures(
            data,
            bundle=options.bundle,
            trust=options.trust,
            policy=options.policy,
            key=options.key,
            registers=options.registers,
            ledger=None if options.bundle is None else look.ledger(options.bundle),
            threads=options.threads,
            progress=progress,
        )
    return Result(figures, lambda: terminal_tables.rule_figures(figures))


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyOptions:
    """How the calls of two policies are written, and the tables that are joined to them."""

    layout: LayoutName = "callsieve"
    trust: Trust = None
    key: KeyFile = None
    registers: RegisterFolder = None
    truth: Annotated[
        Path | None, Option(help="truth.parquet of these calls, for slices by the true kind of caller.")
    ] = None
    threads: int = 0


def policies(
    context: typer.Context,
    old: Annotated[Path, Argument(callback=shipped_or_own, help="Policy in service: a file or a name.")],
    new: Annotated[Path, Argument(callback=shipped_or_own, help="Policy under review: a file or a name.")],
    calls: Calls,
    bundle: Bundle,
    look: LookOptions,
    options: PolicyOptions,
) -> Result:
    """Compare two policies on the same calls: how many calls change their action, in total and by slice.

    Next: callsieve serve --policy.

    Example: callsieve study policies default plan-2018 --calls calls.parquet --bundle run/bundle
    """
    from callsieve.training.studies import policy_diff

    from . import terminal_tables

    if options.truth is None:
        refuse_unused(context, LOOK_OPTIONS, "calls alone, without --truth")
    if options.layout == KEYED and options.registers is None:
        refuse_unused(context, ("key",), "--layout keyed")
    with console.progress("study policies") as progress:
        figures = policy_diff.difference(
            old,
            new,
            calls,
            options.layout,
            bundle,
            trust=options.trust,
            key=options.key,
            registers=options.registers,
            truth=options.truth,
            ledger=None if options.truth is None else look.ledger(bundle),
            threads=options.threads,
            progress=progress,
        )
    return Result(figures, lambda: terminal_tables.policy_diff(figures))
