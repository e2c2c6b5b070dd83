"""Checks the meaning of promotions and rollbacks: gates, approvals and the order of champions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from callsieve.features.files.strict_json import as_integer, as_number
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log import approvals
from callsieve.training.oversight.log.entry import Entry
from callsieve.training.oversight.log.gates import Gates, condition, logged_gates

from .fault import Fault, entry_place
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
                Fault(entry_place(entry.index), what) for what in _broken(entry.kind, payload, state, signer, owner)
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
        yield gettext("of run %(run)s, which the log does not have before it", run=str(move.get("run"))[:40])
        return
    entry, run = logged
    yield from (
        gettext(
            "its %(name)s is %(value)s, that of its run %(own)s",
            name=shown,
            value=str(move.get(name))[:40],
            own=run[name],
        )
        for name, shown in (("version", gettext("version")), ("model", gettext("model")))
        if move.get(name) != run[name]
    )
    champion = state.reign[-1] if state.reign else None
    if move.get("from") != champion:
        yield gettext(
            "replaces version %(version)s, the champion was %(champion)s", version=move.get("from"), champion=champion
        )
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
        yield gettext("there was no champion before the current one")
    elif move.get("version") != state.reign[-2]:
        yield gettext(
            "returns to version %(version)s, the champion before was %(champion)s",
            version=move.get("version"),
            champion=state.reign[-2],
        )


def _by_whom(
    move: Mapping[str, Any], run: Mapping[str, Any], gates: Gates, moves: int, signers: set[str], owner: str
) -> Iterator[str]:
    """Yields what is wrong with the owner of the gates and with the approvals."""
    try:
        gates.require_owned(signers)
    except ValueError as error:
        yield str(error)
    if owner and gates.owner_key != owner:
        yield gettext(
            "its gates are signed by key %(key)s, their owner's is %(owner)s",
            key=gates.owner_key or gettext("of no owner"),
            owner=owner,
        )
    approved = move.get("approvals") or []
    signed = [
        (
            gettext("approval %(nth)s", nth=nth),
            {name: value for name, value in approval.items() if name in ("statement", "signature")},
        )
        for nth, approval in enumerate(approved, 1)
    ]
    statement = approvals.statement(run, gates.sha256, moves)
    wrong, valid = approvals.examined(signed, statement, gates, gates.approvals_needed, signers)
    yield from wrong
    if not wrong and valid != approved:
        yield gettext("states other approvers than those who signed")


def _by_which_gates(move: Mapping[str, Any], run: Mapping[str, Any], gates: Gates) -> Iterator[str]:
    """Yields what is wrong with the results of the gates."""
    results = gates.results(run["record"]["metric"])
    if move.get("gates") != results or move.get("gates_sha256") != gates.sha256:
        yield gettext("its gates differ from those that were logged, or from the metrics of its run")
    failed = [f"{gate['metric']} {phrase(condition(gate))}" for gate in results if not gate["passed"]]
    if failed:
        yield gettext("the model fails: %(gates)s", gates=gettext("; ").join(failed))


def _by_which_comparison(comparison: Mapping[str, Any], gates: Gates, *, look: bool) -> Iterator[str]:
    """Yields what is wrong with the comparison with the champion; `look` is whether the log has its look."""
    if not comparison.get("better"):
        yield gettext("no comparison with the champion that the model won")
        return
    bounds = {"margin": gates.margin, "confidence": gates.confidence, "least_callers": gates.least_callers}
    try:
        low = as_number(comparison.get("low"), "low")
        callers = as_integer(comparison.get("callers"), "callers")
    except ValueError as error:
        yield gettext("its comparison: %(error)s", error=error)
        return
    if any(comparison.get(name) != bound for name, bound in bounds.items()):
        yield gettext("its comparison has other bounds than its gates")
    if low <= gates.margin or callers < gates.least_callers:
        yield gettext("its comparison does not show a better model than the champion")
    if not look:
        yield gettext("the log records no use of its calls for the comparison")
