"""Labels numbers from findings, lists and complaints, as known at a cutoff, by a versioned policy.

A label row holds what a number counts as (`nuisance`, `content`, `mode`), since when (`event_time`), when that became
known (`known_at`), its ground (`source`, `confidence`), and the `policy`. The strongest ground decides: a finding, then
a list, then complaints, and last the absence of complaints about a quiet number. For a recycled number only facts after
`held_since` count, and only calls after that are labelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .credibility import about_current_holders, blocked_calls, holder_changes, look_up, weighted_complaints
from .label_policy import LabelPolicy

if TYPE_CHECKING:
    from .dataset import Dataset

_GROUNDS = ("number", "nuisance", "event_time", "known_at", "source", "confidence")
UNREPORTED = "unreported"  # source of the label of a quiet number without complaint and finding
COLUMNS = (*_GROUNDS[:2], "content", "mode", *_GROUNDS[2:], "held_since", "policy")


def label_numbers(dataset: Dataset, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    """Labels every number by what was known at `cutoff`.

    Returns: one row a number, columns COLUMNS. A number whose complaints lack weight on either side has no row; neither
        has a busy number without complaints. The source of a label by complaints is "complaints" if they weigh against
        the number, and "votes" if they weigh for it.
    """
    findings = dataset.findings[dataset.findings["known_at"] <= cutoff]
    # A finding from before the last change of hands checked another holder.
    findings = about_current_holders(findings, "known_at", dataset.recycled, cutoff)
    complaints = weighted_complaints(dataset, cutoff, policy.complaints)
    checked = _from_findings(findings, policy)
    listed = _without(_from_lists(dataset.lists, cutoff, policy), checked)
    complained = _without(_from_complaints(complaints, policy), checked, listed)
    grounded = pd.concat([checked, listed, complained], ignore_index=True)
    moment = int(cutoff.timestamp() * 1000)
    calls = dataset.calls.filter(pc.less(dataset.calls["start"], moment))
    busiest = busiest_days(calls)
    quiet = busiest.index[busiest <= policy.unreported.most_calls_in_a_day]
    # The callee of a blocked call cannot complain, so no complaint is no sign of innocence.
    doubtful = [
        *grounded["number"],
        *complaints["number"],
        *calls["caller"].cast(pa.string()).filter(blocked_calls(calls, moment)).unique().to_pylist(),
    ]
    unreported = _unreported(quiet[~quiet.isin(doubtful)], cutoff, policy)
    labels = pd.concat([grounded, unreported], ignore_index=True)
    classes = _content_and_mode(complaints[complaints["against"]])
    labels = labels.merge(classes, how="left", left_on="number", right_index=True)
    labels.loc[~labels["nuisance"], ["content", "mode"]] = None
    held_since = look_up(holder_changes(dataset.recycled, cutoff), labels["number"])
    return labels.assign(held_since=held_since, policy=policy.version)[list(COLUMNS)]


def _without(labels: pd.DataFrame, *stronger: pd.DataFrame) -> pd.DataFrame:
    labelled = pd.concat([table["number"] for table in stronger])
    return labels[~labels["number"].isin(labelled)]


def _rows(
    number: pd.Series, nuisance: object, since: object, known_at: object, source: object, confidence: object
) -> pd.DataFrame:
    values = (number.astype("object"), nuisance, since, known_at, source, confidence)
    columns = dict(zip(_GROUNDS, values, strict=True))
    return pd.DataFrame(columns).astype({"nuisance": bool, "source": object, "confidence": float})


def _from_findings(findings: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    last = findings.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last")
    known_at = last["known_at"]
    return _rows(last["number"], last["nuisance"], known_at, known_at, "finding", policy.findings.confidence)


def _from_lists(lists: pd.DataFrame, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    entries = lists[(lists["known_at"] <= cutoff) & (lists["valid_from"] <= cutoff) & lists["list"].isin(policy.lists)]
    entries = entries[entries["valid_to"].isna() | (entries["valid_to"] > cutoff)]
    nuisance = entries["list"].map(lambda name: policy.lists[name].nuisance)
    confidence = entries["list"].map(lambda name: policy.lists[name].confidence)
    source = "list " + entries["list"].astype("object")
    # An entry may become known before it is in force.
    known_at = entries[["known_at", "valid_from"]].max(axis=1)
    rows = _rows(entries["number"], nuisance, entries["valid_from"], known_at, source, confidence)
    rows = rows.sort_values(["confidence", "known_at", "source"], kind="stable")
    return rows.drop_duplicates("number", keep="last")


def _from_complaints(complaints: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    """Labels numbers by the side, against or for, on which complaints have enough weight and share."""
    rules = policy.complaints
    weighty = complaints[complaints["weight"] > 0]
    weighty = weighty.assign(weight_against=weighty["weight"].where(weighty["against"], 0.0))
    sums = weighty.groupby("number", observed=True).agg(
        total=("weight", "sum"),
        against=("weight_against", "sum"),
        callees=("callees", "max"),
        since=("at", "min"),
        known=("known_at", "max"),
    )
    nuisance = sums["against"] * 2 > sums["total"]
    side = sums["against"].where(nuisance, sums["total"] - sums["against"])
    enough = (side >= rules.minimum_weight) & (side >= rules.minimum_share * sums["total"])
    enough &= ~nuisance | (sums["against"] >= rules.minimum_rate * sums["callees"])
    chosen = sums[enough]
    return _rows(
        chosen.index.to_series(index=chosen.index),
        nuisance[enough],
        chosen["since"],
        chosen["known"],
        nuisance[enough].map({True: "complaints", False: "votes"}),
        side[enough] / (chosen["total"] + rules.doubt),
    )


def _unreported(numbers: pd.Index, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    return _rows(
        numbers.to_series().reset_index(drop=True), False, cutoff, cutoff, UNREPORTED, policy.unreported.confidence
    )


def _content_and_mode(against: pd.DataFrame) -> pd.DataFrame:
    chosen = {}
    for name, column in (("content", "category"), ("mode", "mode")):
        weights = against.dropna(subset=[column]).groupby(["number", column], observed=True)["weight"].sum()
        ranked = weights.reset_index().sort_values(["weight", column], ascending=[False, True], kind="stable")
        chosen[name] = ranked.drop_duplicates("number").set_index("number")[column]
    return pd.DataFrame(chosen)


def busiest_days(calls: pa.Table) -> pd.Series[int]:
    """Returns the most calls that each caller made in one local day."""
    by_day = calls.select(["caller", "day"]).group_by(["caller", "day"]).aggregate([([], "count_all")])
    most = by_day.group_by("caller").aggregate([("count_all", "max")])
    tokens = pc.dictionary_decode(most["caller"].combine_chunks())
    return pd.Series(most["count_all_max"].to_numpy(), index=pd.Index(tokens.to_numpy(zero_copy_only=False)))
