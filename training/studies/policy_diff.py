"""Compares two policies on the same calls: how many calls of which slice change action, from what to what."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_present
from callsieve.features.files.parquet_file import read_parquet
from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import to_strings
from callsieve.serving.batch.call_files import CallFile, read_keyed_file
from callsieve.serving.batch.file_scoring import open_registers, open_scorer, score_calls, score_vectors
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores
from callsieve.training.data.dataset import truth_of_calls
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.looks import Ledger, count_look
from callsieve.training.oversight.log.payload_types import Look

EVALUATION = "evaluation"


ChangeRow = dict[str, str | int]


class Changes(TypedDict):
    """Calls that change action under another policy.

    `actions` and `slices`: rows with `from`, `to`, `calls` and `callers`, and the name of the slice. `rules`: number of
    changed calls that meet each rule.
    """

    changed: int
    actions: list[ChangeRow]
    slices: dict[str, list[ChangeRow]]
    rules: dict[str, int]


class PolicyDifference(Changes):
    """Two policies on the same calls; the look is there if the calls have a known truth."""

    old: str
    new: str
    model: str
    purpose: str
    calls: int
    fold: NotRequired[str | None]
    touches: NotRequired[int | None]
    registered: NotRequired[bool]


def difference(
    old: Path,
    new: Path,
    path: Path,
    layout: str,
    bundle: Path,
    *,
    trust: Path | None,
    key: Path | None,
    registers: Path | None,
    truth: Path | None,
    ledger: Ledger | None,
    threads: int,
    progress: Progress,
) -> PolicyDifference:
    """Scores calls once and applies two policies to them.

    Returns: plain values for JSON. Of the calls that change action: how many by `from` and `to`; the same by number
        class and, with a truth, by slice; and how many meet each rule.
    """
    check_present(path, bundle, trust, old, new, registers, key, truth)
    scorer = open_scorer(bundle, trust, old, open_registers(registers, key, EVALUATION))
    other = Scorer(scorer.bundle, read_policy(new), scorer.registers)
    file = CallFile(path=path, layout=layout, key=key)
    read = read_keyed_file(file, EVALUATION, progress=lambda done, size: progress("read", 0.3 * done / max(size, 1)))
    if read.calls.num_rows == 0:
        raise ValueError(f"{path}: no call to decide on")
    look: Look | None = None
    if truth is not None:
        start = read.calls["start"].to_numpy()
        span = (int(start[0]), int(start[-1]) + 1)
        look = count_look(ledger, scorer.bundle, fingerprint(read.calls), span, "policy diff", path.parent)
    progress("score", 0.4)
    before, rows = score_calls(scorer, read.calls, threads=threads)
    after = score_vectors(other, read.calls, rows, threads)
    slices = {"number_class": to_strings(read.calls["caller_class"])}
    if truth is not None:
        content = truth_of_calls(read_parquet(truth), read.calls)
        nuisance = np.asarray(content["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)
        slices["truth"] = np.char.add(np.where(nuisance, "nuisance: ", "benign: "), to_strings(content["slice"]))
    moved = changes(before, after, to_strings(read.calls["caller"]), slices)
    result: PolicyDifference = {
        "old": scorer.policy.version,
        "new": other.policy.version,
        "model": scorer.bundle.model_id,
        "purpose": EVALUATION,
        "calls": read.calls.num_rows,
        "changed": moved["changed"],
        "actions": moved["actions"],
        "slices": moved["slices"],
        "rules": moved["rules"],
    }
    if look is not None:
        result["fold"], result["touches"], result["registered"] = look["fold"], look["touches"], look["registered"]
    return result


def changes(before: Scores, after: Scores, caller: Array, slices: dict[str, Array]) -> Changes:
    """Returns the calls that change action and their callers, in all and by slice."""
    moved = np.flatnonzero(before.action != after.action)
    table = pd.DataFrame(
        {
            "from": np.array(ACTIONS)[before.action[moved]],
            "to": np.array(ACTIONS)[after.action[moved]],
            "caller": caller[moved],
            **{name: values[moved] for name, values in slices.items()},
        }
    )
    rules_met = before.rule_bits[moved] | after.rule_bits[moved]
    rules = {name: int(np.count_nonzero(rules_met & bit)) for name, bit in BITS.items()}
    return {
        "changed": len(moved),
        "actions": _counted(table, ["from", "to"]),
        "slices": {name: _counted(table, [name, "from", "to"]) for name in slices},
        "rules": {name: calls for name, calls in rules.items() if calls},
    }


def _counted(table: pd.DataFrame, names: list[str]) -> list[ChangeRow]:
    grouped = table.groupby(names, sort=True)["caller"].agg(["size", "nunique"]).reset_index()
    counts = grouped.rename(columns={"size": "calls", "nunique": "callers"}).sort_values("calls", ascending=False)
    return [{str(name): value for name, value in row.items()} for row in counts.to_dict("records")]
