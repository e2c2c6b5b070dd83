"""Checks the meaning of promotions and rollbacks: gates, approvals and the order of champions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from callsieve.features.files.strict_json import as_integer, as_number
from callsieve.training.log import approvals
from callsieve.training.log.entry import Entry
from callsieve.training.log.gates import Gates, in_words, logged_gates

from .fault import Fault
from .mlflow_check import MOVES, Payloads, lacks_fields


@dataclass(slots=True)
class _State:
    """State before a move, from the entries before it: gates, newest look at each fold, runs, champions, moves."""

    gates: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    runs: dict[str, tuple[Entry, Mapping[str, Any]]] = field(default_factory=dict)
    reign: list[str] = field(default_factory=list)
    moves: int = 0


def move_faults(payloads: Payloads, signer: str, owner: str = "") -> list[Fault]:
    """Returns a fault for each rule that a logged promotion or rollback breaks.

    Args:
        signer: id of the key that signs the log.
        owner: id of the key of the gates' owner; "" if it is not known.
    """
    state, faults = _State(), []
    for entry, payload in payloads:
        if entry.kind == "gates":
            state.gates[entry.index] = payload
        elif entry.kind == "touch":
            state.looks[payload["fold"]] = entry.index
        elif entry.kind == "run" and not lacks_fields(entry, payload):
            state.runs[payload["run"]] = entry, payload
        elif entry.kind in MOVES:
            faults += [
                Fault(f"entry {entry.index}", what) for what in _broken(entry.kind, payload, state, signer, owner)
            ]
            state.moves += 1
            if entry.kind == "promotion":
                state.reign.append(str(payload.get("version")))
            elif state.reign:
                state.reign.pop()
    return faults


def _broken(kind: str, move: Mapping[str, Any], state: _State, signer: str, owner: str) -> Iterator[str]:
    """Yields each rule that a move breaks, in words."""
    logged = state.runs.get(str(move.get("run")))
    if logged is None:
        yield f"of run {str(move.get('run'))[:40]}, which the log does not have before it"
        return
    entry, run = logged
    yield from (
        f"its {name} is {str(move.get(name))[:40]}, that of its run {run[name]}"
        for name in ("version", "model")
        if move.get(name) != run[name]
    )
    champion = state.reign[-1] if state.reign else None
    if move.get("from") != champion:
        yield f"replaces version {move.get('from')}, the champion was {champion}"
    try:
        gates = logged_gates(state.gates, run["gates"], entry.index)
    except ValueError as error:
        yield str(error)
        return
    yield from _by_whom(move, run, gates, state.moves, {signer, run.get("signer", signer)}, owner)
    if kind == "promotion":
        yield from _by_which_gates(move, run, gates)
        if champion is not None:
            look = state.looks.get(run["gates"].get("fold"), 0) > entry.index
            yield from _by_which_comparison(move.get("comparison") or {}, gates, look=look)
    elif len(state.reign) < 2:
        yield "there was no champion before the current one"
    elif move.get("version") != state.reign[-2]:
        yield f"returns to version {move.get('version')}, the champion before was {state.reign[-2]}"


def _by_whom(
    move: Mapping[str, Any], run: Mapping[str, Any], gates: Gates, moves: int, signers: set[str], owner: str
) -> Iterator[str]:
    """Yields what is wrong with the owner of the gates and with the approvals."""
    try:
        gates.require_owned(signers)
    except ValueError as error:
        yield str(error)
    if owner and gates.owner_key != owner:
        yield f"its gates are signed by key {gates.owner_key or 'of no owner'}, their owner's is {owner}"
    approved = move.get("approvals") or []
    signed = [
        (f"approval {nth}", {name: value for name, value in approval.items() if name in ("statement", "signature")})
        for nth, approval in enumerate(approved, 1)
    ]
    statement = approvals.statement(run, gates.sha256, moves)
    wrong, valid = approvals.examined(signed, statement, gates, gates.approvals_needed, signers)
    yield from wrong
    if not wrong and valid != approved:
        yield "states other approvers than those who signed"


def _by_which_gates(move: Mapping[str, Any], run: Mapping[str, Any], gates: Gates) -> Iterator[str]:
    """Yields what is wrong with the results of the gates."""
    results = gates.results(run["record"]["metric"])
    if move.get("gates") != results or move.get("gates_sha256") != gates.sha256:
        yield "its gates differ from those that were logged, or from the metrics of its run"
    failed = [in_words(gate) for gate in results if not gate["passed"]]
    if failed:
        yield f"the model fails: {'; '.join(failed)}"


def _by_which_comparison(comparison: Mapping[str, Any], gates: Gates, *, look: bool) -> Iterator[str]:
    """Yields what is wrong with the comparison with the champion; `look` is whether the log has its look."""
    if not comparison.get("better"):
        yield "no comparison with the champion that the model won"
        return
    bounds = {"margin": gates.margin, "confidence": gates.confidence, "least_callers": gates.least_callers}
    try:
        low = as_number(comparison.get("low"), "low")
        callers = as_integer(comparison.get("callers"), "callers")
    except ValueError as error:
        yield f"its comparison: {error}"
        return
    if any(comparison.get(name) != bound for name, bound in bounds.items()):
        yield "its comparison has other bounds than its gates"
    if low <= gates.margin or callers < gates.least_callers:
        yield "its comparison does not show a better model than the champion"
    if not look:
        yield "the log has no look at its calls for the comparison"
