"""The `callsieve` command: thin subcommands. Every step lives in its own module and is imported when it is needed.

Exit codes: 0 success, 1 a fault told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

try:
    import typer

    from callsieve.serving.cli import serve
    from callsieve.serving.cli.options import Bundle, FeatureNames, Json, LooksIn, LooksKey, Out, Seed, Threads, Trust

    from . import audit, calls, cases, evidence, govern, incident, keys, lists, model, privacy, rules, study
except ImportError:  # the base install embeds the scorer; the command comes with training
    sys.exit("callsieve: the command needs the training packages: pip install 'callsieve[train]'")

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Nuisance-call classifier that its users can retrain, embed and hold to account.",
    epilog="Example: callsieve demo --size tiny --seed 11. Exit codes: 0 done; 1 a fault, or a check says no; "
    "2 wrong usage; 130 interrupted. Options may also stand in callsieve.toml or in CALLSIEVE_COMMAND_OPTION.",
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"callsieve {version('callsieve')}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    del version  # its callback has done it


for more in (
    calls, serve, audit, cases, privacy, keys, model,
    rules, govern, lists, incident, evidence,
    study,
):  # fmt: skip
    app.add_typer(more.commands)


@app.command()
def demo(
    out: Out = Path("callsieve-demo"),
    size: Annotated[str, typer.Option(help="Size of the simulated world: tiny, small, town, city.")] = "small",
    seed: Seed = 1,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Simulate a world, train, certify, sign, score the last day, and write report.html."""
    from callsieve.serving.cli import console
    from callsieve.training.studies.demo import run_demo

    from .tables import runs

    with console.progress("demo") as tell:
        evidence = run_demo(console.new_folder(out), size=size, seed=seed, threads=threads, progress=tell)
    console.emit_json(evidence) if json else runs.study(evidence, out)


OF_CALLS = ("out", "signing_key", "tracking_uri", "label_policy", "gates", "audit", "only", "parameters")
OF_VECTORS = ("label", "where")


@app.command()
def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Folder with calls, complaints and findings (Parquet).")] = None,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")] = Path("callsieve-run"),
    vectors: Annotated[Path | None, typer.Option(help="A ready-made feature table instead of calls.")] = None,
    label: Annotated[str, typer.Option(help="With --vectors: the column of 0 and 1.")] = "label",
    where: Annotated[str | None, typer.Option(help="With --vectors: keep rows, e.g. 'voc_cnt >= 5'.")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="Ed25519 key (PEM); a new one by default.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; by default SQLite in --out.")] = None,
    label_policy: Annotated[Path | None, typer.Option(help="Label policy; the shipped one by default.")] = None,
    gates: Annotated[Path | None, typer.Option(help="What the model must show; the shipped gates by default.")] = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of the audit log; by default audit/ in --out.")] = None,
    only: FeatureNames = None,
    parameters: Annotated[
        Path | None, typer.Option(help="Parameters of the fit (TOML), as `callsieve search` writes them.")
    ] = None,
    seed: Seed = 0,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train on keyed calls, or on a ready-made feature table; judge, certify, sign and record."""
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused

    from .tables import runs

    if data is None and vectors is not None:
        refuse_unused(context, OF_CALLS, "--vectors")
        _train_ready_made(vectors, label, where, seed, threads, json)
        return
    if data is None or vectors is not None:
        console.fail("train: expected either --data FOLDER or --vectors FILE", code=2)
    refuse_unused(context, OF_VECTORS, "--data")
    from callsieve.serving.batch.vector_files import feature_names
    from callsieve.training.data.dataset import read_dataset
    from callsieve.training.data.label_policy import read_label_policy
    from callsieve.training.log.gates import read_gates
    from callsieve.training.model.parameters import read_parameters
    from callsieve.training.model.train import Settings
    from callsieve.training.run import study

    with console.progress("train") as tell:
        settings = Settings(
            seed=seed, threads=threads, features=feature_names(only), label_policy=read_label_policy(label_policy),
            parameters=read_parameters(parameters),
        )  # fmt: skip
        dataset = read_dataset(data)
        evidence = study(
            dataset, settings, console.new_folder(out), source=str(data), signing_key=signing_key,
            tracking_uri=tracking_uri, gates=read_gates(gates), audit=audit, made_by="callsieve train", progress=tell,
        )  # fmt: skip
    console.emit_json(evidence) if json else runs.study(evidence, out)


def _train_ready_made(vectors: Path, label: str, where: str | None, seed: int, threads: int, json: bool) -> None:
    from callsieve.serving.cli import console
    from callsieve.training.model.feature_table import read_table, train_ready_made

    from .tables import runs

    result = train_ready_made(read_table(vectors, label, where, purpose="training"), seed=seed, threads=threads)
    console.emit_json(result) if json else runs.ready_made(result)


@app.command()
def evaluate(
    bundle: Bundle,
    data: Annotated[Path, typer.Option(help="Folder with calls, complaints, findings and, where known, truth.")],
    trust: Trust = None,
    audit: LooksIn = None,
    signing_key: LooksKey = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Judge a signed bundle on calls that it was not trained on; the look is counted in the audit log."""
    from callsieve.serving.cli import console
    from callsieve.training.judging.assess import assess
    from callsieve.training.log.looks import ledger_beside

    from .tables import runs

    ledger = ledger_beside(bundle, audit, signing_key)
    with console.progress("evaluate") as tell:
        evidence = assess(bundle, data, trust=trust, threads=threads, progress=tell, ledger=ledger)
    console.emit_json(evidence) if json else runs.evaluation(evidence)


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
    from callsieve.serving.bundle.verify import verify as check
    from callsieve.serving.cli import console

    facts = check(bundle, key, told=None if json else console.say)
    console.emit_json(facts) if json else console.say(f"{bundle}: model {facts['model']} is fit to serve")


def main() -> None:
    """Run the command; a fault ends in one line and exit code 1, never in a traceback."""
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import configuration, whole

    command = whole(app)
    try:
        command(default_map=configuration(command))
    except (ValueError, OSError, ImportError) as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except SystemExit as done:  # Typer makes one of Ctrl-C, and says nothing
        if done.code == INTERRUPTED:
            _interrupted()
        raise


def _interrupted() -> int:
    from callsieve.serving.cli import console

    console.ERR.print("callsieve: interrupted")
    return INTERRUPTED
