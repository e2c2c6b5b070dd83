"""Judges each rule on calls with a known truth, and the model apart from the rules.

A rule's hit never counts as a catch of the model. With a bundle, the figures of its certified band are given over all
calls and over the calls that no rule decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.files.parquet_file import read_parquet
from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import factorize, to_strings
from callsieve.serving.batch.file_scoring import open_registers, open_scorer, score_calls
from callsieve.serving.batch.own_column_join import OWN_FILE, read_own_columns
from callsieve.serving.batch.table_rules import compute_rule_columns, rules_met
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.rules.policy import Policy, read_policy
from callsieve.serving.rules.register_join import IndexJoins, column_of
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_columns, table_actions
from callsieve.serving.rules.rules import ACTION_RULES
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.dataset import truth_of_calls
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.judging.figures import Rate
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import CertificateFigures, certificate_figures, upper_bound
from callsieve.training.model.split import judged_span
from callsieve.training.oversight.log.looks import Ledger, count_look
from callsieve.training.oversight.log.payload_types import Look

CONFIDENCE = 0.95


class Share(Rate):
    """`part` of `whole`, with the exact two-sided 95 % interval of the share (Clopper and Pearson 1934)."""

    part: int
    whole: int


class HitFigures(TypedDict):
    """The hits of one rule against the truth, by call and by caller.

    `benign_slices`, `nuisance_modes` and `attacks`: the share of each name's calls that were hit, most hits first.
    """

    calls: int
    precision: Share
    recall: Share
    caller_precision: Share
    caller_recall: Share
    benign_slices: dict[str, Share]
    nuisance_modes: dict[str, Share]
    attacks: dict[str, Share]


class RegionFigures(TypedDict):
    """The innocent callers of a listed region, and the share of their calls that do not pass.

    `with_rule`: under the policy. `without_rule`: without its rule on regions. `by_model`: by bands alone.
    """

    callers: int
    nuisance: Share
    with_rule: Share
    without_rule: Share
    by_model: Share


class HitsApart(TypedDict):
    """Calls that the model's band, the acting rules, both or neither flag."""

    model_alone: int
    rules_alone: int
    both: int
    neither: int


class BandFigures(TypedDict):
    """Hits of a band apart from those of the rules; `catch` and `false` are over all calls, or those without a rule."""

    nuisance: HitsApart
    benign: HitsApart
    catch: Share
    catch_without_rule_hits: Share
    false: Share
    false_without_rule_hits: Share


class ModelBesideRules(BandFigures, Look):
    """The certified band of a model on the judged calls; `certificate` is as in the bundle."""

    id: str
    band: str
    certificate: CertificateFigures


class RuleFigures(TypedDict):
    """Each rule against the truth; `regions` by name, "" for calls of no listed region; `model` with a bundle."""

    data: str
    policy: str
    registers: int
    calls: int
    nuisance: int
    rules: dict[str, HitFigures]
    regions: dict[str, RegionFigures]
    model: NotRequired[ModelBesideRules]


@dataclass(frozen=True, slots=True)
class CallTruth:
    """The truth of each call: `nuisance`, its `slice`, its mode of calling, the attack it is part of, its caller."""

    nuisance: Array
    slice: Array
    mode: Array
    attack: Array
    caller: Array


def share(part: int, whole: int) -> Share:
    """Returns a share and its interval.

    >>> share(0, 0)
    {'part': 0, 'whole': 0, 'rate': None, 'low': 0.0, 'high': 1.0}
    """
    tail = 1 - (1 - CONFIDENCE) / 2
    low, high = 1 - upper_bound(whole - part, whole, tail), upper_bound(part, whole, tail)
    rate = part / whole if whole else None
    return {"part": part, "whole": whole, "rate": rate, "low": max(low, 0.0) if part else 0.0, "high": high}


def rule_figures(
    data: Path,
    *,
    bundle: Path | None,
    trust: Path | None,
    policy: Path | None,
    key: Path | None,
    registers: Path | None,
    ledger: Ledger | None,
    threads: int,
    progress: Progress,
) -> RuleFigures:
    """Judges each rule on the calls of a world after its first 7 days, which only fill the windows."""
    drop_expired = expiry_filter(require_purpose(data, "evaluation"), data)
    calls = drop_expired(read_keyed(data / "calls.parquet").sort_by("start"), "calls")
    truth = truth_of_calls(read_parquet(data / "truth.parquet"), calls)
    opened, chosen = open_registers(registers or data, key, "evaluation"), read_policy(policy)
    judged = _judged_rows(calls)
    truths = CallTruth(
        nuisance=np.asarray(truth["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)[judged],
        slice=_words(truth, "slice")[judged],
        mode=_words(truth, "mode")[judged],
        attack=_words(truth, "attack")[judged],
        caller=factorize(calls["caller"])[0][judged],
    )
    progress("vectors", 0.2)
    raw = None
    if bundle is None:
        columns = compute_rule_columns(calls, threads)
    else:
        scorer = open_scorer(bundle, trust, policy)
        looks = count_look(ledger, scorer.bundle, fingerprint(calls), judged_span(calls), "rules", data)
        own = data / OWN_FILE
        scores, rows = score_calls(scorer, calls, read_own_columns(own) if own.exists() else None, threads=threads)
        raw, columns = scores.raw[judged], rule_columns(rows)
    progress("rules", 0.7)
    hits = rules_met(calls, columns, opened, chosen.terms)[judged]
    banded = np.zeros(len(judged), dtype=np.int8) if raw is None else scores.band_action[judged]
    figures: RuleFigures = {
        "data": str(data),
        "policy": chosen.version,
        "registers": 0 if opened is None else opened.rows,
        "calls": len(judged),
        "nuisance": int(truths.nuisance.sum()),
        "rules": {name: of_rule(hits & bit != 0, truths) for name, bit in BITS.items()},
        "regions": by_region(regions_of(calls, opened)[judged], truths, banded, hits, chosen),
    }
    if raw is not None:
        band = scorer.bundle.thresholds[0]
        aligned = aligned_scores(raw, strata_of(rows[judged]), band)
        figures["model"] = {
            "id": scorer.bundle.model_id,
            "band": band.name,
            "certificate": certificate_figures(band.certificate),
            **looks,
            **model_apart(aligned >= band.threshold, hits, truths, chosen),
        }
    return figures


def _judged_rows(calls: pa.Table) -> Array:
    start = calls["start"].to_numpy()
    first = np.zeros(len(start), dtype=bool)
    first[np.unique(calls["call"].to_numpy(), return_index=True)[1]] = True
    return np.flatnonzero((start >= judged_span(calls)[0]) & first)


def of_rule(hit: Array, truths: CallTruth) -> HitFigures:
    """Returns a rule's hits against the truth; intervals treat calls as independent, although one caller's are not.

    By caller: a caller is hit if one of its calls is, and nuisance if one of its calls is.
    """
    true, callers = hit & truths.nuisance, np.unique(truths.caller[hit])
    guilty = np.unique(truths.caller[truths.nuisance])
    hit_nuisance = np.intersect1d(callers, guilty)
    return {
        "calls": int(hit.sum()),
        "precision": share(int(true.sum()), int(hit.sum())),
        "recall": share(int(true.sum()), int(truths.nuisance.sum())),
        "caller_precision": share(len(hit_nuisance), len(callers)),
        "caller_recall": share(len(hit_nuisance), len(guilty)),
        "benign_slices": _by(truths.slice, hit, ~truths.nuisance),
        "nuisance_modes": _by(truths.mode, hit, truths.nuisance),
        "attacks": _by(truths.attack, hit, truths.nuisance & (truths.attack != "")),
    }


def regions_of(calls: pa.Table, registers: Registers | None) -> Array:
    """Returns the listed region of each call's caller, "" for none."""
    if registers is None or "risk_regions" not in registers.tables:
        return np.full(calls.num_rows, "")
    keys = (column_of(calls, "caller"), column_of(calls, "caller_block"))
    place = IndexJoins(registers).in_effect("risk_regions", calls["start"].to_numpy(), *keys)
    names = np.array([*registers.columns["risk_regions"]["region"], ""])
    return np.asarray(names[np.maximum(place, -1)])


def by_region(region: Array, truths: CallTruth, banded: Array, hits: Array, policy: Policy) -> dict[str, RegionFigures]:
    """Returns, for each listed region and for all others (""), the share of innocent calls that do not pass.

    `with_rule`: under the policy as it is. `without_rule`: without its rule on regions (the ablation). `by_model`: by
    bands alone.
    """
    done = {"with_rule": table_actions(policy, banded, hits), "by_model": banded}
    done["without_rule"] = table_actions(policy, banded, hits & ~BITS["risk_region"])
    regions: dict[str, RegionFigures] = {}
    for name in np.unique(region):
        mine = region == name
        innocent = mine & ~truths.nuisance
        stopped = {
            how: share(int((innocent & (action > 0)).sum()), int(innocent.sum())) for how, action in done.items()
        }
        regions[str(name)] = {
            "callers": len(np.unique(truths.caller[innocent])),
            "nuisance": share(int((mine & truths.nuisance).sum()), int(mine.sum())),
            "with_rule": stopped["with_rule"],
            "without_rule": stopped["without_rule"],
            "by_model": stopped["by_model"],
        }
    return regions


def model_apart(caught: Array, hits: Array, truths: CallTruth, policy: Policy) -> BandFigures:
    """Counts catches of the model's band and of the rules apart, so that neither is credited with the other's.

    Catch rate and false positive rate of the band are given over all calls, as in the certificate, and over the calls
    that no rule acts on.
    """
    acting = sum(BITS[name] for name in ACTION_RULES if policy.of_rule(name) != "pass")
    ruled = (hits & acting) != 0
    free = ~ruled

    def apart(rows: Array) -> HitsApart:
        return {
            "model_alone": int((rows & caught & free).sum()),
            "rules_alone": int((rows & ~caught & ruled).sum()),
            "both": int((rows & caught & ruled).sum()),
            "neither": int((rows & ~caught & free).sum()),
        }

    def caught_share(rows: Array) -> Share:
        return share(int((rows & caught).sum()), int(rows.sum()))

    nuisance, benign = truths.nuisance, ~truths.nuisance
    return {
        "nuisance": apart(nuisance),
        "benign": apart(benign),
        "catch": caught_share(nuisance),
        "catch_without_rule_hits": caught_share(nuisance & free),
        "false": caught_share(benign),
        "false_without_rule_hits": caught_share(benign & free),
    }


def _by(names: Array, hit: Array, rows: Array) -> dict[str, Share]:
    calls = {str(name): rows & (names == name) for name in np.unique(names[rows & hit])}
    shares = {name: share(int((of_name & hit).sum()), int(of_name.sum())) for name, of_name in calls.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]["part"]))


def _words(truth: pa.Table, name: str) -> Array:
    if name not in truth.column_names:
        return np.full(truth.num_rows, "")
    return to_strings(truth[name])
