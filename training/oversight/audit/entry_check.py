"""Checks the meaning of entries against earlier ones: runs, their looks, promotions, rollbacks and their approvals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import Struct

from callsieve.features.files.decode import as_kind
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log import approvals
from callsieve.training.oversight.log.gates import Gates, condition, logged_gates
from callsieve.training.oversight.log.looks import Fold
from callsieve.training.oversight.log.payload_types import Move, RunPayload, Section
from callsieve.training.oversight.log.rounds import preceding, round_of, uses

from .content import Content, Fault, entry_place

CARD = "model/bundle/bundle.json"  # artifact with the metadata of a bundle
MANIFEST = "model/bundle/MANIFEST.json"  # artifact of a run with a bundle
LOOKS = "test_fold_touches"  # metric of a run
LOG_TAG = "audit_log"


def run_faults(content: Content) -> list[Fault]:
    """Returns a fault for each run whose entry contradicts the entries before it."""
    return [
        Fault(entry_place(index), what)
        for index, run in content.runs.items()
        for what in (*_contradictions(index, run, content), *_looks(index, run, content))
    ]


def _contradictions(index: int, run: RunPayload, content: Content) -> Iterator[str]:
    try:
        logged_gates(content.gates, run["gates"], index)
    except ValueError as error:
        yield str(error)
    own = content.log_id if content.entries[0].index == 0 else ""
    log = run["record"]["tag"].get(LOG_TAG, own)
    if own and log != own:
        yield gettext("its run belongs to another log, %(log)s", log=log[:16])
    artifacts = run["record"]["artifact"]
    if run["version"] and (CARD not in artifacts or artifacts.get(MANIFEST) != run["manifest_sha256"]):
        yield gettext("its artifacts are not the bundle that approvers approve")


def _looks(index: int, run: RunPayload, content: Content) -> Iterator[str]:
    """Yields what is wrong with the looks that a run states."""
    claimed, fold, gates = run["gates"].get("touches"), run["gates"].get("fold"), run["gates"]["entry"]
    if (metric := run["record"]["metric"].get(LOOKS, claimed)) != claimed:
        stated = {"name": LOOKS, "value": f"{metric:g}", "claimed": claimed}
        yield gettext("its metric %(name)s is %(value)s, its gates state %(claimed)s", **stated)
    if claimed is None or not fold:
        yield gettext("states no use of its calls")
        return
    judged, looks = Fold.parse(fold), content.touches
    # A missing entry is a fault of its own; it may be the look.
    known = {entry.index for entry in content.entries if entry.kind != "touch"} | looks.keys()
    own = [look for place, look in looks.items() if gates < place < index and look["fold"] == fold]
    if known.issuperset(range(gates, index)) and not own:
        yield gettext("the log records no use of its calls between its gates and its own entry")
    earlier = [look for place, look in looks.items() if place < gates and judged.overlaps(Fold.parse(look["fold"]))]
    rounds, now = [*map(round_of, earlier)], round_of(own[0]) if own else None
    before = None if now is None else preceding(rounds, now)
    if before is not None and own[0].get("follows") != before.digest:
        yield gettext("does not name the round of its adaptation before it")
    counted = len(uses([*rounds, now]))
    if claimed < counted:
        yield gettext("states %(claimed)s uses of its calls, the log has %(counted)s", claimed=claimed, counted=counted)


def move_faults(content: Content, signer: str, owner: str = "") -> list[Fault]:
    """Returns a fault for each rule that a logged promotion or rollback breaks."""
    kinds = {entry.index: entry.kind for entry in content.entries}
    faults, reign = list[Fault](), list[str]()  # champions so far; a rollback removes the last
    for earlier, (index, move) in enumerate(content.moves.items()):
        before = Before(content, index, earlier, reign)
        faults += [Fault(entry_place(index), what) for what in _broken(kinds[index], move, before, signer, owner)]
        if kinds[index] == "promotion":
            reign.append(str(move.get("version")))
        elif reign:
            reign.pop()
    return faults


@dataclass(frozen=True, slots=True)
class Before:
    """The log before a move: its index, the number of earlier moves, and the champions so far."""

    content: Content
    index: int
    moves: int
    reign: list[str]

    def run(self, name: str) -> tuple[int, RunPayload] | None:
        """Returns the newest entry of a run with its index; None if there is none before the move."""
        entries = [
            (place, run) for place, run in self.content.runs.items() if run["run"] == name and place < self.index
        ]
        return entries[-1] if entries else None

    def looked_since(self, index: int, fold: str | None) -> bool:
        """Returns whether the log has a look at a fold between an entry and the move."""
        touches = self.content.touches.items()
        return any(index < place < self.index and touch["fold"] == fold for place, touch in touches)


def _broken(kind: str, move: Move, before: Before, signer: str, owner: str) -> Iterator[str]:
    """Yields each rule that a move breaks, in words."""
    logged = before.run(str(move.get("run")))
    if logged is None:
        yield gettext("of run %(run)s, which the log does not have before it", run=str(move.get("run"))[:40])
        return
    index, run = logged
    for name, stated, own in (
        (gettext("version"), move.get("version"), run["version"]),
        (gettext("model"), move.get("model"), run["model"]),
    ):
        if stated != own:
            value = str(stated)[:40]
            yield gettext("its %(name)s is %(value)s, that of its run %(own)s", name=name, value=value, own=own)
    reign = before.reign
    champion = reign[-1] if reign else None
    if move.get("from") != champion:
        yield gettext(
            "replaces version %(version)s, the champion was %(champion)s", version=move.get("from"), champion=champion
        )
    try:
        gates = logged_gates(before.content.gates, run["gates"], index)
    except ValueError as error:
        yield str(error)
        return
    yield from _by_whom(move, run, gates, before.moves, {signer, run.get("signer", signer)}, owner)
    if kind == "promotion":
        yield from _by_which_gates(move, run, gates)
        if champion is not None:
            look = before.looked_since(index, run["gates"].get("fold"))
            yield from _by_which_comparison(move.get("comparison") or {}, gates, look=look)
    elif len(reign) < 2:
        yield gettext("there was no champion before the current one")
    elif move.get("version") != reign[-2]:
        yield gettext(
            "returns to version %(version)s, the champion before was %(champion)s",
            version=move.get("version"),
            champion=reign[-2],
        )


def _by_whom(move: Move, run: RunPayload, gates: Gates, moves: int, signers: set[str], owner: str) -> Iterator[str]:
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


def _by_which_gates(move: Move, run: RunPayload, gates: Gates) -> Iterator[str]:
    results = gates.results(run["record"]["metric"])
    if move.get("gates") != results or move.get("gates_sha256") != gates.sha256:
        yield gettext("its gates differ from those that were logged, or from the metrics of its run")
    failed = [f"{gate['metric']} {phrase(condition(gate))}" for gate in results if not gate["passed"]]
    if failed:
        yield gettext("the model fails: %(gates)s", gates=gettext("; ").join(failed))


class _Compared(Struct, frozen=True):
    """The figures of a comparison that decide."""

    low: float
    callers: int


def _by_which_comparison(comparison: Section, gates: Gates, *, look: bool) -> Iterator[str]:
    """Yields what is wrong with the comparison with the champion; `look` is whether the log has its look."""
    if not comparison.get("better"):
        yield gettext("no comparison with the champion that the model won")
        return
    bounds = {"margin": gates.margin, "confidence": gates.confidence, "least_callers": gates.least_callers}
    try:
        compared = as_kind(comparison, _Compared, "")
    except ValueError as error:
        yield gettext("its comparison: %(error)s", error=error)
        return
    if any(comparison.get(name) != bound for name, bound in bounds.items()):
        yield gettext("its comparison has other bounds than its gates")
    if compared.low <= gates.margin or compared.callers < gates.least_callers:
        yield gettext("its comparison does not show a better model than the champion")
    if not look:
        yield gettext("the log records no use of its calls for the comparison")
