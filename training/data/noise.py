"""Faults put into what is known of numbers: findings that say the opposite, and people who agree on what to report.

All noise is in the dataset, before the label policy, so that the policy is tried with it. Of a world the truth still
judges.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from .labels import label_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    from .dataset import Dataset
    from .label_policy import LabelPolicy

    Array = npt.NDArray[Any]

HOUR = pd.Timedelta(hours=1)
TARGETS = 20  # numbers of either kind that colluding reporters agree on


def with_flips(dataset: Dataset, share: float, cutoff: pd.Timestamp, policy: LabelPolicy, seed: int) -> Dataset:
    """The dataset with a finding, known at the cutoff, that contradicts the label of this share of labelled numbers.

    A finding weighs more than any report, so these flips are at least as hard on a model as flipped labels.

    Raises:
        ValueError: if the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share of flipped labels: expected more than 0, less than 1, got {share}")
    labels = label_numbers(dataset, cutoff, policy).sort_values("number", kind="stable")
    chosen = np.random.default_rng(seed).permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.iloc[np.sort(chosen)]
    findings = dataset.findings
    lies = pd.DataFrame({"number": flipped["number"], "nuisance": ~flipped["nuisance"], "known_at": cutoff})
    lies = lies.astype({"known_at": findings["known_at"].dtype, "number": findings["number"].dtype})
    kept = findings[~(findings["number"].isin(lies["number"]) & (findings["known_at"] <= cutoff))]
    return replace(dataset, findings=pd.concat([kept, lies[list(findings.columns)]], ignore_index=True))


def with_collusion(dataset: Dataset, share: float, cutoff: pd.Timestamp, seed: int) -> Dataset:
    """The dataset with a ring: this share of the reporters speak against innocent numbers and for nuisance ones.

    Each of them names the TARGETS numbers of either kind that called most of them, an hour after a call of the number
    if there was one: the ring chooses what serves it best, and knows the truth.

    Raises:
        ValueError: if no truth is known, or nobody reports.
    """
    if dataset.truth is None:
        raise ValueError("collusion: expected a truth: without it nobody knows which numbers are innocent")
    reporters = np.sort(dataset.complaints["reporter"].unique().astype(str))
    if not len(reporters):
        raise ValueError("collusion: expected reports, got none")
    count = max(1, round(share * len(reporters)))
    ring = np.random.default_rng(seed).permutation(reporters)[:count]
    before = cutoff - 2 * HOUR
    rung = calls_before(dataset, before)
    said = []
    for nuisance, word in ((False, "fraud"), (True, "not_nuisance")):
        mine = rung[rung["nuisance"] == nuisance]
        heard = mine[mine["callee"].isin(ring)]
        reach = heard.groupby("caller")["callee"].nunique().sort_values(ascending=False, kind="stable")
        busiest = mine["caller"].value_counts(sort=True)
        targets = list(dict.fromkeys([*reach.index, *busiest.index]))[:TARGETS]
        last = heard.groupby(["caller", "callee"])["start"].max()
        pairs = pd.MultiIndex.from_product([targets, ring], names=["caller", "callee"])
        at = last.reindex(pairs).fillna(before) + HOUR
        told = pairs.to_frame(index=False).assign(at=at.to_numpy(), category=word)
        said.append(told.rename(columns={"caller": "number", "callee": "reporter"}))
    lies = pd.concat(said, ignore_index=True)
    lies["at"] = lies["at"].dt.tz_localize("UTC") if lies["at"].dt.tz is None else lies["at"]
    lies["known_at"] = lies["at"]
    kinds = {name: dataset.complaints[name].dtype for name in ("at", "known_at", "number", "reporter", "category")}
    return replace(dataset, complaints=pd.concat([dataset.complaints, lies.astype(kinds)], ignore_index=True))


def calls_before(dataset: Dataset, moment: pd.Timestamp) -> pd.DataFrame:
    """Caller, callee and start of the calls before a moment, and whether a call of that caller was nuisance."""
    assert dataset.truth is not None  # noqa: S101 - the caller has seen to it
    early = pc.less(dataset.calls["start"], int(moment.timestamp() * 1000))
    calls = dataset.calls.select(["caller", "callee", "start"]).filter(early)
    frame = pd.DataFrame({name: calls[name].cast("string").to_pandas() for name in ("caller", "callee")})
    frame["start"] = pd.to_datetime(calls["start"].to_numpy(), unit="ms", utc=True)
    bad = dataset.calls["caller"].filter(dataset.truth["nuisance"]).cast("string")
    frame["nuisance"] = frame["caller"].isin(set(pc.unique(bad).to_pylist()))
    return frame


def without_complaints(dataset: Dataset) -> Dataset:
    """The dataset as if nobody had ever reported anything."""
    return replace(dataset, complaints=dataset.complaints.iloc[:0])
