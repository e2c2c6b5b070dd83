"""The `callsieve` command: thin subcommands. Every step lives in its own module and is imported when it is needed.

Exit codes: 0 success, 1 a fault told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

try:
    import typer

    from . import (
        audit_commands,
        case_commands,
        export_commands,
        govern_commands,
        incident_commands,
        keeping_commands,
        key_commands,
        law_commands,
        serve_commands,
        share_commands,
        study_commands,
    )
except ImportError:  # the base install embeds the scorer; the command comes with training
    sys.exit("callsieve: the command needs the training packages: pip install 'callsieve[train]'")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Nuisance-call classifier that its users can retrain, embed and hold to account.",
)

for more in (
    serve_commands, audit_commands, case_commands, keeping_commands, key_commands, export_commands, law_commands,
    govern_commands, share_commands, incident_commands, study_commands,
):  # fmt: skip
    app.add_typer(more.commands)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option(help="Cores to use; 0 means all. No result depends on it.")]
Out = Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="Folder of a signed bundle.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) that signed the bundle; by default signer.pub beside the bundle."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file for the tokens of numbers; by default CALLSIEVE_KEY, else a new key."),
]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Policy file; the shipped one by default.")]
LayoutName = Annotated[
    str,
    typer.Option("--layout", help="callsieve, asterisk, sichuan, plain, copenhagen, reality, keyed, or a TOML file."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on the first bad row instead of putting it apart.")]


class Engine(StrEnum):
    """What computes the vectors."""

    TABLE = "table"
    SPARK = "spark"


EngineName = Annotated[
    Engine,
    typer.Option("--engine", help="spark: of keyed calls in Parquet, to a new folder, with Spark's own settings."),
]
QuarantineFile = Annotated[
    Path | None,
    typer.Option("--quarantine", help="Where bad rows go, with their reasons (JSON lines)."),
]


@app.command()
def demo(
    out: Out = Path("callsieve-demo"),
    size: Annotated[str, typer.Option(help="Size of the simulated world: tiny, small, town, city.")] = "small",
    seed: Seed = 1,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Simulate a world, train, certify, sign, score the last day, and write report.html."""
    from . import console, present
    from .demo import run_demo

    with console.progress("demo") as tell:
        figures = run_demo(console.new_folder(out), size=size, seed=seed, threads=threads, progress=tell)
    console.emit_json(figures) if json else present.study(figures, out)


@app.command()
def simulate(
    out: Out,
    size: Annotated[str, typer.Option(help="tiny, small, town or city.")] = "small",
    seed: Seed = 1,
    scenario: Annotated[Path | None, typer.Option(help="TOML file that overrides the default scenario.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key file for the tokens of numbers; else a new key is written.")
    ] = None,
    json: Json = False,
) -> None:
    """Simulate calls with a known truth, and write them keyed: calls, truth, numbers, reports, findings."""
    from . import console, present
    from .demo import simulate_to

    with console.progress("simulate") as tell:
        facts = simulate_to(console.new_folder(out), size=size, seed=seed, scenario=scenario, key=key, progress=tell)
    console.emit_json(facts) if json else present.facts("simulated world", facts)


@app.command()
def features(
    calls: Annotated[Path, typer.Option(help="Call records.")],
    out: Annotated[Path, typer.Option(help="Folder for the vectors; one in which this was begun is gone on with.")],
    layout: LayoutName = "callsieve",
    only: Annotated[
        str | None,
        typer.Option("--features", help="Names with commas between, a file with one a line, or lite; all by default."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to plan for, e.g. 4GiB; by default half of the machine's.")
    ] = None,
    key: KeyFile = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Turn call records into feature vectors, one row a call, as of the moment it rings."""
    from . import console, present
    from .score import bytes_in, names_in, write_vectors

    with console.progress("features") as tell:
        if engine is Engine.SPARK:
            from . import on_spark

            facts = on_spark.write_vectors(calls, layout, out, threads=threads, progress=tell)
            console.emit_json(facts) if json else present.facts("features", facts)
            return
        facts = write_vectors(
            calls, layout, out, names=names_in(only), memory=bytes_in(memory), key=key, quarantine=quarantine,
            strict=strict, threads=threads, progress=tell,
        )  # fmt: skip
    console.emit_json(facts) if json else present.facts("features", facts)


@app.command()
def catalogue(json: Json = False) -> None:
    """Print every feature with its meaning; --json adds definitions from which it can be recomputed."""
    from ..features.catalogue import DEFINED, FEATURES, catalogue_hash
    from . import console

    if json:
        console.emit_json({"hash": catalogue_hash(), "features": [one.definition for one in DEFINED.values()]})
        return
    rows = [(name, one.unit, one.en, one.zh) for name, one in DEFINED.items()]
    title = f"{len(FEATURES)} features, and {len(rows) - len(FEATURES)} of reports that a model has only if asked to"
    console.show_table(title, ("name", "unit", "meaning", "含义"), rows)


@app.command()
def train(
    data: Annotated[Path | None, typer.Option(help="Folder with calls, reports and findings (Parquet).")] = None,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")] = Path("callsieve-run"),
    vectors: Annotated[Path | None, typer.Option(help="A ready-made feature table instead of calls.")] = None,
    label: Annotated[str, typer.Option(help="With --vectors: the column of 0 and 1.")] = "label",
    where: Annotated[str | None, typer.Option(help="With --vectors: keep rows, e.g. 'voc_cnt >= 5'.")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="Ed25519 key (PEM); a new one by default.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; by default SQLite in --out.")] = None,
    label_policy: Annotated[Path | None, typer.Option(help="Label policy; the shipped one by default.")] = None,
    gates: Annotated[Path | None, typer.Option(help="What the model must show; the shipped gates by default.")] = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of the audit log; by default audit/ in --out.")] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--features", help="Names with commas between, a file with one a line, or lite; all but reports by default."
        ),
    ] = None,
    parameters: Annotated[
        Path | None, typer.Option(help="Parameters of the fit (TOML), as `callsieve search` writes them.")
    ] = None,
    seed: Seed = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train on keyed calls, or on a ready-made feature table; judge, certify, sign and record."""
    from . import console, present

    if (data is None) == (vectors is None):
        console.fail("train: expected either --data FOLDER or --vectors FILE")
    if vectors is not None:
        from .ready_made import read_table, train_ready_made

        result = train_ready_made(read_table(vectors, label, where), seed=seed, threads=threads)
        console.emit_json(result) if json else present.ready_made(result)
        return
    from .evidence import read_evidence
    from .gates import read_gates
    from .label_policy import read_label_policy
    from .parameters import read_parameters
    from .score import names_in
    from .study import study
    from .train import Settings

    assert data is not None  # noqa: S101 - one of the two is given, as checked above
    with console.progress("train") as tell:
        settings = Settings(
            seed=seed, threads=threads, features=names_in(only), label_policy=read_label_policy(label_policy),
            parameters=read_parameters(parameters),
        )  # fmt: skip
        evidence = read_evidence(data)
        figures = study(
            evidence, settings, console.new_folder(out), source=str(data), signing_key=signing_key,
            tracking_uri=tracking_uri, gates=read_gates(gates), audit=audit, progress=tell,
        )  # fmt: skip
    console.emit_json(figures) if json else present.study(figures, out)


@app.command()
def reports(
    file: Annotated[Path, typer.Argument(help="File of reports: text, plain or gzip, or Parquet.")],
    layout: Annotated[str, typer.Option(help="callsieve, 12321, ftc or ftc-counts.")] = "callsieve",
    published: Annotated[
        str | None, typer.Option(help="Day on which the file came out: nothing in it was known before.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the keyed reports.")] = None,
    key: KeyFile = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Read a file of reports, key its numbers, put bad rows apart, and say how far a list of its numbers reaches."""
    from . import console
    from .ingest import ingest, show

    facts = ingest(file, layout, published=published, key=key, out=out, quarantine=quarantine, strict=strict)
    console.emit_json(facts) if json else show(facts)


@app.command()
def evaluate(
    bundle: Bundle,
    data: Annotated[Path, typer.Option(help="Folder with calls, reports, findings and, where known, truth.")],
    trust: Trust = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of an audit log in which this look is entered.")] = None,
    signing_key: Annotated[
        Path | None, typer.Option(help="Key (PEM) that signs that log; by default signing.key beside the bundle.")
    ] = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Judge a signed bundle on calls that it was not trained on."""
    from . import console, present
    from .assess import assess
    from .gates import shipped_gates
    from .place import log_key
    from .touches import Ledger

    ledger = Ledger(audit, log_key(bundle.parent, signing_key), shipped_gates()) if audit else None
    with console.progress("evaluate") as tell:
        figures = assess(bundle, data, trust=trust, threads=threads, progress=tell, ledger=ledger)
    console.emit_json(figures) if json else present.headline(figures)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of a signed bundle.")],
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public key (PEM) that must have signed it; by default signer.pub beside it."),
    ] = None,
    json: Json = False,
) -> None:
    """Check a bundle as the scorer does before it serves, and say what was checked."""
    from ..serving.verify import verify as check
    from . import console

    facts = check(bundle, key, told=None if json else console.say)
    console.emit_json(facts) if json else console.say(f"{bundle}: model {facts['model']} is fit to serve")


@app.command()
def score(
    bundle: Bundle,
    calls: Annotated[Path, typer.Option(help="Call records.")],
    layout: LayoutName = "callsieve",
    trust: Trust = None,
    policy: PolicyFile = None,
    key: KeyFile = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file for the verdict of each call.")] = None,
    reports: Annotated[
        Path | None, typer.Option(help="Reports (Parquet, as for training), for a model that has features of them.")
    ] = None,
    registers: law_commands.RegisterFolder = None,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    threads: Threads = 0,
    engine: EngineName = Engine.TABLE,
    json: Json = False,
) -> None:
    """Score a file of call records: what would have happened to each call as it rang."""
    from . import console, present
    from .score import score_file

    with console.progress("score") as tell:
        if engine is Engine.SPARK:
            from . import on_spark

            if registers is not None:
                console.fail("score: registers are not looked up on Spark; expected --engine table")
            result = on_spark.score(
                bundle, calls, layout, trust=trust, policy=policy, out=out, threads=threads, progress=tell
            )
            console.emit_json(result) if json else present.scored(result)
            return
        result = score_file(
            bundle, calls, layout, trust=trust, policy=policy, key=key, out=out, reports=reports, registers=registers,
            quarantine=quarantine, strict=strict, threads=threads, progress=tell,
        )  # fmt: skip
    console.emit_json(result) if json else present.scored(result)


@app.command()
def realism(
    data: Annotated[Path, typer.Option(help="Folder with the real data sets.")] = Path("../shared/data"),
    out: Annotated[Path | None, typer.Option("--out", help="Folder for realism.json and realism.svg.")] = None,
    size: Annotated[str, typer.Option(help="tiny, small, town, city or comparison.")] = "comparison",
    seed: Seed = 1,
    scenario: Annotated[Path | None, typer.Option(help="TOML file that overrides the default scenario.")] = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Compare the simulated world with real records, statistic by statistic, and by a model trained on it alone."""
    from . import console, likeness

    folder = None if out is None else console.new_folder(out)
    with console.progress("realism") as tell:
        figures = likeness.compare(
            data, size=size, seed=seed, scenario=scenario, threads=threads, out=folder, progress=tell
        )
    console.emit_json(figures) if json else likeness.show(figures)


def main() -> None:
    """Run the command; a fault ends in one line and exit code 1, never in a traceback."""
    from . import console

    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        console.ERR.print("callsieve: interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
