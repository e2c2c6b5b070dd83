"""One training run, written down: a folder with bundle and report, and a run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from ..features.catalogue import catalogue_hash
from ..serving.policy import ACTIONS
from ..serving.scorer import Scorer, Scores, case_id
from ..serving.signing import generate_signing_key, read_public_key, read_signing_key, write_public_key
from .judge import judge, metrics
from .provenance import commit, source_hash
from .report import write_pictures, write_report
from .score import SIGNER, counts
from .split import DAY
from .train import Progress, Settings, Trained, train, write_bundle

if TYPE_CHECKING:
    import numpy.typing as npt

    from .evidence import Evidence

    Array = npt.NDArray[Any]

EXAMPLES = 3


def study(
    evidence: Evidence,
    settings: Settings,
    folder: Path,
    *,
    source: str,
    signing_key: Path | None = None,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, judge, sign, score the last day as it would be served, report, and record.

    Args:
        folder: new; gets `bundle/`, `signer.pub`, `report.html` and, unless `tracking_uri` says otherwise, `mlflow.db`.
        source: where the calls come from, in a few words.
        signing_key: Ed25519 key file; a new one is made in `folder` if none is given.
    Returns: all figures, JSON-able.
    """
    from . import track

    folder.mkdir(parents=True, exist_ok=True)
    trained = train(evidence, settings, progress)
    figures = judge(trained)
    private = signing_key or folder / "signing.key"
    if signing_key is None:
        generate_signing_key(private, folder / SIGNER)
    key = read_signing_key(private)
    if signing_key is not None:
        write_public_key(key.public_key(), folder / SIGNER)
    figures["model"]["id"] = write_bundle(trained, folder / "bundle", key)
    figures["catalogue"] = catalogue_hash()
    figures["data"]["source"] = source
    scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / SIGNER)])
    figures["last_day"] = last_day(scorer, trained)
    uri = tracking_uri or track.default_uri(folder)
    figures["next"] = [f"mlflow ui --backend-store-uri {uri}", f"callsieve score --bundle {folder / 'bundle'} --help"]
    write_report(figures, folder / "report.html")
    write_pictures(figures, folder / "plots")
    figures["tracking"] = track.record(
        uri,
        folder / "artifacts",
        name=figures["model"]["id"],
        parameters=parameters(settings, figures),
        metrics=metrics(figures),
        tags=tags(figures),
        figures=figures,
        files={"bundle": folder / "bundle", "report": folder / "report.html", "plots": folder / "plots"},
    )
    return figures


def last_day(scorer: Scorer, trained: Trained) -> dict[str, Any]:
    """Verdicts on the last day's calls by the served scorer, with a few cases that were not passed."""
    rows = np.flatnonzero(trained.start >= trained.start.max() - DAY)
    calls = trained.evidence.calls.take(rows)
    scores = scorer.score_table(trained.vectors[rows], threads=trained.settings.threads or 2)
    day = str(pc.max(calls["day"]).cast("int32").cast("date32"))
    return {
        "date": day,
        "calls": len(rows),
        **counts(scores, calls),
        "examples": examples(scorer, scores, trained, rows),
    }


def examples(scorer: Scorer, scores: Scores, trained: Trained, rows: Array) -> list[dict[str, Any]]:
    """The first flagged call of each of a few callers, with reasons."""
    flagged = np.flatnonzero(scores.action > 0)
    caller = trained.caller[rows][flagged]
    _, first = np.unique(caller, return_index=True)
    chosen = flagged[np.sort(first)[:EXAMPLES]]
    told = []
    for i in chosen:
        row = int(rows[i])
        start = int(trained.start[row])
        caller, callee = (trained.evidence.calls[name][row].as_py() for name in ("caller", "callee"))
        verdict = scorer.explain_row(trained.vectors[row].tolist(), start)
        told.append(
            {
                "case": case_id(scorer.bundle.model_id, caller, callee, start),
                "action": ACTIONS[scores.action[i]],
                "score": verdict.score,
                "band": verdict.band,
                "slice": str(trained.judged.slice[row]),
                "content": verdict.content,
                "mode": verdict.mode,
                "reasons": [{"en": reason.en, "zh": reason.zh} for reason in verdict.reasons],
            }
        )
    return told


def parameters(settings: Settings, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was told to do."""
    return {
        "seed": settings.seed,
        "threads": settings.threads,
        "calls_per_number": settings.calls_per_number,
        "label_delay_days": settings.label_delay_days,
        "label_policy": settings.label_policy.version,
        "epoch": settings.epoch,
        "calls": figures["data"]["calls"],
        "days": figures["data"]["days"],
        **{f"lightgbm_{name}": value for name, value in settings.parameters.items()},
    }


def tags(figures: Mapping[str, Any]) -> dict[str, str]:
    """What identifies the run's inputs and code."""
    return {
        "data_sha256": figures["data"]["fingerprint"],
        "catalogue_sha256": figures["catalogue"],
        "model_id": figures["model"]["id"],
        "source_sha256": source_hash(),
        "certified": str(figures["headline"]["model"]["certified"]).lower(),
        **commit(),
    }
