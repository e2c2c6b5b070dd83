"""A training as a run in MLflow: its parameters, metrics, tags and description, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from callsieve.serving.bundle.signing import SIGNER
from callsieve.training.judging.judge import is_candidate
from callsieve.training.judging.run_figures import DatasetEntry, RunFigures, TrackedRun
from callsieve.training.language import language
from callsieve.training.model.fit import lightgbm_parameters
from callsieve.training.model.provenance import source_hash, versions
from callsieve.training.model.settings import Parameter, Settings
from callsieve.training.oversight.log.audit_log import log_id
from callsieve.training.oversight.log.run_paths import RunPaths, artifact_folder
from callsieve.training.reports.headline_list import AT_MOST, CAUGHT, flagged, headline_metrics, scorer_metrics
from callsieve.training.reports.wording import by_organisation, in_markdown, one_in

from .mlflow_model import save_model
from .mlflow_write import ALIAS, LOG, write_run


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A training whose files are in `folder`: its settings, figures and tables.

    curves: metrics with a value for each step. made_by: the command or function of the run. began: Unix seconds.
    """

    folder: Path
    settings: Settings
    figures: RunFigures
    datasets: Mapping[str, DatasetEntry]
    curves: Mapping[str, Sequence[float]]
    made_by: str
    began: float


def track_run(place: RunPaths, run: FinishedRun) -> TrackedRun:
    """Records figures and files of a training as a run in MLflow."""
    folder, figures = run.folder, run.figures
    files = {name: folder / name for name in ("record", "documents", "plots", "tables")}
    return write_run(
        place.uri,
        artifact_folder(place.uri),
        name=f"{folder.resolve().name} {figures['model']['id'][:6]}",
        made_by=run.made_by,
        began=run.began,
        parameters=run_parameters(run.settings, figures),
        metrics=run_metrics(figures),
        tags=run_tags(figures) | {LOG: log_id(place.log)},
        datasets=run.datasets,
        figures=figures,
        files=files | {"report": folder / "report.html"},
        model=partial(save_model, folder / "bundle", signer=folder / SIGNER) if (folder / "bundle").exists() else None,
        curves=run.curves,
        candidate=is_candidate(figures),
    )


def run_parameters(settings: Settings, figures: RunFigures) -> dict[str, object]:
    """Returns the parameters of a run in MLflow: its settings, the label policy and LightGBM's parameters."""
    policy = settings.label_policy.to_json()
    return {
        **{
            name: value
            for name, value in asdict(settings).items()
            if name not in ("features", "label_policy", "parameters")
        },
        "features": len(settings.features),  # their names are in settings.json and in the bundle
        "label_policy": settings.label_policy.version,
        "calls": figures["data"]["calls"],
        "days": figures["data"]["days"],
        **{f"label_policy.{name}": value for name, value in policy.items() if name != "version"},
        **{f"lightgbm_{name}": value for name, value in of_lightgbm(settings, figures["rows"]["train"]).items()},
    }


def of_lightgbm(settings: Settings, rows: int) -> dict[str, Parameter]:
    """Returns LightGBM's parameters of the risk model, without those that change no model; each member has its own
    seed.
    """
    values = lightgbm_parameters(rows, classes=1, seed=settings.seed, threads=0, parameters=settings.parameters)
    return {name: value for name, value in values.items() if name not in ("seed", "num_threads", "verbosity")}


def run_tags(figures: RunFigures) -> dict[str, str]:
    """Returns the tags of a run in MLflow, which identify its inputs, the base of an adaptation, and its code."""
    adapted = figures["adapted"]
    return {
        "data_sha256": figures["data"]["fingerprint"],
        "catalogue_sha256": figures["catalogue"],
        "gates_sha256": figures["gates"]["sha256"],
        "model_id": figures["model"]["id"],
        "source_sha256": source_hash(),
        "certified": str(figures["headline"]["model"]["certified"]).lower(),
        ALIAS: str(is_candidate(figures)).lower(),
        "gates": f"refused by {', '.join(refused)}" if (refused := figures["gates"]["refused"]) else "passed",
        **{f"version.{name}": version for name, version in versions().items() if name != "source"},
        **({"base_model_id": adapted["base"], "base_learnt": adapted["learnt"]} if adapted else {}),
        **figures["code"],
        "mlflow.note.content": description(figures),  # MLflow shows it first on the page of the run
    }


def description(figures: RunFigures) -> str:
    """Returns the headline of a run in Markdown and in English, and where to read on."""
    head = figures["headline"]["model"]
    certified = "certified" if head["certified"] else "not certified"
    refused = f", refused by gates on {', '.join(figures['gates']['refused'])}" if figures["gates"]["refused"] else ""
    of_calls = "of callers known by evidence or truth" if figures["adapted"] else "of groups unseen in training"
    with language("en"):
        false, organisation, target = flagged(head), by_organisation(head), one_in(head["target"])
        bound, rate, caught_range = AT_MOST.value(head), CAUGHT.value(head), CAUGHT.interval(head)
    return (
        f"**{certified}{refused}**: {false} innocent calls were flagged, "
        f"{of_calls}. That is at most {bound} (95 % upper bound, calls as independent), "
        f"{organisation}; the target is {target}. {rate} of the nuisance calls were caught ({caught_range}). "
        f"Evaluated on {figures['data']['judged_on']} ({in_markdown(figures['data']['source'])}).\n\n"
        "Among the artifacts: `report/report.html`, `report/audit.html`, `documents/model_card.md`."
    )


def run_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns the metrics of a run in MLflow, which gates refer to: its headline, its slices and its looks."""
    looks = {"test_fold_touches": float(figures["gates"]["touches"] or 0)}
    of_parts = slice_metrics(figures) | adaptation_metrics(figures) | gain_metrics(figures)
    return headline_metrics(figures) | of_parts | looks


def gain_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns what a training catches more than the shipped model, and whether it is better; an adaptation passes."""
    gain = figures["gain"]
    values = {} if gain is None else {"shipped/gain": gain["rate"], "shipped/gain_low": gain["low"]}
    known = {name: value for name, value in values.items() if value is not None}
    return known | {"better_than_shipped": float(is_candidate(figures))}


def adaptation_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns the metrics that only an adaptation has, in the groups "base" and "adapted"; None is left out."""
    adapted, base = figures["adapted"], figures["base"]
    if adapted is None:
        return {}
    values: dict[str, float | None] = {}
    for name, side in (("base", adapted["before"]), ("adapted", adapted["after"])):
        values |= {f"{name}/probable_catch": side["caught"], f"{name}/estimated_error": side["flagged"]}
        values[f"{name}/estimated_error_bound"] = side["bound"]
    known = {name: value for name, value in values.items() if value is not None}
    return known | ({} if base is None else scorer_metrics("base", base["headline"]))


def slice_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns which kinds of innocent callers are certified, as metrics such as "slice/benign/courier/certified"."""
    plain = re.compile(r"[^\w .:-]", flags=re.ASCII)
    return {
        f"slice/benign/{plain.sub('-', row['slice'])}/certified": float(row["certified"])
        for row in figures["slices"]
        if row["certified"] is not None
    }
