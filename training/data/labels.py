"""Labels of numbers from findings, lists and reports, as known at a cutoff, by a versioned policy.

A label row says what a number is held to be (`nuisance`, `content`, `mode`), since when (`event_time`), since when that
was known (`known_at`), on what grounds (`source`, `confidence`), and by which `policy`. Of several grounds the
first counts: a finding, a list, reports, and last that nobody said anything of a quiet number. Of a number that changed
hands only what came after `held_since` counts, and only calls after that are labelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .credibility import changes_of_hands, looked_up, of_holders, stopped, voices
from .label_policy import LabelPolicy

if TYPE_CHECKING:
    from .dataset import Dataset

_GROUNDS = ("number", "nuisance", "event_time", "known_at", "source", "confidence")
COLUMNS = (*_GROUNDS[:2], "content", "mode", *_GROUNDS[2:], "held_since", "policy")


def label_numbers(dataset: Dataset, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    """What each number is held to be at `cutoff`, by what was known then.

    Returns: one row a number, columns COLUMNS. A number of which people spoke without enough weight on one side has no
        row, nor has a busy number of which nobody spoke. The source of a label by complaints is "complaints" if they
        speak against the number, and "votes" if they speak for it.
    """
    findings = dataset.findings[dataset.findings["known_at"] <= cutoff]
    # Who holds a number now was not checked before.
    findings = of_holders(findings, "known_at", dataset.recycled, cutoff)
    told = voices(dataset, cutoff, policy.complaints)
    found = _from_findings(findings, policy)
    listed = _without(_from_lists(dataset.lists, cutoff, policy), found)
    reported = _without(_from_voices(told, policy), found, listed)
    held = pd.concat([found, listed, reported], ignore_index=True)
    moment = int(cutoff.timestamp() * 1000)
    rung = dataset.calls.filter(pc.less(dataset.calls["start"], moment))
    busiest = busiest_days(rung)
    quiet = busiest.index[busiest <= policy.unreported_most_calls]
    # Nobody can complain of a call that was stopped on the way, so silence says nothing of its caller.
    doubtful = [
        *held["number"],
        *told["number"],
        *rung["caller"].cast(pa.string()).filter(stopped(rung, moment)).unique().to_pylist(),
    ]
    rest = _unreported(quiet[~quiet.isin(doubtful)], cutoff, policy)
    labels = pd.concat([held, rest], ignore_index=True)
    labels = labels.merge(_kinds(told[told["against"]]), how="left", left_on="number", right_index=True)
    labels.loc[~labels["nuisance"], ["content", "mode"]] = None
    held_since = looked_up(changes_of_hands(dataset.recycled, cutoff), labels["number"])
    return labels.assign(held_since=held_since, policy=policy.version)[list(COLUMNS)]


def _without(labels: pd.DataFrame, *stronger: pd.DataFrame) -> pd.DataFrame:
    taken = pd.concat([each["number"] for each in stronger])
    return labels[~labels["number"].isin(taken)]


def _rows(
    number: pd.Series, nuisance: object, since: object, known: object, source: object, sure: object
) -> pd.DataFrame:
    columns = dict(zip(_GROUNDS, (number.astype("object"), nuisance, since, known, source, sure), strict=True))
    return pd.DataFrame(columns).astype({"nuisance": bool, "source": object, "confidence": float})


def _from_findings(findings: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    last = findings.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last")
    known = last["known_at"]
    return _rows(last["number"], last["nuisance"], known, known, "finding", policy.finding_confidence)


def _from_lists(lists: pd.DataFrame, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    """Entries in force at the cutoff on lists that the policy knows; if lists contradict, the surer one counts."""
    entries = lists[(lists["known_at"] <= cutoff) & (lists["valid_from"] <= cutoff) & lists["list"].isin(policy.lists)]
    entries = entries[entries["valid_to"].isna() | (entries["valid_to"] > cutoff)]
    says = entries["list"].map(lambda name: policy.lists[name].nuisance)
    sure = entries["list"].map(lambda name: policy.lists[name].confidence)
    source = "list " + entries["list"].astype("object")
    # An entry may be written down before it is in force.
    known = entries[["known_at", "valid_from"]].max(axis=1)
    rows = _rows(entries["number"], says, entries["valid_from"], known, source, sure)
    rows = rows.sort_values(["confidence", "known_at", "source"], kind="stable")
    return rows.drop_duplicates("number", keep="last")


def _from_voices(told: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    """What the voices about a number weigh on each side, and the side that has enough of it."""
    rules = policy.complaints
    heard = told[told["weight"] > 0]
    heard = heard.assign(weight_against=heard["weight"].where(heard["against"], 0.0))
    of = heard.groupby("number", observed=True)
    sums = of.agg(
        total=("weight", "sum"), against=("weight_against", "sum"), callees=("callees", "max"),
        since=("at", "min"), known=("known_at", "max"),
    )  # fmt: skip
    side = sums["against"].where(sums["against"] * 2 > sums["total"], sums["total"] - sums["against"])
    nuisance = sums["against"] * 2 > sums["total"]
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
        numbers.to_series().reset_index(drop=True), False, cutoff, cutoff, "unreported", policy.unreported_confidence
    )


def _kinds(against: pd.DataFrame) -> pd.DataFrame:
    """The content and the mode that the heaviest voices against a number named; of equal ones the first by name."""
    named = {}
    for name, column in (("content", "category"), ("mode", "mode")):
        weights = against.dropna(subset=[column]).groupby(["number", column], observed=True)["weight"].sum()
        ranked = weights.reset_index().sort_values(["weight", column], ascending=[False, True], kind="stable")
        named[name] = ranked.drop_duplicates("number").set_index("number")[column]
    return pd.DataFrame(named)


def busiest_days(calls: pa.Table) -> pd.Series[int]:
    """The most calls that each caller made in a local day."""
    by_day = calls.select(["caller", "day"]).group_by(["caller", "day"]).aggregate([([], "count_all")])
    most = by_day.group_by("caller").aggregate([("count_all", "max")])
    tokens = pc.dictionary_decode(most["caller"].combine_chunks())
    return pd.Series(most["count_all_max"].to_numpy(), index=pd.Index(tokens.to_numpy(zero_copy_only=False)))
