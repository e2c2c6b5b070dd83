"""Adapts a signed bundle to a network: from its calls and what is known of its callers to the parts of a bundle.

Nothing moves further than the evidence goes. Own trees are grown on the base's scores, from checks, or from complaints
where checks are few. They stay only if more nuisance calls would be caught at the same rate of innocent calls flagged,
on callers that they did not learn from. Only checks lower a threshold. If answers contradict each other or the score,
the base stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.files.progress import Progress, silent
from callsieve.features.online.feeds import COMPLETE, UNKNOWN_FEED, feed_of_table
from callsieve.serving.bundle.metadata import Band, Calibration
from callsieve.serving.rules.strata import STRATA
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.sources import Source, sources_of
from callsieve.training.evidence.callers import Callers, posterior
from callsieve.training.evidence.funnel import Covered
from callsieve.training.model.bands import ChosenBands, targets_of
from callsieve.training.model.calibration import Calibrations, calibrate_probable
from callsieve.training.model.certify import FeedScores, certificate, strata
from callsieve.training.model.fit import FitRows
from callsieve.training.model.flagged import ChosenFlags, choose_flags
from callsieve.training.model.folds import MAX_CHOSEN_ON, random_rows
from callsieve.training.model.matrix import array_hash, feature_columns
from callsieve.training.model.pool import LastFolder, Pool, facts_of, pool_of
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import MAX_LEARNT_ROWS, FitFigures, Trained, golden_rows, make_metadata

from .adapted_figures import AdaptedFigures, Learnt, Side
from .answers import Answers, read_sheets, with_answers
from .asking import CHECKS, Drawn, draw, maybe_forged, second_looks
from .base import Base
from .choice import (
    BELOW_EVEN,
    FEWEST_CHECKS,
    Basis,
    Checked,
    Choice,
    answers_of,
    choose_model,
    probable_catch,
    weights_of,
)
from .network import Network, allowed_calls, score_network
from .own_trees import MEMBERS, stacked_model
from .thresholds import estimate


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The start of an adaptation, beside the calls.

    answers: filled-in sheets of earlier rounds, as `read_sheets` returns them. checks: how many callers to draw.

    >>> from callsieve.training import Adaptation, read_base
    >>> Adaptation(read_base()).checks
    175
    """

    base: Base
    answers: Answers = field(default_factory=lambda: read_sheets([]))
    checks: int = CHECKS


@dataclass(frozen=True, slots=True)
class Adapted:
    """A finished adaptation: figures, callers, probabilities of nuisance, and whom to check next.

    drawn: callers to check for the first time. again: places of callers to check a second time. base_raw,
    base_bands: scores of the judged calls by the base, and its bands on such records.
    """

    figures: AdaptedFigures
    callers: Callers
    nuisance: Array
    drawn: Drawn
    again: Array
    base_raw: Array
    base_bands: tuple[Band, ...]


def adapt(
    data: Dataset | Sequence[Source], settings: Settings, adaptation: Adaptation, progress: Progress | None = None
) -> tuple[Trained, Adapted]:
    """Adapts a bundle to the calls of one folder.

    Returns: the parts of the new bundle with everything that judging needs, and the adaptation.
    """
    report, base = progress or silent, adaptation.base
    sources = sources_of(data)
    if len(sources) != 1:
        raise ValueError(f"adapt: expected the calls of one network in one folder, got {len(sources)} folders")
    settings = of_base(settings, base)
    report("features", 0.0)
    dataset = with_answers(sources[0].read(), adaptation.answers)
    recorded = feed_of_table(dataset.calls)
    if recorded == UNKNOWN_FEED:
        raise ValueError(
            "calls: some records lack what others have: trunks, ring times, unanswered calls or incoming calls; "
            "give records of one system, or leave the column out"
        )
    network = score_network(dataset, settings, base, recorded)
    report("fit", 0.5)
    adapted = adapt_network(network, sources[0], settings, adaptation)
    report("certify", 1.0)
    return adapted


def adapt_network(
    network: Network, source: Source, settings: Settings, adaptation: Adaptation
) -> tuple[Trained, Adapted]:
    """Adapts a bundle to scored calls, whose data set holds the answers of checks."""
    draws, recorded = adaptation.answers.asked, feed_of_table(network.dataset.calls)
    base = adaptation.base.at_level(recorded, network.raw)
    even = base.even_score(recorded)
    drawn = np.isin(network.callers.token.astype(str), draws["number"].to_numpy(dtype=str))
    nuisance = posterior(network.callers, network.highest, even, drawn)
    weights, checked = weights_of(network, nuisance, draws)
    choice, why = choose_model(network, nuisance, weights, settings, Basis(even, base.bands(recorded), settings.target))
    trained = trained_parts(network, choice, nuisance, source, settings, base)
    figures: AdaptedFigures = {
        "base": base.bundle.model_id,
        "manifest": base.manifest,
        "signed_by": base.bundle.signed_by,
        "learnt": learnt_by(choice),
        "why": why,
        "missing": max(FEWEST_CHECKS - answers_of(network), 0) if choice is None else 0,
        "asked": int(draws["number"].nunique()),
        "absent": int((~np.isin(draws["number"].unique().astype(str), network.callers.token.astype(str))).sum()),
        "answered": int((network.callers.looks > 0).sum()),
        "twice": int((network.callers.looks > 1).sum()),
        "changed": int(network.callers.changed.sum()),
        "complaints": int(network.callers.reports.sum()),
        "left_out": int(
            (maybe_forged(network.dataset.calls, network.callers.token) & np.isfinite(network.highest)).sum()
        ),
        "covered": funnel(network, nuisance),
        "before": side(network, network.raw, base.bands(recorded), nuisance, checked),
        "after": side(
            network, network.raw if choice is None else choice.raw, trained.card.thresholds, nuisance, checked
        ),
    }
    to_check, again = checks_to_ask(network, nuisance, even, adaptation, settings)
    return trained, Adapted(figures, network.callers, nuisance, to_check, again, network.raw, base.bands(recorded))


def of_base(settings: Settings, base: Base) -> Settings:
    """Returns the settings of an adaptation of a bundle: its features, and its model id."""
    return replace(settings, features=base.bundle.features, base=base.bundle.model_id)


def learnt_by(choice: Choice | None) -> Learnt:
    """Returns what was learnt, in words."""
    if choice is None:
        return "nothing"
    return "threshold" if choice.trees is None else "threshold and trees"


def checks_to_ask(
    network: Network, nuisance: Array, even: float, adaptation: Adaptation, settings: Settings
) -> tuple[Drawn, Array]:
    """Returns the callers to check: a first round, then those that need a second look.

    A few callers that somebody checked before are no first round: without a sheet, others are drawn beside them.
    """
    callers = network.callers
    allowed = allowed_calls(network, nuisance, settings.target)
    calls = network.scored(network.raw).above(even - BELOW_EVEN, len(nuisance))
    unasked = adaptation.answers.asked.empty and answers_of(network) < FEWEST_CHECKS
    if unasked or not callers.looks.any():
        forged = maybe_forged(network.dataset.calls, callers.token)
        open_ = np.where(callers.trusted | (callers.looks > 0) | forged, 0, calls)
        return draw(open_, nuisance, allowed, adaptation.checks, settings.judging_seed), np.zeros(0, dtype=np.int64)
    expected = posterior(callers.unanswered(), network.highest, even)
    return Drawn(np.zeros(0, dtype=np.int64), np.zeros(0)), second_looks(callers, expected, calls, allowed)


def side(network: Network, raw: Array, bands: Sequence[Band], nuisance: Array, checked: Checked) -> Side:
    """Returns the figures of a model on the network. In the bound, callers that no answer speaks for are innocent."""
    threshold = min((band.threshold_for(word) for band in bands[:1] for word in STRATA), default=np.inf)
    flagged = network.scored(raw).above(threshold, len(nuisance))
    innocent = float((1 - nuisance)[network.caller].sum())
    rate = bound = None
    answered, silent = checked.answered, checked.silent
    if len(answered.caller):
        good = nuisance[answered.caller] < 0.5
        rate = estimate(flagged[answered.caller], good, answered.probability).flagged / innocent
        good = np.concatenate([good, np.ones(len(silent.caller), dtype=bool)])
        callers = np.concatenate([answered.caller, silent.caller])
        most = estimate(flagged[callers], good, np.concatenate([answered.probability, silent.probability])).bound
        bound = min(most / innocent, 1.0) if flagged.any() else 0.0
    caught = probable_catch(network, raw, threshold, nuisance)
    return {"threshold": None if np.isinf(threshold) else threshold, "caught": caught, "flagged": rate, "bound": bound}


def funnel(network: Network, nuisance: Array) -> dict[str, Covered]:
    """Returns callers and calls from all to those that evidence decides."""
    callers, scored = network.callers, np.isfinite(network.highest)
    open_ = ~callers.innocent & ~callers.known_nuisance
    kinds = {
        "all": scored,
        "trusted": callers.trusted & scored,
        "known innocent": callers.innocent & ~callers.trusted & scored,
        "known nuisance": callers.known_nuisance & scored,
        "probably innocent": open_ & (nuisance < 0.5) & scored,
        "probably nuisance": open_ & (nuisance >= 0.5) & scored,
    }
    calls = np.bincount(network.caller, minlength=len(nuisance))
    return {name: {"callers": int(rows.sum()), "calls": int(calls[rows].sum())} for name, rows in kinds.items()}


def parts_for(
    network: Network, choice: Choice | None, nuisance: Array, base: Base, recorded: str, target: float
) -> tuple[tuple[Band, ...], Calibration]:
    """Returns bands and calibration: those of the base unless something was learnt.

    Where the base has no bands for such records, its bands abstain for every call.
    """
    if choice is not None:
        return bands_for(network, choice, target), calibrate_probable(choice.raw, nuisance[network.caller])
    bands = base.bands(recorded)
    if not bands:
        bands = tuple(structs.replace(band, abstains=STRATA, raised={}) for band in base.bundle.thresholds)
    return bands, base.calibration(recorded)


def bands_for(network: Network, choice: Choice, target: float) -> tuple[Band, ...]:
    """Returns the bands at the chosen thresholds, certified on the calls of callers that evidence calls innocent."""
    innocent = (network.callers.innocent & ~network.callers.trusted)[network.caller]
    words = np.array(STRATA)[network.stratum]
    abstains = tuple(word for word in STRATA if word not in set(words.tolist()))
    bands = []
    for (name, rate), threshold in zip(targets_of(target), choice.thresholds, strict=True):
        proof = certificate("evidence", choice.raw[innocent], threshold, rate)
        by_stratum = strata("evidence", choice.raw[innocent], threshold, rate, words[innocent])
        bands.append(Band(name, threshold, proof, by_stratum, abstains))
    return tuple(bands)


def trained_parts(
    network: Network, choice: Choice | None, nuisance: Array, source: Source, settings: Settings, base: Base
) -> Trained:
    """Returns the parts of the adapted bundle, with the calls that judge it."""
    recorded = feed_of_table(network.dataset.calls)
    bands, calibration = parts_for(network, choice, nuisance, base, recorded, settings.target)
    trees = None if choice is None else choice.trees
    text = base.texts[base.model(recorded)]
    models: dict[str, str] = {"model": text if trees is None else stacked_model(text, trees.texts)}
    models |= base.class_texts()
    facts, pool = facts_of(source, network.dataset, network.folds), judged_pool(network, settings)
    part = np.zeros(len(nuisance), dtype=np.int64) if trees is None else trees.held_out
    cv_fold = part[network.caller]
    columns, raw = feature_columns(settings.features), network.raw if choice is None else choice.raw
    if choice is None:
        flags = ChosenFlags({name: band for name, band in base.bundle.flags.items() if name == recorded}, {})
    else:
        flags = choose_flags({COMPLETE: FeedScores(raw, network.stratum)}, {COMPLETE: bands}, pool, recorded)
    figures = FitFigures(
        trees={name: model.count("\nTree=") for name, model in models.items()},
        classes={name: list(words) for name, words in base.bundle.classes.items()},
        members=MEMBERS if trees else 0,
        by_folder=False,
        parts=MEMBERS if trees else 1,
        calibration="none" if choice is None else "logistic",
        groups=facts.groups,
        rows={"train": min(len(network.rows), MAX_LEARNT_ROWS)},
        sides={"train": array_hash([network.rows, nuisance, network.raw])},
        feeds={},
        flags=flags.figures,
    )
    chosen, calibrations = ChosenBands(bands, {}, {}, flags), Calibrations(calibration, figures.calibration, None)
    named = {"model": base.bundle.model_id, "signed_by": base.bundle.signed_by, "learnt": learnt_by(choice)}
    return Trained(
        settings=settings,
        folders=(facts,),
        pool=pool,
        X=network.X,
        cv_fold=cv_fold,
        raw=raw,
        stratum=network.stratum,
        shift=np.zeros(1),
        learnt=FitRows(network.X[:0], cv_fold[:0], None),
        learnt_fold=cv_fold[:0],
        last=LastFolder(network.dataset, network.folds, network.feed, 0),
        models=models,
        card=make_metadata([facts], recorded, settings, chosen, calibrations, figures, base=named),
        golden_rows=golden_rows(network.X, pool, columns),
        fitted=figures,
        learning_curve=[],
    )  # fmt: skip


def judged_pool(network: Network, settings: Settings) -> Pool:
    """Returns the calls that judge the model: by the truth if it is known, else by what evidence decides."""
    folds, rows = network.folds, network.rows
    every = np.ones(len(folds.start), dtype=bool)
    judged = folds.judged
    if judged.source != "truth":
        callers = network.callers
        known = (callers.innocent | callers.known_nuisance) & ~callers.trusted
        judged = replace(judged, known=known[folds.caller], nuisance=callers.known_nuisance[folds.caller])
    chosen = random_rows(rows, MAX_CHOSEN_ON, len(every), settings.judging_seed) & judged.known
    flags = {"trained": ~every, "choose": chosen, "certify": every & judged.known}
    pool = pool_of(network.dataset, replace(folds, judged=judged), rows, 0, flags)
    began = folds.start >= folds.plan.train[0]
    first = np.full(int(folds.caller.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, folds.caller, folds.start)
    new = judged.known & judged.nuisance & (first[folds.caller] >= folds.plan.train[0]) & began
    return replace(pool, new=new[rows], scored=np.ones(len(rows), dtype=bool))
