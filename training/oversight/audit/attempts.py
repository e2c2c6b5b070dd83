"""The register of all attempts of a log: each training and study that entered its gates, failed ones too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from callsieve.training.oversight.log.audit_log import MOVES, payloads
from callsieve.training.oversight.log.gates import logged_gates

NO_RESULT = "no result"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, from the entry of its gates on.

    Attributes:
        entry: index of the entry of its gates.
        at: UTC moment of that entry.
        looks: looks at test data since then and before the next attempt, with the command of each.
        run: id of its run in MLflow; "" without a result.
        model: id of its model; "" without a result.
        refused: the metrics of the gates that the model fails.
        promoted: moments at which the model became the champion.
    """

    entry: int
    at: str
    looks: tuple[str, ...]
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
    """Returns all attempts of a log, in order. An attempt without a run failed, is running, or is a study.

    Raises:
        ValueError: if there is no log, or a payload was edited.
    """
    gates = {entry.index: (entry.at, payload) for entry, payload in payloads(log, "gates")}
    texts = {index: payload for index, (_, payload) in gates.items()}
    runs = {payload["gates"]["entry"]: (entry.index, payload) for entry, payload in payloads(log, "run")}
    looks: dict[int, list[str]] = {index: [] for index in gates}
    for entry, payload in payloads(log, "touch"):
        before = [index for index in gates if index < entry.index and texts[index]["sha256"] == payload["gates"]]
        if before:
            looks[before[-1]].append(str(payload.get("by", "promote")))
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
                run=run["run"] if run else "",
                model=run["model"] if run else "",
                refused=tuple(gate["metric"] for gate in results if not gate["passed"]),
                promoted=tuple(when for when, version in moves if run and version == run["version"]),
            )
        )
    return rows
