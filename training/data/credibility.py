"""Weighs each complaint about a number by what was known at a cutoff.

The weight is the product of channel, reporter, ground, age and independence:

* reporter: the mean of a Beta posterior over how often later findings proved the person right (Jøsang and Ismail,
  The Beta Reputation System, 2002). Only findings after the complaint count, so a repeated list entry earns no trust.
* ground: whether a call from the number to that person precedes the complaint. A number did not
  call accomplices who agree to complain about it.
* age: halved every half-life. Complaints from before the number had a new owner have no weight.
* independence: persons who complain about the same numbers together count as one, and a burst counts for no more than
  a share of those whom the number had called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.features.kernel.windows import DAY_MS, HOUR
from callsieve.serving.batch.keyed_rows import milliseconds

if TYPE_CHECKING:
    from .dataset import Dataset
    from .label_policy import ComplaintRules


TO_AN_OFFICE = "complaint"  # the channel; the other channel is a mark on the screen
LEAST_WEIGHT = 0.1  # of a complaint that counts; a new one has less only if no call explains it


def weighted_complaints(dataset: Dataset, cutoff: pd.Timestamp, rules: ComplaintRules) -> pd.DataFrame:
    """Returns one weighted row a reporter and number: the last known complaint with the best ground.

    Returns: reporter, number, at, known_at, category, mode, `against` (bool), `weight` and `callees` (how many persons
        the number had called).
    """
    arrived = dataset.complaints[dataset.complaints["known_at"] <= cutoff]
    complaints = about_current_holders(arrived, "at", dataset.recycled, cutoff)
    moment = int(cutoff.timestamp() * 1000)
    earlier = dataset.calls.filter(pc.less(dataset.calls["start"], moment))
    calls = delivered_calls(earlier, complaints["number"], moment)
    rows = complaints.assign(against=complaints["category"].isin(rules.against))
    rows["ground"] = call_grounds(rows, calls, earlier, rules)
    rows = rows.sort_values(["ground", "known_at", "at"], kind="stable").drop_duplicates(
        ["number", "reporter"], keep="last"
    )
    rows = rows.sort_values(["known_at", "number", "reporter"], kind="stable").reset_index(drop=True)
    channel = rows["channel"].eq(TO_AN_OFFICE) if "channel" in rows else pd.Series(False, index=rows.index)
    age = (cutoff - rows["at"]).dt.total_seconds() / 86_400
    weight = np.where(channel, rules.complaint, 1.0) * rows["ground"] * 0.5 ** (age / rules.half_life_days)
    weight *= reporter_trust(rows, dataset.findings[dataset.findings["known_at"] <= cutoff], rules)
    weight /= collusion_sizes(rows, rules)
    rows["callees"] = look_up(calls.groupby("number")["reporter"].nunique(), rows["number"]).fillna(0).astype(int)
    rows["weight"] = weight * burst_factors(rows.assign(weight=weight), rules)
    return rows.assign(mode=rows.get("mode")).drop(columns="ground")


def about_current_holders(
    rows: pd.DataFrame, moment: str, recycled: pd.DataFrame, cutoff: pd.Timestamp
) -> pd.DataFrame:
    """Drops rows from before a number's last change of hands that was known at the cutoff."""
    since = look_up(holder_changes(recycled, cutoff), rows["number"])
    current: pd.DataFrame = rows[since.isna() | (rows[moment] >= since)]
    return current


def holder_changes(recycled: pd.DataFrame, cutoff: pd.Timestamp) -> pd.Series[pd.Timestamp]:
    """Returns the last change of hands of each recycled number, as known at the cutoff."""
    changes = recycled[(recycled["known_at"] <= cutoff) & (recycled["valid_from"] <= cutoff)]
    since: pd.Series[pd.Timestamp] = changes.groupby("number")["valid_from"].max()
    return since


def look_up(values: pd.Series[Any], keys: pd.Series[str]) -> pd.Series[Any]:
    """Returns the value of each key, aligned with `keys`; missing where there is none."""
    aligned: pd.Series[Any] = values.reindex(keys.to_numpy()).set_axis(keys.index)
    return aligned


def delivered_calls(calls: pa.Table, numbers: pd.Series[str], moment: int) -> pd.DataFrame:
    """Returns the calls of these numbers that were not known to be blocked at a moment (Unix ms), in order of start.

    Returns: start (ms), number, and the callee as `reporter`.
    """
    delivered = pc.and_not(among(calls["caller"], numbers), blocked_calls(calls, moment))
    selected = calls.select(["start", "caller", "callee"]).filter(delivered)
    texts = [selected[name].cast(pa.string()) for name in ("caller", "callee")]
    table = pa.table([selected["start"].cast(pa.int64()), *texts], names=["start", "number", "reporter"])
    frame: pd.DataFrame = table.to_pandas()
    return frame.sort_values("start", kind="stable")


def blocked_calls(calls: pa.Table, moment: int) -> pa.ChunkedArray:
    """Returns whether each call was blocked, as known before a moment (Unix ms)."""
    return pc.and_(pc.equal(calls["outcome"].cast(pa.string()), "blocked"), recorded_before(calls, moment))


def recorded_before(calls: pa.Table, moment: int) -> pa.ChunkedArray:
    """Returns whether the outcome of each call was known before a moment (Unix ms)."""
    start, ring, talk, recorded = (calls[name].cast(pa.int64()) for name in ("start", "ring", "talk", "recorded"))
    end = pc.add(start, pc.add(pc.fill_null(ring, 0), pc.fill_null(talk, 0)))
    return pc.less(pc.coalesce(recorded, end), moment)


def among(column: pa.ChunkedArray, words: pd.Series[str]) -> pa.Array:
    """Returns whether each text of a column is one of these words."""
    encoded = dictionary_encoded(column)
    matches = pc.is_in(encoded.dictionary, value_set=pa.array(words.unique(), encoded.dictionary.type))
    return matches.take(encoded.indices)


def call_grounds(complaints: pd.DataFrame, calls: pd.DataFrame, earlier: pa.Table, rules: ComplaintRules) -> Array:
    """Returns 1 if a call precedes a complaint, `unfounded` if none does, `untold` if the records do not cover it.

    Records do not cover a complaint if they have no call at all to the reporter, or begin after the complaint.
    """
    if complaints.empty:  # pandas cannot join an empty column of text
        return np.empty(0)
    left = (
        complaints[["number", "reporter"]]
        .astype("str")
        .assign(at=milliseconds(complaints["at"]), row=np.arange(len(complaints)))
    )
    matched = pd.merge_asof(
        left.sort_values("at", kind="stable"),
        calls,
        left_on="at",
        right_on="start",
        by=["number", "reporter"],
        tolerance=max(1, int(rules.behind_days * DAY_MS)),
    )
    founded = matched.set_index("row").sort_index()["start"].notna().to_numpy()
    begin = pc.min(earlier["start"]).as_py() if earlier.num_rows else np.inf
    callees = set(pc.unique(earlier["callee"].filter(among(earlier["callee"], complaints["reporter"]))).to_pylist())
    recorded = complaints["reporter"].isin(callees).to_numpy() & (milliseconds(complaints["at"]).to_numpy() >= begin)
    return np.where(founded, 1.0, np.where(recorded, rules.unfounded, rules.untold))


def reporter_trust(complaints: pd.DataFrame, findings: pd.DataFrame, rules: ComplaintRules) -> Array:
    """Returns how likely each reporter is right, by how often later findings agreed with their complaints."""
    last = findings.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last").set_index("number")
    truth, since = (look_up(last[name], complaints["number"]) for name in ("nuisance", "known_at"))
    checked = truth.notna() & (complaints["known_at"] < since)
    right = checked & (complaints["against"] == truth.eq(True))
    reporter = complaints["reporter"]
    sums = pd.DataFrame({"right": right, "checked": checked}).groupby(reporter).transform("sum")
    prior = rules.prior_right + rules.prior_wrong
    return ((rules.prior_right + sums["right"]) / (prior + sums["checked"])).to_numpy()


def collusion_sizes(complaints: pd.DataFrame, rules: ComplaintRules) -> Array:
    """Returns how many reporters act together in each complaint: they name the same numbers."""
    numbers, reporters = pd.factorize(complaints["number"])[0], pd.factorize(complaints["reporter"])[0]
    named = np.bincount(reporters, minlength=1)
    several = named[reporters] >= max(2, rules.alike_numbers)
    if not several.any():
        return np.ones(len(complaints))
    shape = (len(named), int(numbers.max()) + 1)
    matrix = coo_array((np.ones(several.sum()), (reporters[several], numbers[several])), shape=shape).tocsr()
    common = (matrix @ matrix.T).tocoo()
    most = np.maximum(named[common.row], named[common.col])
    alike = (common.data >= rules.alike_numbers) & (common.data >= rules.alike_share * most)
    graph = coo_array((alike[alike], (common.row[alike], common.col[alike])), shape=(shape[0], shape[0]))
    ring = connected_components(graph, directed=False)[1][reporters]
    groups = complaints.groupby([numbers, ring, complaints["against"].to_numpy()])
    return groups["reporter"].transform("size").to_numpy()


def burst_factors(complaints: pd.DataFrame, rules: ComplaintRules) -> Array:
    """Returns the factor, at most 1, that cuts each burst to a share of the persons whom the number had called."""
    weight = complaints["weight"].to_numpy(dtype=float)
    callees = complaints["callees"].to_numpy(dtype=float)
    side = pd.factorize(complaints["number"])[0] * 2 + complaints["against"].to_numpy(dtype=np.int64)
    burst = bursts(side, milliseconds(complaints["at"]).to_numpy(), int(rules.burst_hours * HOUR))
    total = np.bincount(burst, weight)[burst]
    limit = np.maximum(rules.burst_voices, rules.burst_share * callees)
    return np.minimum(1.0, np.divide(limit, total, out=np.ones(len(complaints)), where=total > 0))


def bursts(side: Array, at: Array, span: int) -> Array:
    """Returns the burst of each complaint: a burst begins with the first complaint after the last one's span is over.

    `side`: number and direction of each complaint, as one integer. at: Unix ms. span: length of a burst in ms.
    """
    burst = np.zeros(len(side), dtype=np.int64)
    order = np.lexsort((at, side))
    last_side, begin, count = -1, 0, -1
    for row, row_side, moment in zip(order.tolist(), side[order].tolist(), at[order].tolist(), strict=True):
        if row_side != last_side or moment - begin > span:
            last_side, begin, count = row_side, moment, count + 1
        burst[row] = count
    return burst
