"""The commands of a model after its training: export, monitor, approve, promote, rollback, replay."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import (
    Bundle,
    Json,
    LogKeyOption,
    LookOptions,
    RunOptions,
    SigningKey,
    Threads,
    TrackingUri,
    Trust,
    Why,
)

if TYPE_CHECKING:
    from callsieve.training.oversight.log.run_paths import RunPaths

Approvals = Annotated[list[Path], typer.Option(help="File of an approval; repeat for several.")]
Run = Annotated[str, typer.Argument(help="Id of the run in MLflow, or of its model.")]


def export(
    bundle: Bundle,
    mlflow: Annotated[Path | None, typer.Option(help="New folder, for `mlflow models serve` and Spark.")] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="New file, for a handset; gives scores, without content or reasons.")
    ] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Export a verified bundle as an MLflow model, or as ONNX; prints the largest differences of the ONNX scores.

    Next: callsieve model verify.

    Example: callsieve model export --bundle run/bundle --onnx model.onnx
    """
    from callsieve.serving.bundle.signing import signer_path

    from .tables import runs

    if (mlflow is None) == (onnx is None):
        console.fail("model export: expected either --mlflow FOLDER or --onnx FILE", code=2)
    signer = signer_path(bundle, trust)
    if mlflow is not None:
        _to_mlflow(bundle, mlflow, signer, json=json)
    elif onnx is not None:
        from callsieve.training.tracking.onnx_export import export as write

        facts = write(bundle, onnx, signer=signer)
        console.emit_json(facts) if json else runs.onnx(facts, onnx)


def _to_mlflow(bundle: Path, folder: Path, signer: Path, *, json: bool) -> None:
    from callsieve.training.tracking.mlflow_model import TRUST, save_model

    save_model(bundle, folder, signer=signer)
    if json:
        console.emit_json({"mlflow": str(folder)})
    else:
        console.say(f"{folder}: written")
        console.say(f"next     {TRUST}={signer} mlflow models serve -m {folder} --env-manager local")


def monitor(
    bundle: Bundle,
    data: Annotated[
        Path, typer.Option("--data", help="Folder with calls, complaints and findings of the day and 28 days before.")
    ],
    look: LookOptions,
    day: Annotated[str | None, typer.Option(help="Local date, such as 2026-03-01; by default the last day.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Statistics of the training; by default record/reference.json beside the bundle."),
    ] = None,
    trust: Trust = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Compare a day of calls with the training; exit code 1 on an alarm.

    An alarm is a statistic that drifted, or more flagged calls of innocent callers than the certificate allows.

    Next: callsieve train.

    Example: callsieve model monitor --bundle run/bundle --data today
    """
    from callsieve.training.drift.monitor import date_of
    from callsieve.training.drift.monitor import monitor as compare
    from callsieve.training.oversight.log.looks import ledger_beside
    from callsieve.training.tracking.activity import record_activity

    from .tables import checks

    began = time.time()
    with console.progress("model monitor") as progress:
        result = compare(
            bundle,
            data,
            date_of(day),
            reference=reference,
            trust=trust,
            ledger=ledger_beside(bundle, look.audit, look.signing_key),
            threads=threads,
            progress=progress,
        )
    fault = record_activity("model monitor", result, began=began, bundle=bundle, data=data, day=day or "last")
    console.emit_json(result) if json else checks.monitored(result)
    if fault:
        console.note(fault)
    if result["alarm"]:
        sys.exit(1)


def approve(
    run: Run,
    signing_key: SigningKey,
    out: Annotated[Path, typer.Option("--out", help="New file for the approval.")],
    folder: RunOptions,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Sign an approval of a run's model, and print the result of each gate; the gates file names the approvers' keys.

    Next: callsieve model promote.

    Example: callsieve model approve a1b2c3 --signing-key risk.key --out risk.json
    """
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.training.oversight.audit import promote as steps
    from callsieve.training.oversight.log.gates import in_words

    facts = steps.approve(_place(folder, tracking_uri), run, read_signing_key(signing_key), out)
    if json:
        console.emit_json(facts)
        return
    for gate in facts["gates"]:
        console.say(f"{'passed' if gate['passed'] else 'FAILED'}  {in_words(gate)}")
    console.say(f"{out}: model {facts['statement']['model']} approved by key {facts['key']}")


def approver_key(
    key: Annotated[Path, typer.Argument(help="New file for the private key (PEM).")], json: Json = False
) -> None:
    """Make a signing key of a person or a log, and print its line for a gates file.

    Next: callsieve model sign-gates.

    Example: callsieve model approver-key risk.key
    """
    from callsieve.serving.bundle.signing import generate_signing_key, read_public_key

    public = key.with_suffix(".pub")
    name = generate_signing_key(key, public)
    line = read_public_key(public).public_bytes_raw().hex()
    console.emit_json({"key": name, "public": line}) if json else console.say(f'"{key.stem}" = "{line}"  # key {name}')


def sign_gates(
    gates: Annotated[Path, typer.Argument(help="Gates file that names its owner.")],
    signing_key: SigningKey,
    json: Json = False,
) -> None:
    """Sign a gates file as its owner, who must not be the trainer; without this signature no model is promoted.

    Next: callsieve train --gates.

    Example: callsieve model sign-gates gates.toml --signing-key owner.key
    """
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.training.oversight.log.gates import sign_gates as sign

    signature = sign(gates, read_signing_key(signing_key))
    console.emit_json({"signature": str(signature)}) if json else console.say(f"{signature}: written")


def promote(
    run: Run,
    approval: Approvals,
    folder: RunOptions,
    log_signing_key: LogKeyOption,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of the run's calls, on which the model must beat the champion."),
    ] = None,
    tracking_uri: TrackingUri = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Make a run's model the champion (the model to serve), if gates and approvals allow it and it beats the last one.

    Next: callsieve serve.

    Example: callsieve model promote a1b2c3 --approval risk.json --approval legal.json
    """
    from callsieve.training.oversight.audit import promote as steps
    from callsieve.training.oversight.log.key_folder import log_signing_key as key_of

    place = _place(folder, tracking_uri)
    key = key_of(folder.path, place.log, log_signing_key.signing_key)
    with console.progress("model promote") as progress:
        facts = steps.promote(place, run, approval, key, data=data, threads=threads, progress=progress)
    console.emit_json(facts) if json else console.say(f"model {facts['model']}, version {facts['version']}: champion")


def rollback(
    why: Why,
    approval: Approvals,
    folder: RunOptions,
    log_signing_key: LogKeyOption,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Make the previous champion the champion again; its approvals come from `model approve` of its run.

    Next: callsieve audit verify.

    Example: callsieve model rollback --why 'complaints of a hospital' --approval risk.json --approval legal.json
    """
    from callsieve.training.oversight.audit import promote as steps
    from callsieve.training.oversight.log.key_folder import log_signing_key as key_of

    place = _place(folder, tracking_uri)
    key = key_of(folder.path, place.log, log_signing_key.signing_key)
    with console.progress("model rollback") as progress:
        facts = steps.rollback(place, why, approval, key, progress)
    console.emit_json(facts) if json else console.say(f"model {facts['model']}, version {facts['version']}: champion")


def replay(
    run: Annotated[str, typer.Argument(help="Folder of a run, or with --tracking-uri its id in MLflow.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder of the run's calls; repeat for several; by default as recorded."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="MLflow store that holds the run.")] = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Folder of the audit log; by default audit/ in the run's folder.")
    ] = None,
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Train a run again from its record and compare byte for byte; exit code 1 if something differs.

    Next: callsieve audit verify.

    Example: callsieve model replay run --data world
    """
    from callsieve.training.tracking.reproduce import reproduce

    with console.progress("model replay") as progress:
        result = reproduce(run, data or (), uri=tracking_uri, audit=audit, threads=threads, progress=progress)
    if json:
        console.emit_json(result.to_json())
    else:
        for line in console.equality(result.equal, result.differences):
            console.say(line)
        more = f"; {len(result.differences)} other differences" if result.same_bundle and result.differences else ""
        console.say(f"model {result.model}: {'' if result.same_bundle else 'not '}reproduced byte for byte{more}")
    if result.differences:
        sys.exit(1)


def _place(folder: RunOptions, tracking_uri: str | None) -> RunPaths:
    from callsieve.training.oversight.log.run_paths import run_paths

    return run_paths(folder.path, folder.audit, tracking_uri)
