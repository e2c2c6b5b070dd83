"""Judge a signed bundle on calls that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import codes
from callsieve.serving.batch.score import open_scorer
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.dataset import Dataset, judging_labels, read_dataset
from callsieve.training.data.feeds import complete
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.log.looks import Ledger, counted
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.call_choice import calls_of_new_callers
from callsieve.training.model.certify import certificate, choose_threshold
from callsieve.training.model.split import judged_span

from .headline import Scored, catch_of
from .judge import RULE, data_figures, figures
from .seen_groups import Acquaintance, acquaintance

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def assess(
    bundle: Path, data: Path, *, trust: Path | None, threads: int, progress: Progress, ledger: Ledger | None
) -> dict[str, Any]:
    """The figures of a bundle on the calls of a folder; the first 7 days only fill the windows.

    The rule on calls per hour gets the threshold that suits these very calls: it is flattered, the model is not.

    Args:
        ledger: gets a touch of the judged calls before they are scored; None where nobody counts.
    Raises:
        ValueError: in one line, if nobody counts looks at calls that the bundle was certified on.
    """
    scorer = open_scorer(bundle, trust)
    dataset = read_dataset(data, "evaluation")
    touched = counted(ledger, scorer.bundle, dataset.fingerprint, judged_span(dataset.calls), "evaluate")
    progress("features", 0.1)
    X = complete(dataset, scorer.bundle.features, threads).X  # noqa: N806
    progress("score", 0.6)
    acquainted = acquaintance(dataset, scorer.bundle)
    scored = scored_calls(dataset, X, scorer.score_table(X, threads=threads or 2).raw, acquainted)
    progress("judge", 0.8)
    return {
        "model": {"id": scorer.bundle.model_id},
        **touched,
        "data": data_figures(dataset.calls, scored.judged.nuisance)
        | {
            "source": str(data),
            "fingerprint": dataset.fingerprint,
            "judged_by": scored.judged.source,
            "judged_on": "every call after the first 7 days; the rule's threshold suits these very calls",
        },
        **figures(scored, scorer.bundle, best_rule(scored)),
        **by_acquaintance(scored, scorer.bundle.thresholds[0], acquainted),
    }


def by_acquaintance(scored: Scored, band: Band, known: Acquaintance) -> dict[str, Any]:
    """Error and catch on the calls of groups that the model may have learnt from, and on those of others; None where
    it is not known which are which."""
    told: dict[str, Any] = {"seen_told_by": known.told_by, "seen": None, "unseen": None}
    if known.seen is None:
        return told
    raw = aligned_scores(scored.raw, scored.stratum, band)
    for name, rows in (("seen", scored.rows & known.seen), ("unseen", scored.rows & ~known.seen)):
        found = certificate("these calls", raw[rows & ~scored.judged.nuisance], band.threshold, TARGETS[0][1])
        told[name] = {
            "calls": int(rows.sum()),
            "benign_calls": found.benign_calls,
            "false_calls": found.false_calls,
            "bound": found.bound,
            "catch": catch_of(scored, raw, band.threshold, rows),
        }
    return told


def scored_calls(dataset: Dataset, X: Array, raw: Array, acquainted: Acquaintance) -> Scored:  # noqa: N803
    """Judge on every call after the first 7 days, and on the lives of the numbers born after them; apart, of those born
    after the labels of the training, in groups that it may have learnt from."""
    start = dataset.calls["start"].to_numpy()
    (caller, _), (callee, _) = codes(dataset.calls["caller"]), codes(dataset.calls["callee"])
    known = judging_labels(dataset, caller, read_label_policy())
    begin = judged_span(dataset.calls)[0]
    lives = calls_of_new_callers(begin, known, caller, start)
    newer = calls_of_new_callers(max(begin, acquainted.labels_made), known, caller, start)
    return Scored(
        X[:, RULE],
        raw,
        strata_of(X),
        known,
        caller,
        callee,
        start,
        (start >= begin) & known.known,
        lives,
        0,
        None if acquainted.seen is None else newer & acquainted.seen,
    )


def best_rule(scored: Scored) -> Band:
    """The lowest threshold on calls per hour whose benign error on these calls is within the target."""
    name, target = TARGETS[0]
    values = scored.rule[scored.rows & ~scored.judged.nuisance]
    threshold = choose_threshold(values, target, margin=1.0)
    return Band(name, threshold, certificate("these calls", values, threshold, target))
