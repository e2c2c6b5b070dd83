"""The audit page of a run: one HTML page for readers without code knowledge, from the log and the run's record.

The first page is an artifact of the run, and the log commits to it. A page that is written later also shows the
approvals, the champion, and whether the record is unchanged.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.dates import utc_text
from callsieve.serving.bundle.signing import AUDIT
from callsieve.serving.rules.strata import BUSY
from callsieve.training.judging.run_figures import RunFigures
from callsieve.training.language import gettext, words
from callsieve.training.oversight.log.audit_log import MOVES, payloads, read
from callsieve.training.oversight.log.gates import Gates, condition
from callsieve.training.oversight.log.payload_types import GateResult, RunPayload, Section
from callsieve.training.oversight.log.run_paths import RunPaths
from callsieve.training.reports.drawing import Picture
from callsieve.training.reports.pictures import pictures
from callsieve.training.reports.run_page import environment, render
from callsieve.training.reports.wording import basis
from callsieve.training.tracking import mlflow_read, mlflow_write

from .promote import candidate
from .verify import verify

COMPARED = ("parameter", "tag", "metric")


def write_page(place: RunPaths, run: str, folder: Path, path: Path) -> None:
    """Writes the page of a run, in the language in force, atomically."""
    write_atomic(path, page(facts(place, run) | {"log": log_option(place.log, folder)}).encode())


def write_first_page(
    place: RunPaths, run: RunPayload, figures: RunFigures, gates: Gates, path: Path, drawn: Mapping[str, Picture]
) -> None:
    """Writes the page of a run before the log has its entry."""
    earlier = [payload for _, payload in payloads(place.log, "run")]
    content = about(run, figures, gates.results(run["record"]["metric"]), earlier)
    unknown: dict[str, Any] = {
        "log": log_option(place.log, path.parent),
        "entry": None,
        "moves": [],
        "checked": None,
        "entries": None,
        "alias": None,
    }
    write_atomic(path, page(content | unknown, drawn).encode())


def log_option(log: Path, folder: Path) -> str:
    """Returns the option that names a log which is not in the folder of its run; "" for a log in it."""
    own = os.path.relpath(log, folder)
    return "" if own == AUDIT else f" --audit {shlex.quote(own)}"


def about(
    run: RunPayload, figures: RunFigures, gates: Sequence[GateResult], earlier: Sequence[RunPayload]
) -> dict[str, Any]:
    """Returns the content of a page that no later event changes."""
    return {
        "run": run,
        "figures": figures,
        "datasets": {name: dataset(entry) for name, entry in run["record"]["dataset"].items()},
        "gates": [{**gate, "must": condition(gate)} for gate in gates],
        "changes": changes(earlier[-1], run) if earlier else None,
        "trained": [utc_text(run["record"]["run"][name]) for name in ("start_time", "end_time")],
        "log": "",
    }


def facts(place: RunPaths, run: str) -> dict[str, Any]:
    """Returns the content of the page of a logged run."""
    run_candidate = candidate(place, run)
    runs = [(entry, payload) for entry, payload in payloads(place.log, "run")]
    entry, payload = next((e, p) for e, p in runs if p["run"] == run_candidate.run["run"])
    earlier = [p for e, p in runs if e.index < entry.index]
    checked = verify(place.log, uri=place.uri)
    with tempfile.TemporaryDirectory() as folder:
        root = mlflow_read.download(place.uri, payload["run"], Path(folder))
        figures = json.loads((root / "figures.json").read_text(encoding="utf-8"))
    return about(payload, figures, run_candidate.gate_results, earlier) | {
        "entry": entry,
        "moves": [
            (e.at, e.kind, p) for e, p in payloads(place.log, *MOVES) if payload["version"] in (p["version"], p["from"])
        ],
        "checked": checked,
        "entries": len(read(place.log)),
        "alias": mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION),
    }


def dataset(entry: Section) -> Section:
    """Returns the rows, hash and context of a dataset from its entry in MLflow."""
    return {**json.loads(entry["profile"]), "context": entry["tags"]["mlflow.data.context"]}


def changes(before: RunPayload, now: RunPayload) -> list[tuple[str, str, str]]:
    """Returns what differs from the previous run, as name, old value and new value."""
    rows = []
    for section in COMPARED:
        old, new = before["record"][section], now["record"][section]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name) and not name.startswith(("slice/", "mlflow.")):
                rows.append((f"{words(section)} {name}", _short(old.get(name)), _short(new.get(name))))
    return rows


def page(content: Mapping[str, Any], drawn: Mapping[str, Picture] | None = None) -> str:
    """Returns the page as HTML."""
    pages = environment(__package__)
    values = {"pictures": drawn or pictures(content["figures"]), "catch_basis": basis(content["figures"])}
    return render(pages.get_template("audit.html"), content, **values, busy=BUSY)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return gettext("missing") if value is None else str(value)[:64]
