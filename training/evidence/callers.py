"""Evidence about each caller of a network beside its score: checks, complaints, lists, and who calls it.

Each ground adds to a caller's evidence, in log-odds of nuisance. An unreported caller is not innocent by that; but one
with many answered calls and no complaint is unlikely to be nuisance where nuisance callers do get complaints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit, logit

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import factorize
from callsieve.training.data.credibility import LEAST_WEIGHT, about_current_holders, weighted_complaints
from callsieve.training.data.labels import label_numbers

if TYPE_CHECKING:
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.data.label_policy import LabelPolicy

WRONG_ANSWERS = 0.03  # share of the answers to checks that are assumed to be wrong
ANSWER = float(logit(1 - WRONG_ANSWERS))  # evidence of one answer
LISTED = 6.0  # evidence of an entry on a list, such as that of trusted numbers
# Share of nuisance callers about whom nobody ever complains. So the lack of complaints is evidence of at most its
# logarithm: -1.6.
NEVER_REPORTED = 0.2
# A caller is called as people are if at least so many people, and at least this share of all with whom it has calls,
# called it first. In two simulated worlds that holds for 93 % of innocent callers and for 1 to 3 % of nuisance ones.
CALLED_FIRST_BY, CALLED_FIRST_SHARE, CALLED_FIRST = 3, 0.2, -3.5
KNOWN = 3.5  # evidence from which a caller counts as known: more than one answer that nothing else supports
SILENCE = 7.0  # against a caller with so few complaints; at the usual rate 1 nuisance caller in 1,000 has so few
SLOPE, SLOPE_SD, SHIFT_SD = 0.8, 0.3, 2.0  # of the prior log-odds on the base's highest score, before checks
UNSCORED = -10.0  # stands for the highest score of a caller without a scored call
ABOVE_EVEN = 1.3  # a caller's highest score lies above that of a typical call of it


@dataclass(frozen=True, slots=True)
class Callers:
    """The callers of a network, each array of shape (callers,).

    token: of the number. calls: in the judged span. answered: of these. reports: complaints against it, one a
    reporter. called_first_by: people who called it without having been called. trusted: whether a list says it is
    innocent. silence: log-likelihood ratio of its complaints, as if no kind of nuisance caller were never reported.
    checked: answers "nuisance" less answers "innocent" of all checks. looks: answers of checks. changed: whether
    answers contradict each other. evidence: log-odds of nuisance from everything but the score.
    """

    token: Array
    calls: Array
    answered: Array
    reports: Array
    called_first_by: Array
    trusted: Array
    silence: Array
    checked: Array
    looks: Array
    changed: Array
    evidence: Array

    @property
    def innocent(self) -> Array:
        """Whether evidence says that the caller is innocent; bool."""
        return np.asarray(self.trusted | (self.evidence <= -KNOWN))

    @property
    def silent(self) -> Array:
        """Whether a reported kind of nuisance caller with so many answered calls would have more complaints; bool."""
        return np.asarray(self.silence <= -SILENCE)

    @property
    def nuisance(self) -> Array:
        """Whether evidence says that the caller is nuisance; bool."""
        return np.asarray(~self.trusted & (self.evidence >= KNOWN))

    @property
    def known_nuisance(self) -> Array:
        """Whether evidence or a check says that the caller is nuisance, and no evidence that it is innocent; bool."""
        return np.asarray(~self.innocent & (self.nuisance | (self.checked > 0)))

    def unanswered(self) -> Callers:
        """Returns the callers as if nobody had checked any."""
        nothing = np.zeros_like(self.checked)
        evidence = self.evidence - ANSWER * self.checked
        return replace(self, checked=nothing, looks=nothing, changed=nothing > 0, evidence=evidence)


def callers_of(dataset: Dataset, begin: int, cutoff: int, policy: LabelPolicy, least: Array, most: Array) -> Callers:
    """Gathers what is known of each caller, in order of first appearance.

    Args:
        begin: start of the judged span, Unix ms. cutoff: moment up to which labels are known, Unix ms.
        least, most: callers that are least and most likely nuisance, by score or by label; bool, shape (callers,).
            The rates of complaints about innocent and about nuisance callers are counted among them.
    """
    calls = dataset.calls
    code, count = factorize(calls["caller"])
    tokens = calls["caller"].combine_chunks()
    token = pc.unique(pc.dictionary_decode(tokens)).to_numpy(zero_copy_only=False)
    judged = calls["start"].to_numpy() >= begin
    answered = judged & np.asarray(pc.equal(calls["outcome"].cast(pa.string()), "answered").to_numpy(), dtype=bool)
    end = pd.Timestamp(cutoff, unit="ms", tz="UTC")
    number = pd.Index(token)
    in_span, taken = np.bincount(code[judged], minlength=count), np.bincount(code[answered], minlength=count)
    complaints = weighted_complaints(dataset, end, policy.complaints)
    against = complaints[complaints["against"] & (complaints["weight"] >= LEAST_WEIGHT)]
    reports = counts_of(against["number"], number)
    findings = about_current_holders(
        dataset.findings[dataset.findings["known_at"] <= end], "known_at", dataset.recycled, end
    )
    bad, good = (counts_of(findings["number"][findings["nuisance"] == kind], number) for kind in (True, False))
    labels = label_numbers(dataset, end, policy).set_index("number")
    listed = labels[labels["source"].astype(str).str.startswith("list ")]["nuisance"].reindex(number)
    first_calls, contacts = called_first_by(calls, code, token)
    silence = complaint_ratio(reports, taken, least, most)
    evidence = report_evidence(silence) + ANSWER * (bad - good)
    evidence += np.where(listed.isna(), 0.0, np.where(listed.eq(True), LISTED, -LISTED))
    evidence += np.where(called_as_people_are(first_calls, contacts), CALLED_FIRST, 0.0)
    return Callers(
        token=token,
        calls=in_span,
        answered=taken,
        reports=reports,
        called_first_by=first_calls,
        trusted=listed.eq(False).to_numpy(dtype=bool),
        silence=silence,
        checked=bad - good,
        looks=bad + good,
        changed=(bad > 0) & (good > 0),
        evidence=evidence,
    )


def counts_of(numbers: pd.Series[str], of: pd.Index) -> Array:
    """Returns how often each number of an index occurs, shape (len(of),)."""
    return numbers.astype(str).value_counts().reindex(of).fillna(0).to_numpy(dtype=int)


def called_first_by(calls: pa.Table, code: Array, token: Array) -> tuple[Array, Array]:
    """Returns for each caller how many people called it before it called them, and with how many it had calls at all.

    People who return a missed call do not count: nuisance numbers get such calls, too. Nor does a call to oneself. Both
    have shape (callers,).
    """
    numbers = pd.concat([pd.Series(token), calls["callee"].cast(pa.string()).to_pandas()], ignore_index=True)
    callee = pd.factorize(numbers)[0][len(token) :]
    code, callee = code[callee != code], callee[callee != code]
    count = int(max(callee.max(initial=0), len(token) - 1)) + 1
    pair = np.minimum(code, callee) * count + np.maximum(code, callee)
    _, first = np.unique(pair, return_index=True)  # calls are in order of start: the first call of each pair
    called_by = np.bincount(callee[first], minlength=count)[: len(token)]
    return called_by, called_by + np.bincount(code[first], minlength=count)[: len(token)]


def called_as_people_are(called_by: Array, contacts: Array) -> Array:
    """Returns whether enough people called each caller first, for the result of `called_first_by`; bool."""
    return np.asarray((called_by >= CALLED_FIRST_BY) & (called_by >= CALLED_FIRST_SHARE * contacts))


def by_score(highest: Array) -> tuple[Array, Array]:
    """Returns the callers with the lowest scores, half of all, and the 5 % with the highest; bool."""
    scored = np.isfinite(highest)
    low, high = np.quantile(highest[scored], [0.5, 0.95]) if scored.any() else (np.inf, np.inf)
    return scored & (highest <= low), scored & (highest >= high)


def complaint_ratio(reports: Array, answered: Array, least: Array, most: Array) -> Array:
    """Returns the log-likelihood ratio of a nuisance and an innocent caller by their complaints. Shape (callers,).

    Complaints about a caller count as Poisson, with one rate for each answered call of innocent callers, and another of
    nuisance callers. Both rates are those of this network, among the callers that are least and most likely nuisance.
    Where complaints do not tell both apart, the ratio is 0.

    >>> reports, answered = np.array([0, 0, 40, 0]), np.array([5000, 400, 2000, 1])
    >>> complaint_ratio(reports, answered, *by_score(np.array([-9.0, 1.0, 9.0, 0.0]))).round().tolist()
    [-98.0, -8.0, 173.0, -0.0]
    """
    if not reports.any() or not most.any():
        return np.zeros(len(reports))
    innocent = (reports[least].sum() + 0.5) / (answered[least].sum() + 50)
    nuisance = max((reports[most].sum() + 0.5) / (answered[most].sum() + 50), innocent)
    return np.asarray(reports * np.log(nuisance / innocent) - (nuisance - innocent) * answered)


def report_evidence(ratio: Array) -> Array:
    """Returns the evidence of complaints in log-odds of nuisance. Shape (callers,).

    The share NEVER_REPORTED of all nuisance callers gets no complaint, so the lack of complaints is little evidence.

    >>> report_evidence(np.array([-98.0, -8.0, 172.0, 0.0])).round(1).tolist()
    [-1.6, -1.6, 20.0, 0.0]
    """
    if not ratio.any():
        return np.zeros(len(ratio))
    return np.asarray(np.clip(np.logaddexp(np.log(NEVER_REPORTED), np.log(1 - NEVER_REPORTED) + ratio), -20.0, 20.0))


def posterior(callers: Callers, highest: Array, even: float, drawn: Array | None = None) -> Array:
    """Returns the probability that each caller is nuisance, from its highest score and the evidence. Shape (callers,).

    A logistic regression on the score, with the evidence as offset and a normal prior, fitted to the answers of checks
    that were drawn at random: without any it is the prior, with few it moves little. Callers that somebody chose to
    check say nothing about others with scores like theirs.

    Args:
        drawn: whether each caller was drawn for a check; none by default.
    """
    x = np.where(np.isfinite(highest), highest - even - ABOVE_EVEN, UNSCORED)
    drawn = np.zeros(len(highest), dtype=bool) if drawn is None else drawn
    answers = np.flatnonzero(drawn & (callers.checked != 0) & np.isfinite(highest))
    others = callers.evidence - ANSWER * callers.checked
    shift, slope = fitted_line(x[answers], callers.checked[answers] > 0, others[answers])
    return np.asarray(expit(shift + slope * x + callers.evidence))


def fitted_line(x: Array, y: Array, offset: Array) -> tuple[float, float]:
    """Returns shift and slope of the logistic regression of `posterior`: the mode, by Newton's method.

    >>> shift, slope = fitted_line(np.zeros(0), np.zeros(0), np.zeros(0))
    >>> shift, slope
    (0.0, 0.8)
    """
    columns = np.column_stack([np.ones(len(x)), x])
    prior, precision = np.array([0.0, SLOPE]), np.array([1 / SHIFT_SD**2, 1 / SLOPE_SD**2])
    line = prior.copy()
    for _ in range(50):
        p = expit(offset + columns @ line)
        gradient = columns.T @ (y - p) - precision * (line - prior)
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + np.diag(precision)
        step = np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
        line += step
        if np.abs(step).max() < 1e-9:
            break
    return float(line[0]), float(max(line[1], 0.1))
