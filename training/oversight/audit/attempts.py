"""The register of all attempts of a log: each training, adaptation and study that entered its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callsieve.training.oversight.log.audit_log import MOVES, payloads
from callsieve.training.oversight.log.gates import logged_gates
from callsieve.training.oversight.log.payload_types import RunPayload
from callsieve.training.oversight.log.rounds import Round, round_of, uses

NO_RESULT = "no result"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, from the entry of its gates on. The rounds of an adaptation are one attempt, with the newest result.

    Attributes:
        entry: index of the entry of its gates, of the first round.
        at: UTC moment of that entry.
        looks: looks at test data since then and before the next attempt, with the command of each; rounds have one.
        rounds: entries of the gates of each round of an adaptation in this log; empty for a training or a study.
        uses: uses of its test data up to its newest look, over all logs that its run knew of; own looks without a run.
        run: id of its run in MLflow; "" without a result.
        model: id of its model; "" without a result.
        refused: the metrics of the gates that the model fails.
        promoted: moments at which the model became the champion.
    """

    entry: int
    at: str
    looks: tuple[str, ...]
    rounds: tuple[int, ...]
    uses: int
    run: str
    model: str
    refused: tuple[str, ...]
    promoted: tuple[str, ...]

    @property
    def result(self) -> str:
        """The result in words."""
        if not self.run:
            return NO_RESULT
        passed = f"refused by a gate on {', '.join(self.refused)}" if self.refused else "passes its gates"
        return f"{passed}, champion since {self.promoted[-1]}" if self.promoted else passed

    def to_json(self) -> dict[str, object]:
        """Returns plain values for JSON."""
        return {name: getattr(self, name) for name in (*self.__slots__, "result")}


def attempts(log: Path) -> list[Attempt]:
    """Returns all attempts of a log, in order. An attempt without a run failed, is running, or is a study."""
    gates = {entry.index: (entry.at, payload) for entry, payload in payloads(log, "gates")}
    texts = {index: payload for index, (_, payload) in gates.items()}
    runs = {payload["gates"]["entry"]: (entry.index, payload) for entry, payload in payloads(log, "run")}
    looks: dict[int, list[str]] = {index: [] for index in gates}
    rounds: dict[int, Round] = {}
    for entry, payload in payloads(log, "touch"):
        before = [index for index in gates if index < entry.index and texts[index]["sha256"] == payload["gates"]]
        if before:
            looks[before[-1]].append(str(payload.get("by", "promote")))
            if (round_ := round_of(payload)) is not None:
                rounds[before[-1]] = round_
    moves = [(entry.at, payload["version"]) for entry, payload in payloads(log, *MOVES)]
    rows = []
    for index, (at, _) in gates.items():
        end, run = runs.get(index, (0, None))
        results = logged_gates(texts, run["gates"], end).results(run["record"]["metric"]) if run else []
        rows.append(
            Attempt(
                entry=index,
                at=at,
                looks=tuple(looks[index]),
                rounds=(index,) if index in rounds else (),
                uses=uses_stated(run, looks[index]),
                run=run["run"] if run else "",
                model=run["model"] if run else "",
                refused=tuple(gate["metric"] for gate in results if not gate["passed"]),
                promoted=tuple(when for when, version in moves if run and version == run["version"]),
            )
        )
    return joined(rows, rounds)


def uses_stated(run: RunPayload | None, looks: Sequence[str]) -> int:
    """Returns the uses of an attempt's test data: those that its run states, and its own looks after the first."""
    stated = (run["gates"].get("touches") if run else None) or 0
    return max(stated + len(looks[1:]), len(looks))


def joined(rows: Sequence[Attempt], rounds: Mapping[int, Round]) -> list[Attempt]:
    """Returns the attempts with the rounds of each adaptation as one."""
    by_entry = {row.entry: row for row in rows}
    attempts = [row for row in rows if row.entry not in rounds]
    for chain in uses(rounds.values()):
        parts = [by_entry[index] for index, round_ in rounds.items() if any(round_ is link for link in chain)]
        # One look of each later round is the look of the adaptation.
        looks = parts[0].looks + tuple(look for part in parts[1:] for look in part.looks[1:])
        newest = next((part for part in reversed(parts) if part.run), parts[-1])
        attempts.append(
            replace(
                newest,
                entry=parts[0].entry,
                at=parts[0].at,
                looks=looks,
                uses=max(newest.uses, len(looks)),
                rounds=tuple(part.entry for part in parts),
                promoted=tuple(sorted(moment for part in parts for moment in part.promoted)),
            )
        )
    return sorted(attempts, key=lambda row: row.entry)
