"""Promotion and rollback: the alias "champion" moves only by an entry of the audit log, written before it moves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.progress import silent, steps
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.signing import SIGNER, read_public_key
from callsieve.training.data.dataset import read_dataset
from callsieve.training.judging.compare import compare
from callsieve.training.log import approvals
from callsieve.training.log.audit_log import append, locked, payloads, read, read_payload, require
from callsieve.training.log.gates import Gates, parse_gates
from callsieve.training.log.run_paths import RunPaths
from callsieve.training.tracking import mlflow_read, mlflow_write
from callsieve.training.tracking.record import SETTINGS, read_record, settings_of

from .mlflow_check import MOVES
from .verify import verify

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be promoted: what the log says of it, its gates, and how they went."""

    run: Mapping[str, Any]
    gates: Gates
    told: list[dict[str, Any]]
    statement: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """The gates that did not pass, in words."""
        return [in_words(gate) for gate in self.told if not gate["passed"]]


def candidate(place: RunPaths, run: str) -> Candidate:
    """A run as the log knows it, judged by the gates that were logged before it.

    Raises:
        ValueError: if the log does not know the run, or its gates were not logged before it.
    """
    found = [(entry, told) for entry, told in payloads(place.log, "run") if run in (told["run"], told["model"])]
    if not found:
        raise ValueError(f"run {run}: the audit log tells of no such run or model")
    entry, told = found[-1]
    gates = logged_gates(place.log, told["gates"], before=entry.index)
    said = approvals.statement(told, gates.sha256, len(moves(place.log)))
    return Candidate(told, gates, gates.results(told["record"]["metric"]), said)


def logged_gates(log: Path, named: Mapping[str, Any], before: int) -> Gates:
    """The gates of a run, from the log itself.

    Raises:
        ValueError: unless they stand there, before the run, with the hash that the run names.
    """
    entries = {entry.index: entry for entry in read(log)}
    entry = entries.get(named["entry"])
    told = read_payload(log, entry) if entry is not None and entry.kind == "gates" else None
    if told is None or named["entry"] >= before:
        raise ValueError(f"gates: expected entry {named['entry']} of the log to hold them, before the run's own entry")
    gates = parse_gates(told["text"].encode(), "gates")
    if gates.sha256 != named["sha256"]:
        raise ValueError(f"gates: expected SHA-256 {named['sha256']}, got {gates.sha256}")
    return gates


def moves(log: Path) -> list[dict[str, Any]]:
    """Promotions and rollbacks so far, in order."""
    return [told for _, told in payloads(log, *MOVES)]


def reign(log: Path) -> list[str]:
    """Versions from the first champion to the present one; a rollback takes the last away."""
    versions: list[str] = []
    for entry, told in payloads(log, *MOVES):
        if entry.kind == "promotion":
            versions.append(told["version"])
        else:
            versions.pop()
    return versions


def approve(place: RunPaths, run: str, key: Ed25519PrivateKey, path: Path) -> dict[str, Any]:
    """Sign an approval of a run into a new file.

    Returns: the gates with the values they met, what is approved, and the approver's key.
    """
    found = candidate(place, run)
    name = approvals.approve(found.statement, key, path)
    return {"gates": found.told, "statement": found.statement, "key": name}


def promote(
    place: RunPaths,
    run: str,
    files: Sequence[Path],
    key: Ed25519PrivateKey,
    *,
    data: Path | None,
    threads: int = 0,
    tell: Progress = silent,
) -> dict[str, Any]:
    """Make a run's model the champion.

    Args:
        files: approvals.
        key: signs the log.
        data: folder of the calls on which challenger and champion are compared; needed once there is a champion.
    Returns: what was logged; if this very promotion was logged and cut off before the alias moved, what was then.
    Raises:
        ValueError: in one line, if the record was bent, a gate fails, an approval is missing, or the challenger does
            not beat the champion. Nothing moves then.
    """
    with one_move_at_a_time(place.log):
        kind, done = finish_move(place)
        if kind == "promotion" and run in (done["run"], done["model"]):
            return done
        inside = steps(tell, {"verify": 1, "compare": 0 if data is None else 3})
        require_sound(place, inside["verify"])
        found = candidate(place, run)
        if found.failed:
            raise ValueError(f"promote: {'; '.join(found.failed)}")
        with tempfile.TemporaryDirectory() as folder:
            challenger = fetch(place, found.run, Path(folder) / "challenger")
            said = approvals.check(
                files, found.statement, found.gates.approvers, found.gates.approvals_needed, challenger.signed_by
            )
            before = reign(place.log)
            compared = None
            if before:
                compared = against_champion(
                    place, found, challenger, before[-1], Path(folder), key, data, threads, inside["compare"]
                )
        payload = {
            "run": found.run["run"],
            "version": found.run["version"],
            "model": found.run["model"],
            "from": before[-1] if before else None,
            "gates": found.told,
            "gates_sha256": found.gates.sha256,
            "comparison": compared,
            "approvals": said,
        }
        entry = append(place.log, "promotion", payload, key)
        mlflow_write.move_champion(place.uri, found.run["version"])
        return payload | {"entry": entry}


def against_champion(
    place: RunPaths,
    found: Candidate,
    challenger: Bundle,
    version: str,
    folder: Path,
    key: Ed25519PrivateKey,
    data: Path | None,
    threads: int,
    tell: Progress,
) -> dict[str, Any]:
    """The comparison; it looks at the test fold, and the log says so.

    Raises:
        ValueError: if the calls are not those of the run, or the challenger is not better.
    """
    if data is None:
        raise ValueError("promote: there is a champion; expected --data FOLDER with the calls of the run")
    tell("read calls", 0.0)
    dataset = read_dataset(data, "evaluation")
    logged = found.run["record"]["tag"]["data_sha256"]
    if dataset.fingerprint != logged:
        raise ValueError(f"{data}: expected the calls of the run, {logged[:16]}, got {dataset.fingerprint[:16]}")
    champion = fetch(place, _run_of_version(place, version), folder / "champion")
    settings = settings_of(read_record(folder / "challenger", SETTINGS), threads)
    append(place.log, "touch", {"fold": found.run["gates"]["fold"], "gates": found.gates.sha256}, key)
    tell("compare", 0.3)
    told = compare(challenger, champion, dataset, settings, found.gates).to_json()
    tell("compare", 1.0)
    if not told["better"]:
        raise ValueError(
            f"promote: the challenger does not beat the champion: difference of catch rates {told['difference']:+.2%}, "
            f"{told['confidence']:.0%} interval {told['low']:+.2%} to {told['high']:+.2%}, must lie above "
            f"{told['margin']:.2%} over at least {told['least_callers']} callers, of {told['callers']}"
        )
    return told


def rollback(place: RunPaths, why: str, key: Ed25519PrivateKey, tell: Progress = silent) -> dict[str, Any]:
    """Make the champion before the present one the champion again: it was approved once.

    Returns: what was logged; if a rollback was logged and cut off before the alias moved, what was then.
    Raises:
        ValueError: if there is none, or its record was bent.
    """
    with one_move_at_a_time(place.log):
        kind, done = finish_move(place)
        if kind == "rollback":  # it was asked for once: nobody asked for a second step back
            return done
        before = reign(place.log)
        if len(before) < 2:
            raise ValueError("rollback: expected a champion before the present one, there is none")
        target = _run_of_version(place, before[-2])
        words = (f"run {target['run']},", f"model version {before[-2]} ")
        for fault in verify(place.log, uri=place.uri, tell=tell).faults:
            if f"{fault.where} ".startswith(words) or fault.where.startswith("entry "):
                raise ValueError(f"rollback: {fault}")
        payload = {
            "run": target["run"],
            "version": before[-2],
            "model": target["model"],
            "from": before[-1],
            "why": why,
        }
        entry = append(place.log, "rollback", payload, key)
        mlflow_write.move_champion(place.uri, before[-2])
        return payload | {"entry": entry}


def finish_move(place: RunPaths) -> tuple[str, dict[str, Any]]:
    """Let the alias follow a move that was logged and then cut off, and tell which; "" if there is none.

    Only an alias that is where that move found it was left behind: any other one was bent, and is told as a fault.
    """
    if verify(place.log).faults:  # what a bent log says moves nothing
        return "", {}
    logged = [entry for entry in read(place.log) if entry.kind in MOVES]
    entry = logged[-1] if logged else None
    told = read_payload(place.log, entry) if entry else None  # of one that was erased it is not known where it led
    if not entry or not told:
        return "", {}
    alias = mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION)
    if alias == told["version"] or alias != told["from"]:
        return "", {}
    mlflow_write.move_champion(place.uri, told["version"])
    return entry.kind, told | {"entry": entry.index}


@contextmanager
def one_move_at_a_time(log: Path) -> Iterator[None]:
    """One move at a time: what was approved and compared is the move from the champion of then, and alias and log move
    in one order."""
    require(log)
    with locked(log, "moving"):
        yield


def require_sound(place: RunPaths, tell: Progress) -> None:
    """Raise `ValueError` that names the first fault, if the log or the store was bent."""
    faults = verify(place.log, uri=place.uri, tell=tell).faults
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ValueError(f"{faults[0]}{more}; see callsieve audit verify")


def fetch(place: RunPaths, run: Mapping[str, Any], folder: Path) -> Bundle:
    """A run's artifacts in a folder, and its bundle, opened."""
    folder.mkdir()
    root = mlflow_read.download(place.uri, run["run"], folder)
    return load(root / "bundle", [read_public_key(root / "record" / SIGNER)])


def _run_of_version(place: RunPaths, version: str) -> dict[str, Any]:
    for _, told in payloads(place.log, "run"):
        if told["version"] == version:
            return told
    raise ValueError(f"model version {version}: the log no longer says which run it is of")


def in_words(gate: Mapping[str, Any]) -> str:
    """A gate and the value it met, in one line."""
    return f"{gate['metric']} {condition(gate)}"


def condition(gate: Mapping[str, Any]) -> str:
    """What a gate asks, and the value it met."""
    bounds = " and ".join(
        f"{words} {gate[name]:g}" for name, words in (("at_most", "at most"), ("at_least", "at least")) if name in gate
    )
    value, floor = gate["value"], gate.get("floor")
    got = f"{value:g}" if value is not None else "not measured" if floor is None else f"more than {floor:g}"
    return f"must be {bounds}, got {got}"
