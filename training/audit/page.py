"""The audit report of a run: one HTML page for a reader who knows no code, from the log and the run's own record.

One is made with the run and is an artifact of it: the log commits to that very page. It can be made anew at any time,
and then also tells who approved, who reigns, and whether the record still holds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from callsieve.features.catalogue import ALL_FEATURES
from callsieve.features.files.atomic import write_atomic
from callsieve.serving.rules.strata import BUSY
from callsieve.training.judging.run_figures import RunFigures
from callsieve.training.log.audit_log import payloads, read
from callsieve.training.log.gates import Gates
from callsieve.training.log.run_paths import RunPaths
from callsieve.training.reports.pictures import Picture, pictures
from callsieve.training.reports.run_page import environment
from callsieve.training.tracking import mlflow_read, mlflow_write

from .mlflow_check import MOVES
from .promote import candidate, condition
from .verify import verify

COMPARED = ("parameter", "tag", "metric")


def write_page(place: RunPaths, run: str, path: Path) -> None:
    """Write the page of a run, whole or not at all.

    Raises:
        ValueError: if the log does not know the run, or MLflow no longer has its figures.
    """
    write_atomic(path, page(facts(place, run)).encode())


def write_first_page(
    place: RunPaths,
    run: Mapping[str, Any],
    figures: RunFigures,
    gates: Gates,
    path: Path,
    drawn: Mapping[str, Picture],
) -> None:
    """Write the page of a run that the log does not tell of yet.

    Args:
        run: what the log will say of it, but for this page.
        drawn: the pictures of the figures.
    """
    earlier = [told for _, told in payloads(place.log, "run")]
    told = about(run, figures, gates.results(run["record"]["metric"]), earlier)
    later: dict[str, Any] = {"entry": None, "moves": [], "checked": None, "entries": None, "alias": None}
    write_atomic(path, page(told | later, drawn).encode())


def about(
    run: Mapping[str, Any],
    figures: RunFigures,
    gates: Sequence[Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What a page tells of a run that no later event changes."""
    return {
        "run": run,
        "figures": figures,
        "datasets": {name: dataset(one) for name, one in run["record"]["dataset"].items()},
        "gates": [dict(gate) | {"must": condition(gate)} for gate in gates],
        "changes": changes(earlier[-1], run) if earlier else None,
    }


def facts(place: RunPaths, run: str) -> dict[str, Any]:
    """All that the page of a logged run tells."""
    found = candidate(place, run)
    told = [(entry, payload) for entry, payload in payloads(place.log, "run")]
    entry, payload = next((e, p) for e, p in told if p["run"] == found.run["run"])
    earlier = [p for e, p in told if e.index < entry.index]
    checked = verify(place.log, uri=place.uri)
    with tempfile.TemporaryDirectory() as folder:
        root = mlflow_read.download(place.uri, payload["run"], Path(folder))
        figures = json.loads((root / "figures.json").read_text(encoding="utf-8"))
    return about(payload, figures, found.told, earlier) | {
        "entry": entry,
        "moves": [
            (e.at, e.kind, p) for e, p in payloads(place.log, *MOVES) if payload["version"] in (p["version"], p["from"])
        ],
        "checked": checked,
        "entries": len(read(place.log)),
        "alias": mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION),
    }


def dataset(told: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and hash of a dataset, as its profile in MLflow tells."""
    profile: dict[str, Any] = json.loads(told["profile"])
    return profile | {"context": told["tags"]["mlflow.data.context"]}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is set, made of, or measured otherwise than in the run before: name, then, now."""
    told = []
    for section in COMPARED:
        one, other = before["record"][section], now["record"][section]
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name) and not name.startswith(("slice/", "bucket/", "mlflow.")):
                told.append((f"{section} {name}", _short(one.get(name)), _short(other.get(name))))
    return told


def page(told: Mapping[str, Any], drawn: Mapping[str, Picture] | None = None) -> str:
    """The page as text."""
    pages = environment(__package__)
    pages.filters |= {"moment": moment, "meaning": meaning, "figure": figure}
    shown = drawn or pictures(told["figures"])
    return pages.get_template("audit.html").render(told, pictures=shown, busy=BUSY).lstrip()


def moment(text: str) -> str:
    """A moment for a reader.

    >>> moment("2025-03-09T16:00:00Z")
    '9 March 2025, 16:00 UTC'
    """
    at = datetime.fromisoformat(text)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def meaning(name: str) -> str:
    """What a statistic is, in words."""
    return ALL_FEATURES[name].en if name in ALL_FEATURES else name


def figure(value: float | None) -> str:
    """A number of any size."""
    return "not measured" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "not there" if value is None else str(value)[:64]
