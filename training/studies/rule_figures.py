"""What each rule is worth on calls whose truth is known, and apart from it, what the model is.

A call that a rule hits is no catch of the model, and where a bundle is given, its certified band is told over all calls
and over those that no rule hits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import factorize, to_strings
from callsieve.serving.batch.complaint_rows import read_complaints, read_parquet
from callsieve.serving.batch.register_join import IndexJoins, column_of
from callsieve.serving.batch.score import open_registers, open_scorer, score_calls
from callsieve.serving.batch.table_rules import compute_rule_columns, rules_met
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.rules.policy import Policy, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_columns, table_actions
from callsieve.serving.rules.rules import ACTION_RULES
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.dataset import truth_of_calls
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.log.looks import Ledger, count_look
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import upper_bound
from callsieve.training.model.split import judged_span

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A share of which `part` in `whole` were seen, with its exact two-sided interval (Clopper and Pearson 1934)."""

    part: int
    whole: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Told:
    """Calls whose truth is known: `nuisance`, the `slice` they are of, how and by which trick they were made."""

    nuisance: Array
    slice: Array
    mode: Array
    attack: Array
    caller: Array


def share(part: int, whole: int) -> Share:
    """A share and its interval.

    >>> share(0, 0)
    Share(part=0, whole=0, rate=None, low=0.0, high=1.0)
    """
    tail = 1 - (1 - CONFIDENCE) / 2
    low, high = 1 - upper_bound(whole - part, whole, tail), upper_bound(part, whole, tail)
    return Share(part, whole, part / whole if whole else None, max(low, 0.0) if part else 0.0, high)


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
) -> dict[str, Any]:
    """Each rule on the calls of a world after its first 7 days, which only fill the windows.

    Args:
        data: folder with calls and truth, declared for evaluation; registers are read from it, too, if no other folder
            is given.
        ledger: gets a touch of the judged calls before a bundle scores them; None where nobody counts.
    Raises:
        ValueError: in one line, if a file is not what it must be.
    """
    kept = expiry_filter(require_purpose(data, "evaluation"))
    calls = kept(read_keyed(data / "calls.parquet").sort_by("start"), "calls")
    truth = truth_of_calls(read_parquet(data / "truth.parquet"), calls)
    asked, chosen = open_registers(registers or data, key, "evaluation"), read_policy(policy)
    judged = _judged_rows(calls)
    told = _told(calls, truth, judged)
    progress("vectors", 0.2)
    raw = None
    if bundle is None:
        columns = compute_rule_columns(calls, threads)
    else:
        scorer = open_scorer(bundle, trust, policy)
        touched = count_look(ledger, scorer.bundle, fingerprint(calls), judged_span(calls), "rules")
        complaints = data / "complaints.parquet"
        scores, rows = score_calls(
            scorer, calls, read_complaints(complaints) if complaints.exists() else None, threads=threads
        )
        raw, columns = scores.raw[judged], rule_columns(rows)
    progress("rules", 0.7)
    met = rules_met(calls, columns, asked, chosen.terms)[judged]
    found: dict[str, Any] = {
        "data": str(data),
        "policy": chosen.version,
        "registers": 0 if asked is None else asked.rows,
        "calls": len(judged),
        "nuisance": int(told.nuisance.sum()),
        "rules": {name: of_rule(met & bit != 0, told) for name, bit in BITS.items()},
    }
    banded = np.zeros(len(judged), dtype=np.int8) if raw is None else scores.band_action[judged]
    found["regions"] = by_region(regions_of(calls, asked)[judged], told, banded, met, chosen)
    if raw is not None:
        band = scorer.bundle.thresholds[0]
        found["model"] = {"id": scorer.bundle.model_id, "band": band.name, "certificate": asdict(band.certificate)}
        found["model"] |= touched
        held = aligned_scores(raw, strata_of(rows[judged]), band)
        found["model"] |= apart(held >= band.threshold, met, told, chosen)
    return found


def _judged_rows(calls: pa.Table) -> Array:
    """Calls with full windows; one that was recorded twice counts once."""
    start = calls["start"].to_numpy()
    once = np.zeros(len(start), dtype=bool)
    once[np.unique(calls["call"].to_numpy(), return_index=True)[1]] = True
    return np.flatnonzero((start >= judged_span(calls)[0]) & once)


def _told(calls: pa.Table, truth: pa.Table, judged: Array) -> Told:
    return Told(
        nuisance=np.asarray(truth["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)[judged],
        slice=_words(truth, "slice")[judged],
        mode=_words(truth, "mode")[judged],
        attack=_words(truth, "attack")[judged],
        caller=factorize(calls["caller"])[0][judged],
    )


def of_rule(hit: Array, told: Told) -> dict[str, Any]:
    """A rule's hits against the truth; intervals take calls for independent, which those of one caller are not.

    By caller, a hit caller is one with a call that was hit, and it is nuisance if one of its calls is.
    """
    true, callers = hit & told.nuisance, np.unique(told.caller[hit])
    guilty = np.unique(told.caller[told.nuisance])
    found = np.intersect1d(callers, guilty)
    return {
        "calls": int(hit.sum()),
        "precision": asdict(share(int(true.sum()), int(hit.sum()))),
        "recall": asdict(share(int(true.sum()), int(told.nuisance.sum()))),
        "caller_precision": asdict(share(len(found), len(callers))),
        "caller_recall": asdict(share(len(found), len(guilty))),
        "benign_slices": _by(told.slice, hit, ~told.nuisance),
        "nuisance_modes": _by(told.mode, hit, told.nuisance),
        "attacks": _by(told.attack, hit, told.nuisance & (told.attack != "")),
    }


def regions_of(calls: pa.Table, registers: Registers | None) -> Array:
    """The listed region of each caller, "" for none."""
    if registers is None or "risk_regions" not in registers.tables:
        return np.full(calls.num_rows, "")
    keys = (column_of(calls, "caller"), column_of(calls, "caller_block"))
    place = IndexJoins(registers).in_effect("risk_regions", calls["start"].to_numpy(), *keys)
    names = np.array([*registers.columns["risk_regions"]["region"], ""])
    return np.asarray(names[np.maximum(place, -1)])


def by_region(region: Array, told: Told, banded: Array, met: Array, policy: Policy) -> dict[str, Any]:
    """What a listed region does to the innocent callers of it, and of all others, "": whose calls are not passed.

    `with_rule` by the policy as it is, `without_rule` if it had no rule on regions (the ablation), `by_model` by bands.
    """
    done = {"with_rule": table_actions(policy, banded, met), "by_model": banded}
    done["without_rule"] = table_actions(policy, banded, met & ~BITS["risk_region"])
    found: dict[str, Any] = {}
    for name in np.unique(region):
        mine = region == name
        innocent = mine & ~told.nuisance
        shares = {how: share(int((innocent & (action > 0)).sum()), int(innocent.sum())) for how, action in done.items()}
        shares["nuisance"] = share(int((mine & told.nuisance).sum()), int(mine.sum()))
        found[str(name)] = {"callers": len(np.unique(told.caller[innocent]))}
        found[str(name)] |= {how: asdict(one) for how, one in shares.items()}
    return found


def apart(caught: Array, met: Array, told: Told, policy: Policy) -> dict[str, Any]:
    """The model's band beside the rules: none of the one's catches is counted as the other's.

    Told are catches and false ones of the band over all calls, as the certificate is of, and over those that no rule
    decides: which the policy does nothing about by a rule.
    """
    acting = sum(BITS[name] for name in ACTION_RULES if policy.of_rule(name) != "pass")
    ruled = (met & acting) != 0
    told_of = {}
    for name, rows in (("nuisance", told.nuisance), ("benign", ~told.nuisance)):
        told_of[name] = {
            "model_alone": int((rows & caught & ~ruled).sum()),
            "rules_alone": int((rows & ~caught & ruled).sum()),
            "both": int((rows & caught & ruled).sum()),
            "neither": int((rows & ~caught & ~ruled).sum()),
        }
    shares = {}
    for name, rows in (("catch", told.nuisance), ("false", ~told.nuisance)):
        for which, some in (("", rows), ("_without_rule_hits", rows & ~ruled)):
            shares[name + which] = asdict(share(int((some & caught).sum()), int(some.sum())))
    return told_of | shares


def _by(names: Array, hit: Array, rows: Array) -> dict[str, dict[str, Any]]:
    """Share of each name's calls that were hit; names without a hit are left out."""
    told = {str(name): rows & (names == name) for name in np.unique(names[rows & hit])}
    shares = {name: share(int((of & hit).sum()), int(of.sum())) for name, of in told.items()}
    return {name: asdict(one) for name, one in sorted(shares.items(), key=lambda each: -each[1].part)}


def _words(truth: pa.Table, name: str) -> Array:
    if name not in truth.column_names:
        return np.full(truth.num_rows, "")
    return to_strings(truth[name])


def _plain(one: dict[str, Any]) -> str:
    return "-" if one["rate"] is None else f"{one['rate']:.1%}"


def _interval(one: dict[str, Any]) -> str:
    return "-" if one["rate"] is None else f"{one['rate']:.1%} ({one['low']:.1%}-{one['high']:.1%})"
