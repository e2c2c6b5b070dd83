"""Injects faults into a data set: findings that state the opposite, and reporters who collude.

All noise enters before the label policy, so the policy is tested with it. In a simulated world the truth still judges.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from .labels import label_numbers

if TYPE_CHECKING:
    from .dataset import Dataset
    from .label_policy import LabelPolicy


HOUR = pd.Timedelta(hours=1)
TARGETS = 20  # numbers of either kind that colluding reporters agree on


def with_flips(dataset: Dataset, share: float, cutoff: pd.Timestamp, policy: LabelPolicy, seed: int) -> Dataset:
    """Adds a finding, known at the cutoff, that contradicts the label of this share of labelled numbers.

    A finding weighs more than any complaint, so these flips are at least as hard on a model as flipped labels.

    Raises:
        ValueError: if the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share of flipped labels: expected more than 0, less than 1, got {share}")
    labels = label_numbers(dataset, cutoff, policy).sort_values("number", kind="stable")
    chosen = np.random.default_rng(seed).permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.iloc[np.sort(chosen)]
    findings = dataset.findings
    false = pd.DataFrame({"number": flipped["number"], "nuisance": ~flipped["nuisance"], "known_at": cutoff})
    false = false.astype({"known_at": findings["known_at"].dtype, "number": findings["number"].dtype})
    true = findings[~(findings["number"].isin(false["number"]) & (findings["known_at"] <= cutoff))]
    return replace(dataset, findings=pd.concat([true, false[list(findings.columns)]], ignore_index=True))


def with_collusion(dataset: Dataset, share: float, cutoff: pd.Timestamp, seed: int) -> Dataset:
    """Adds a ring: this share of the reporters complain about innocent numbers and vote for nuisance numbers.

    Each of them names the TARGETS numbers of either kind that called most of the ring. The complaint comes an hour
    after a call of the number, if there was a call. The ring knows the truth and chooses its best targets.

    Raises:
        ValueError: if the data set has no truth or no complaint.
    """
    if dataset.truth is None:
        raise ValueError("collusion: expected a truth: without it the innocent numbers are not known")
    complaints = dataset.complaints
    reporters = np.sort(complaints["reporter"].unique().astype(str))
    if not len(reporters):
        raise ValueError("collusion: expected complaints, got none")
    count = max(1, round(share * len(reporters)))
    ring = np.random.default_rng(seed).permutation(reporters)[:count]
    before = cutoff - 2 * HOUR
    calls = calls_before(dataset, before)
    added = []
    for nuisance, category in ((False, "fraud"), (True, "not_nuisance")):
        of_kind = calls[calls["nuisance"] == nuisance]
        to_ring = of_kind[of_kind["callee"].isin(ring)]
        reach = to_ring.groupby("caller")["callee"].nunique().sort_values(ascending=False, kind="stable")
        busiest = of_kind["caller"].value_counts(sort=True)
        targets = list(dict.fromkeys([*reach.index, *busiest.index]))[:TARGETS]
        last = to_ring.groupby(["caller", "callee"])["start"].max()
        pairs = pd.MultiIndex.from_product([targets, ring], names=["caller", "callee"])
        at = last.reindex(pairs).fillna(before) + HOUR
        rows = pairs.to_frame(index=False).assign(at=at.to_numpy(), category=category)
        added.append(rows.rename(columns={"caller": "number", "callee": "reporter"}))
    false = pd.concat(added, ignore_index=True)
    false["at"] = false["at"].dt.tz_localize("UTC") if false["at"].dt.tz is None else false["at"]
    false["known_at"] = false["at"]
    types = {name: complaints[name].dtype for name in ("at", "known_at", "number", "reporter", "category")}
    return replace(dataset, complaints=pd.concat([complaints, false.astype(types)], ignore_index=True))


def calls_before(dataset: Dataset, moment: pd.Timestamp) -> pd.DataFrame:
    """Returns caller, callee and start of calls before a moment, and whether the caller made nuisance calls."""
    assert dataset.truth is not None  # noqa: S101 - `with_collusion` checks it
    early = pc.less(dataset.calls["start"], int(moment.timestamp() * 1000))
    calls = dataset.calls.select(["caller", "callee", "start"]).filter(early)
    frame = pd.DataFrame({name: calls[name].cast("string").to_pandas() for name in ("caller", "callee")})
    frame["start"] = pd.to_datetime(calls["start"].to_numpy(), unit="ms", utc=True)
    nuisance = dataset.calls["caller"].filter(dataset.truth["nuisance"]).cast("string")
    frame["nuisance"] = frame["caller"].isin(set(pc.unique(nuisance).to_pylist()))
    return frame


def without_complaints(dataset: Dataset) -> Dataset:
    """Returns the data set without any complaint."""
    return replace(dataset, complaints=dataset.complaints.iloc[:0])
