"""The state of a folder's calls, by which the audit log links them to the models that were trained on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.audit_log import payloads

CALLS = "calls.parquet"


class TrainedModel(TypedDict):
    """A model that was trained on a folder: its id, its run, and how the log shows it."""

    model: str
    run: str
    why: str


def calls_fingerprint(data: Path | None, progress: Progress = silent) -> str:
    """Returns the fingerprint of a folder's calls, as a training reads them; "" if there are none."""
    return "" if data is None or not (data / CALLS).exists() else file_fingerprint(data / CALLS, progress)


def file_fingerprint(calls: Path, progress: Progress = silent) -> str:
    """Returns the fingerprint of a Parquet file of keyed calls, as a training reads them."""
    progress("fingerprint", 0.0)
    result = fingerprint(read_keyed(calls).sort_by("start"))
    progress("fingerprint", 1.0)
    return result


def earlier_fingerprints(log: Path, fingerprint: str) -> set[str]:
    """Returns the fingerprints of a folder's calls now and before each erasure, deletion or rekeying."""
    states = {fingerprint}
    for change in reversed([payload for _, payload in payloads(log, "retention", "deletion", "key")]):
        if change.get("calls_after") in states and change.get("calls_before"):
            states.add(change["calls_before"])
    return states


def models_trained_on(log: Path, source: str, fingerprint: str) -> list[TrainedModel]:
    """Returns the models that were trained on a folder, in its current or an earlier state.

    Earlier states precede an erasure, a deletion or a rekeying.

    Returns: Model, run and reason of each: "the same calls", "the same folder", or both.
    """
    states = earlier_fingerprints(log, fingerprint)
    models: list[TrainedModel] = []
    for _, run in payloads(log, "run"):
        same_calls = run["record"]["tag"].get("data_sha256") in states
        same_folder = _source(run["record"]["dataset"].get("calls", {})) == source
        why = " and ".join(
            name for name, holds in (("the same calls", same_calls), ("the same folder", same_folder)) if holds
        )
        if why:
            models.append({"model": run["model"], "run": run["run"], "why": why})
    return models


def _source(dataset: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(dataset["source"])["tags"]["source"])
    except (KeyError, TypeError, ValueError):
        return ""
