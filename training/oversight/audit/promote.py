"""Promotion and rollback: the alias "champion" moves only by an entry of the audit log, written before it moves."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.progress import Progress, silent, steps
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.signing import SIGNER, key_id, read_public_key
from callsieve.training.data.dataset import read_dataset
from callsieve.training.judging.compare import compare
from callsieve.training.oversight.log import approvals
from callsieve.training.oversight.log.audit_log import MOVES, append, locked, log_id, payloads, read, require
from callsieve.training.oversight.log.gates import Gates, in_words, logged_gates
from callsieve.training.oversight.log.looks import Fold, register_look
from callsieve.training.oversight.log.payload_types import Approval, GateResult, Move, RunPayload, Section, Statement
from callsieve.training.oversight.log.run_paths import RunPaths
from callsieve.training.tracking import mlflow_read, mlflow_write
from callsieve.training.tracking.record import SETTINGS, read_record, settings_of

from .verify import verify


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be promoted.

    Attributes:
        run: payload of the run's entry in the log.
        gates: gates that were logged before the run.
        gate_results: each gate with its value and whether it passed.
        statement: the statement that approvers sign.
    """

    run: RunPayload
    gates: Gates
    gate_results: list[GateResult]
    statement: Statement

    @property
    def failed(self) -> list[str]:
        """The gates that did not pass, as text."""
        return [in_words(gate) for gate in self.gate_results if not gate["passed"]]


def candidate(place: RunPaths, run: str) -> Candidate:
    """Returns a logged run with the results of the gates that were logged before it."""
    matches = [
        (entry, payload) for entry, payload in payloads(place.log, "run") if run in (payload["run"], payload["model"])
    ]
    if not matches:
        raise ValueError(f"run {run}: the audit log has no such run or model")
    entry, payload = matches[-1]
    gates = logged_gates({e.index: p for e, p in payloads(place.log, "gates")}, payload["gates"], entry.index)
    statement = approvals.statement(payload, gates.sha256, len(moves(place.log)))
    return Candidate(payload, gates, gates.results(payload["record"]["metric"]), statement)


def moves(log: Path) -> list[Move]:
    """Returns the payloads of all promotions and rollbacks, in order."""
    return [payload for _, payload in payloads(log, *MOVES)]


def reign(log: Path) -> list[str]:
    """Returns the versions from the first champion to the current one; a rollback removes the last."""
    versions: list[str] = []
    for entry, payload in payloads(log, *MOVES):
        if entry.kind == "promotion":
            versions.append(payload["version"])
        else:
            versions.pop()
    return versions


def approve(place: RunPaths, run: str, key: Ed25519PrivateKey, path: Path) -> dict[str, Any]:
    """Signs an approval of a run into a new file. It is valid for the next promotion of the run or rollback to it.

    Returns: `gates` with their results, the signed `statement`, and the id of the approver's `key`.
    """
    run_candidate = candidate(place, run)
    if not run_candidate.gates.person(key_id(key.public_key())):
        named = ", ".join(run_candidate.gates.approvers) or "nobody"
        raise ValueError(f"approve: the gates of the run do not name key {key_id(key.public_key())}; they name {named}")
    approver = approvals.approve(run_candidate.statement, key, path)
    return {"gates": run_candidate.gate_results, "statement": run_candidate.statement, "key": approver}


def promote(
    place: RunPaths,
    run: str,
    files: Sequence[Path],
    key: Ed25519PrivateKey,
    *,
    data: Path | None,
    threads: int = 0,
    progress: Progress = silent,
) -> Move:
    """Makes a run's model the champion.

    Returns: the logged payload with its `entry`. If this promotion was logged but interrupted before the alias moved,
    it is finished, and the earlier payload is returned.
    """
    with move_lock(place.log):
        kind, logged = finish_move(place)
        if kind == "promotion" and run in (logged["run"], logged["model"]):
            return logged
        inside = steps(progress, {"verify": 1, "compare": 0 if data is None else 3})
        require_sound(place, inside["verify"])
        run_candidate = candidate(place, run)
        if run_candidate.failed:
            raise ValueError(f"promote: {'; '.join(run_candidate.failed)}")
        with tempfile.TemporaryDirectory() as folder:
            challenger = fetch(place, run_candidate.run, Path(folder) / "challenger")
            approved = approved_by(run_candidate, files, {challenger.signed_by, key_id(key.public_key())})
            before = reign(place.log)
            comparison = None
            champion = mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION)
            if champion and not before:
                raise ValueError(
                    f"promote: version {champion} is the champion by another audit log: train with --audit of that log"
                )
            if before:
                comparison = against_champion(
                    place,
                    run_candidate,
                    challenger,
                    before[-1],
                    Path(folder),
                    key,
                    data=data,
                    threads=threads,
                    progress=inside["compare"],
                )
        payload: Move = {
            "run": run_candidate.run["run"],
            "version": run_candidate.run["version"],
            "model": run_candidate.run["model"],
            "from": before[-1] if before else None,
            "gates": run_candidate.gate_results,
            "gates_sha256": run_candidate.gates.sha256,
            "comparison": comparison,
            "approvals": approved,
        }
        entry = append(place.log, "promotion", payload, key)
        mlflow_write.move_champion(place.uri, run_candidate.run["version"])
        return {**payload, "entry": entry}


def approved_by(run_candidate: Candidate, files: Sequence[Path], signers: Collection[str]) -> list[Approval]:
    """Returns the approvals of a move, which the gates of the run require."""
    gates = run_candidate.gates
    gates.require_owned(signers)
    return approvals.check(files, run_candidate.statement, gates, gates.approvals_needed, signers)


def against_champion(
    place: RunPaths,
    run_candidate: Candidate,
    challenger: Bundle,
    version: str,
    folder: Path,
    key: Ed25519PrivateKey,
    *,
    data: Path | None,
    threads: int,
    progress: Progress,
) -> Section:
    """Compares challenger and champion on the test fold; the log records the look first."""
    if data is None:
        raise ValueError("promote: there is a champion; expected --data FOLDER with the calls of the run")
    progress("read calls", 0.0)
    dataset = read_dataset(data, "evaluation")
    expected = run_candidate.run["record"]["tag"]["data_sha256"]
    if dataset.fingerprint != expected:
        raise ValueError(f"{data}: expected the calls of the run, {expected[:16]}, got {dataset.fingerprint[:16]}")
    champion = fetch(place, _run_of_version(place, version), folder / "champion")
    settings = settings_of(read_record(folder / "challenger", SETTINGS), threads)
    fold = str(run_candidate.run["gates"]["fold"])
    append(place.log, "touch", {"fold": fold, "gates": run_candidate.gates.sha256}, key)
    register_look(data, Fold.parse(fold), log_id(place.log), "promote")
    progress("compare", 0.3)
    result = compare(challenger, champion, dataset, settings, run_candidate.gates).to_json()
    progress("compare", 1.0)
    if not result["better"]:
        raise ValueError(
            f"promote: the challenger does not beat the champion: catch rate difference {result['difference']:+.2%}, "
            f"{result['confidence']:.0%} interval {result['low']:+.2%} to {result['high']:+.2%}, must lie above "
            f"{result['margin']:.2%} over at least {result['least_callers']} callers, got {result['callers']}"
        )
    return result


def rollback(
    place: RunPaths, why: str, files: Sequence[Path], key: Ed25519PrivateKey, progress: Progress = silent
) -> Move:
    """Makes the previous champion the champion again.

    Returns: the logged payload with its `entry`. If a rollback was logged but interrupted before the alias moved, it is
    finished, and the earlier payload is returned.
    """
    with move_lock(place.log):
        kind, logged = finish_move(place)
        if kind == "rollback":  # the same request again: finish its move, but do not move a second step back
            return logged
        before = reign(place.log)
        if len(before) < 2:
            raise ValueError("rollback: expected a champion before the current one, got none")
        target = _run_of_version(place, before[-2])
        places = (f"run {target['run']},", f"model version {before[-2]} ")
        for fault in verify(place.log, uri=place.uri, progress=progress).faults:
            if f"{fault.where} ".startswith(places) or fault.where.startswith("entry "):
                raise ValueError(f"rollback: {fault}")
        signers = {target.get("signer", ""), key_id(key.public_key())}
        payload: Move = {
            "run": target["run"],
            "version": before[-2],
            "model": target["model"],
            "from": before[-1],
            "why": why,
            "approvals": approved_by(candidate(place, target["run"]), files, signers),
        }
        entry = append(place.log, "rollback", payload, key)
        mlflow_write.move_champion(place.uri, before[-2])
        return {**payload, "entry": entry}


def finish_move(place: RunPaths) -> tuple[str, Move]:
    """Finishes a move that was logged but interrupted before the alias moved.

    An alias that is not where the move started was changed by other means; `verify` reports it as a fault.

    Returns: the kind and payload of the move; "" and an empty dictionary if there is none.
    """
    if verify(place.log).faults:  # a log with faults moves nothing
        return "", {}
    logged = [entry for entry in read(place.log) if entry.kind in MOVES]
    readable = list(payloads(place.log, *MOVES))
    if not readable or readable[-1][0] != logged[-1]:  # an erased entry has no destination
        return "", {}
    entry, payload = readable[-1]
    alias = mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION)
    if alias == payload["version"] or alias != payload["from"]:
        return "", {}
    mlflow_write.move_champion(place.uri, payload["version"])
    return entry.kind, {**payload, "entry": entry.index}


@contextmanager
def move_lock(log: Path) -> Iterator[None]:
    """Locks the log for one move.

    Approval and comparison refer to the current champion, and alias and log must move in the same order.
    """
    require(log)
    with locked(log, "moving"):
        yield


def require_sound(place: RunPaths, progress: Progress) -> None:
    """Raises a ValueError that names the first fault of the log or the store, if there is one."""
    faults = verify(place.log, uri=place.uri, progress=progress).faults
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ValueError(f"{faults[0]}{more}; see callsieve audit verify")


def fetch(place: RunPaths, run: RunPayload, folder: Path) -> Bundle:
    """Downloads a run's artifacts into a folder and returns the bundle of its model."""
    folder.mkdir()
    root = mlflow_read.download(place.uri, run["run"], folder)
    return load(root / "bundle", [read_public_key(root / "record" / SIGNER)])


def _run_of_version(place: RunPaths, version: str) -> RunPayload:
    for _, payload in payloads(place.log, "run"):
        if payload["version"] == version:
            return payload
    raise ValueError(f"model version {version}: the log has no run of this version")
