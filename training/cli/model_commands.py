"""The commands of a model after its training: verify, export, monitor, approve, promote, rollback, replay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from callsieve.features.files.dates import parse_day
from callsieve.serving.bundle.signing import generate_signing_key, read_public_key, read_signing_key, signer_path
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Bundle, ShippedBundle, Trust, Why
from callsieve.training.oversight.log import gates as log_gates
from callsieve.training.oversight.log.payload_types import Move
from callsieve.training.oversight.log.run_paths import run_paths

from .log_options import LookOptions, RunOptions, SignedRunOptions

Approvals = Annotated[list[Path], Option(help="File of an approval; repeat for several.")]
Run = Annotated[str, Argument(help="Id of the run in MLflow, or of its model.")]


def verify(bundle: Bundle, trust: Trust = None, json: bool = False) -> Result:
    """Verify a bundle as the scorer does before it serves, compare its trees with LightGBM's, and print each check.

    Next: callsieve serve.

    Example: callsieve model verify --bundle run/bundle --trust signer.pub
    """
    from callsieve.serving.bundle.verify import verify as verify_bundle

    say = (lambda _line: None) if json else console.say
    loaded, facts = verify_bundle(bundle, trust, on_check=say)
    if find_spec("lightgbm"):
        from callsieve.training.model.trees import compare_with_texts

        last = compare_with_texts(bundle, loaded)
    else:
        last = "texts: not compared with the trees, which needs LightGBM: pip install 'callsieve[train]'"
    facts["checks"].append(last)
    say(last)
    return Result(facts, f"{bundle}: model {facts['model']} passed all checks")


def export(
    bundle: Bundle,
    out: Annotated[
        Path,
        Option(
            help="New file NAME.onnx, for a handset: scores without content or reasons; or new folder, for `mlflow "
            "models serve` and Spark."
        ),
    ],
    trust: Trust = None,
) -> Result:
    """Export a verified bundle as an MLflow model, or as ONNX; prints the largest differences of the ONNX scores.

    Next: callsieve model verify.

    Example: callsieve model export --bundle run/bundle --out model.onnx
    """
    signer = signer_path(bundle, trust)
    if out.suffix == ".onnx":
        from callsieve.training.tracking.onnx_export import export as write

        from . import terminal_tables

        facts = write(bundle, out, signer=signer)
        return Result(facts, lambda: terminal_tables.onnx(facts, out))
    from callsieve.training.tracking.mlflow_model import TRUST, save_model

    save_model(bundle, out, signer=signer)
    command = f"{TRUST}={signer} mlflow models serve -m {out} --env-manager local"
    return Result({"mlflow": str(out)}, [f"{out}: written", f"next     {command}"])


def monitor(
    bundle: Bundle,
    data: Annotated[
        Path, Option("--data", help="Folder with calls, complaints and findings of the day and 28 days before.")
    ],
    look: LookOptions,
    day: Annotated[str | None, Option(help="Local date, such as 2026-03-01; by default the last day.")] = None,
    trust: Trust = None,
    threads: int = 0,
) -> Result:
    """Compare a day of calls with the training; exit code 1 on an alarm.

    An alarm is a statistic that drifted, or more flagged calls of innocent callers than the certificate allows.

    Next: callsieve train.

    Example: callsieve model monitor --bundle run/bundle --data today
    """
    from callsieve.training.drift import monitor as drift

    from . import terminal_tables

    with console.progress("model monitor") as progress:
        result = drift.monitor(
            bundle,
            data,
            None if day is None else parse_day(day, "--day"),
            trust=trust,
            ledger=look.ledger(bundle),
            threads=threads,
            progress=progress,
        )
    return Result(result, lambda: terminal_tables.monitored(result), failed=result["alarm"])


def approve(
    run: Run,
    signing_key: Path,
    out: Annotated[Path, Option("--out", help="New file for the approval.")],
    folder: RunOptions,
    tracking_uri: str | None = None,
) -> Result:
    """Sign an approval of a run's model, and print the result of each gate; the gates file names the approvers' keys.

    Next: callsieve model promote.

    Example: callsieve model approve a1b2c3 --signing-key risk.key --out risk.json
    """
    from callsieve.training.oversight.audit import promote as steps

    place = run_paths(folder.path, folder.audit_log, tracking_uri)
    facts = steps.approve(place, run, read_signing_key(signing_key), out)
    gates = [f"{'passed' if gate['passed'] else 'FAILED'}  {log_gates.in_words(gate)}" for gate in facts["gates"]]
    return Result(facts, [*gates, f"{out}: model {facts['statement']['model']} approved by key {facts['key']}"])


def approver_key(key: Annotated[Path, Argument(help="New file for the private key (PEM).")]) -> Result:
    """Make a signing key of a person or a log, and print its line for a gates file.

    Next: callsieve model sign-gates.

    Example: callsieve model approver-key risk.key
    """
    public = key.with_suffix(".pub")
    name = generate_signing_key(key, public)
    line = read_public_key(public).public_bytes_raw().hex()
    return Result({"key": name, "public": line}, f'"{key.stem}" = "{line}"  # key {name}')


def sign_gates(
    file: Annotated[Path, Argument(metavar="GATES", help="Gates file that names its owner.")], signing_key: Path
) -> Result:
    """Sign a gates file as its owner, who must not be the trainer; without this signature no model is promoted.

    Next: callsieve train --gates.

    Example: callsieve model sign-gates gates.toml --signing-key owner.key
    """
    signature = log_gates.sign_gates(file, read_signing_key(signing_key))
    return Result({"signature": str(signature)}, f"{signature}: written")


def promote(
    run: Run,
    approval: Approvals,
    folder: SignedRunOptions,
    data: Annotated[
        Path | None, Option("--data", help="Folder of the run's calls, on which the model must beat the champion.")
    ] = None,
    tracking_uri: str | None = None,
    threads: int = 0,
) -> Result:
    """Make a run's model the champion (the model to serve), if gates and approvals allow it and it beats the last one.

    Next: callsieve serve.

    Example: callsieve model promote a1b2c3 --approval risk.json --approval legal.json
    """
    from callsieve.training.oversight.audit import promote as steps

    place = run_paths(folder.path, folder.audit_log, tracking_uri)
    with console.progress("model promote") as progress:
        facts = steps.promote(place, run, approval, folder.key, data=data, threads=threads, progress=progress)
    return _champion(facts)


def rollback(why: Why, approval: Approvals, folder: SignedRunOptions, tracking_uri: str | None = None) -> Result:
    """Make the previous champion the champion again; its approvals come from `model approve` of its run.

    Next: callsieve audit verify.

    Example: callsieve model rollback --why 'complaints of a hospital' --approval risk.json --approval legal.json
    """
    from callsieve.training.oversight.audit import promote as steps

    place = run_paths(folder.path, folder.audit_log, tracking_uri)
    with console.progress("model rollback") as progress:
        facts = steps.rollback(place, why, approval, folder.key, progress)
    return _champion(facts)


def _champion(facts: Move) -> Result:
    return Result(facts, f"model {facts['model']}, version {facts['version']}: champion")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptedFrom:
    """The base and the answers of an adaptation."""

    bundle: ShippedBundle = None
    trust: Trust = None
    answers: Annotated[
        list[Path] | None,
        Option("--answers", help="Filled-in sheet of the run; repeat in its order; by default as recorded."),
    ] = None


def replay(
    run: Annotated[str, Argument(help="Folder of a run, or with --tracking-uri its id in MLflow.")],
    data: Annotated[
        list[Path] | None,
        Option("--data", help="Folder of the run's calls; repeat for several; by default as recorded."),
    ] = None,
    tracking_uri: str | None = None,
    audit_log: Path | None = None,
    *,
    adapted: AdaptedFrom,
    threads: int = 0,
) -> Result:
    """Train or adapt a run again from its record and compare byte for byte; exit code 1 if something differs.

    Next: callsieve audit verify.

    Example: callsieve model replay run --data world
    """
    from callsieve.training.tracking.reproduce import BaseAndAnswers, reproduce

    trusted = None if adapted.trust is None else [read_public_key(adapted.trust)]
    places = BaseAndAnswers(adapted.bundle, trusted, adapted.answers or ())
    with console.progress("model replay") as progress:
        result = reproduce(
            run, data or (), uri=tracking_uri, audit=audit_log, adapted=places, threads=threads, progress=progress
        )
    more = f"; {len(result.differences)} other differences" if result.same_bundle and result.differences else ""
    summary = f"model {result.model}: {'' if result.same_bundle else 'not '}reproduced byte for byte{more}"
    lines = [*console.equality(result.equal, result.differences), summary]
    return Result(asdict(result), lines, failed=bool(result.differences))
