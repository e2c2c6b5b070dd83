"""How much each person's word about a number counts, from what was known at a cutoff.

A word weighs channel x reporter x ground x age x company:

* reporter: the mean of a Beta posterior over how often later findings proved the person right (Jøsang and Ismail,
  The Beta Reputation System, 2002); only findings that came after the report, so that nobody earns trust by repeating
  what a list says already;
* ground: whether a call from the number to that person stands behind it. Accomplices who agree on a number were not
  called by it;
* age: halved every half-life. What was said before the number changed hands is not heard at all;
* company: people who name the same numbers together are one voice, and of a burst no more counts than a part of those
  whom the number had called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.features.kernel.windows import DAY_MS, HOUR
from callsieve.serving.batch.complaint_rows import milliseconds

if TYPE_CHECKING:
    import numpy.typing as npt

    from .dataset import Dataset
    from .label_policy import ComplaintRules

    Array = npt.NDArray[Any]

COMPLAINT = "complaint"


def voices(dataset: Dataset, cutoff: pd.Timestamp, rules: ComplaintRules) -> pd.DataFrame:
    """One row for each person and number of whom a report was known at the cutoff: their last best-founded word.

    Returns: reporter, number, at, known_at, category, mode, `against` (bool), `weight` and `callees` (how many people
        the number had called).
    """
    reports = of_holders(dataset.complaints[dataset.complaints["known_at"] <= cutoff], "at", dataset.recycled, cutoff)
    moment = int(cutoff.timestamp() * 1000)
    rung = dataset.calls.filter(pc.less(dataset.calls["start"], moment))
    calls = calls_of(rung, reports["number"], moment)
    told = reports.assign(against=reports["category"].isin(rules.against))
    told["ground"] = grounds(told, calls, rung, rules)
    told = told.sort_values(["ground", "known_at", "at"], kind="stable").drop_duplicates(
        ["number", "reporter"], keep="last"
    )
    told = told.sort_values(["known_at", "number", "reporter"], kind="stable").reset_index(drop=True)
    channel = told["channel"].eq(COMPLAINT) if "channel" in told else pd.Series(False, index=told.index)
    age = (cutoff - told["at"]).dt.total_seconds() / 86_400
    weight = np.where(channel, rules.complaint, 1.0) * told["ground"] * 0.5 ** (age / rules.half_life_days)
    weight *= trust(told, dataset.findings[dataset.findings["known_at"] <= cutoff], rules)
    weight /= company(told, rules)
    told["callees"] = looked_up(calls.groupby("number")["reporter"].nunique(), told["number"]).fillna(0).astype(int)
    told["weight"] = weight * unhurried(told.assign(weight=weight), rules)
    return told.assign(mode=told.get("mode")).drop(columns="ground")


def of_holders(said: pd.DataFrame, when: str, recycled: pd.DataFrame, cutoff: pd.Timestamp) -> pd.DataFrame:
    """What is about those who hold the numbers now, as far as changes of hands were known at the cutoff.

    Args:
        said: reports or findings; `when` names their moment.
    """
    since = looked_up(changes_of_hands(recycled, cutoff), said["number"])
    held: pd.DataFrame = said[since.isna() | (said[when] >= since)]
    return held


def changes_of_hands(recycled: pd.DataFrame, cutoff: pd.Timestamp) -> pd.Series[pd.Timestamp]:
    """Since when each number that changed hands is its holder's, as far as that was known at the cutoff."""
    known = recycled[(recycled["known_at"] <= cutoff) & (recycled["valid_from"] <= cutoff)]
    since: pd.Series[pd.Timestamp] = known.groupby("number")["valid_from"].max()
    return since


def looked_up(values: pd.Series[Any], keys: pd.Series[str]) -> pd.Series[Any]:
    """The value of each key, in its place; nothing where there is none."""
    found: pd.Series[Any] = values.reindex(keys.to_numpy()).set_axis(keys.index)
    return found


def calls_of(rung: pa.Table, numbers: pd.Series[str], moment: int) -> pd.DataFrame:
    """Calls of these numbers that were let through, as far as was known at a moment, in order of start.

    Returns: start (ms), number, the called as `reporter`.
    """
    came = pc.and_not(among(rung["caller"], numbers), stopped(rung, moment))
    found = rung.select(["start", "caller", "callee"]).filter(came)
    texts = [found[name].cast(pa.string()) for name in ("caller", "callee")]
    table = pa.table([found["start"].cast(pa.int64()), *texts], names=["start", "number", "reporter"])
    calls: pd.DataFrame = table.to_pandas()
    return calls.sort_values("start", kind="stable")


def stopped(calls: pa.Table, moment: int) -> pa.ChunkedArray:
    """Whether each call was stopped on the way, as far as that was known before a moment (Unix ms)."""
    start, ring, talk, recorded = (calls[name].cast(pa.int64()) for name in ("start", "ring", "talk", "recorded"))
    end = pc.add(start, pc.add(pc.fill_null(ring, 0), pc.fill_null(talk, 0)))
    known = pc.less(pc.coalesce(recorded, end), moment)
    return pc.and_(pc.equal(calls["outcome"].cast(pa.string()), "blocked"), known)


def among(column: pa.ChunkedArray, words: pd.Series[str]) -> pa.Array:
    """Whether each text of a column is one of these words."""
    held = dictionary_encoded(column.combine_chunks())
    wanted = pc.is_in(held.dictionary, value_set=pa.array(words.unique(), held.dictionary.type))
    return wanted.take(held.indices)


def grounds(reports: pd.DataFrame, calls: pd.DataFrame, rung: pa.Table, rules: ComplaintRules) -> Array:
    """1 where a call stands behind a report, `unfounded` where one should and does not, `untold` if it cannot be said.

    Of people to whom the records hold no call at all, and of reports from before they begin, nothing can be said.
    """
    if reports.empty:  # pandas cannot join texts of which there is not one
        return np.empty(0)
    asked = (
        reports[["number", "reporter"]]
        .astype("str")
        .assign(at=milliseconds(reports["at"]), row=np.arange(len(reports)))
    )
    asked = asked.sort_values("at", kind="stable")
    found = pd.merge_asof(
        asked, calls, left_on="at", right_on="start", by=["number", "reporter"],
        tolerance=max(1, int(rules.behind_days * DAY_MS)),
    )  # fmt: skip
    founded = found.set_index("row").sort_index()["start"].notna().to_numpy()
    begin = pc.min(rung["start"]).as_py() if rung.num_rows else np.inf
    reached = set(pc.unique(rung["callee"].filter(among(rung["callee"], reports["reporter"]))).to_pylist())
    told = reports["reporter"].isin(reached).to_numpy() & (milliseconds(reports["at"]).to_numpy() >= begin)
    return np.where(founded, 1.0, np.where(told, rules.unfounded, rules.untold))


def trust(told: pd.DataFrame, findings: pd.DataFrame, rules: ComplaintRules) -> Array:
    """How likely each voice is right, by how often findings that came after its owner's words bore them out."""
    last = findings.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last").set_index("number")
    truth, since = (looked_up(last[name], told["number"]) for name in ("nuisance", "known_at"))
    judged = truth.notna() & (told["known_at"] < since)
    right = judged & (told["against"] == truth.eq(True))
    of = told["reporter"]
    history = pd.DataFrame({"right": right, "judged": judged}).groupby(of).transform("sum")
    prior = rules.prior_right + rules.prior_wrong
    return ((rules.prior_right + history["right"]) / (prior + history["judged"])).to_numpy()


def company(told: pd.DataFrame, rules: ComplaintRules) -> Array:
    """For each voice, how many speak with it about the same number as one: people who name numbers together."""
    numbers, reporters = pd.factorize(told["number"])[0], pd.factorize(told["reporter"])[0]
    named = np.bincount(reporters, minlength=1)
    several = named[reporters] >= max(2, rules.alike_numbers)
    if not several.any():
        return np.ones(len(told))
    shape = (len(named), int(numbers.max()) + 1)
    matrix = coo_array((np.ones(several.sum()), (reporters[several], numbers[several])), shape=shape).tocsr()
    common = (matrix @ matrix.T).tocoo()
    most = np.maximum(named[common.row], named[common.col])
    alike = (common.data >= rules.alike_numbers) & (common.data >= rules.alike_share * most)
    graph = coo_array((alike[alike], (common.row[alike], common.col[alike])), shape=(shape[0], shape[0]))
    ring = connected_components(graph, directed=False)[1][reporters]
    return told.groupby([numbers, ring, told["against"].to_numpy()])["reporter"].transform("size").to_numpy()


def unhurried(told: pd.DataFrame, rules: ComplaintRules) -> Array:
    """What part of each voice is left after bursts are cut to what the called people of a number can say."""
    weight, callees = told["weight"].to_numpy(dtype=float), told["callees"].to_numpy(dtype=float)
    side = pd.factorize(told["number"])[0] * 2 + told["against"].to_numpy(dtype=np.int64)
    burst = bursts(side, milliseconds(told["at"]).to_numpy(), int(rules.burst_hours * HOUR))
    total = np.bincount(burst, weight)[burst]
    room = np.maximum(rules.burst_voices, rules.burst_share * callees)
    return np.minimum(1.0, np.divide(room, total, out=np.ones(len(told)), where=total > 0))


def bursts(side: Array, at: Array, span: int) -> Array:
    """The burst that each report belongs to: one begins with the first report after the last one's span is over."""
    burst = np.zeros(len(side), dtype=np.int64)
    order = np.lexsort((at, side))
    before, begin, count = -1, 0, -1
    for row, one, moment in zip(order.tolist(), side[order].tolist(), at[order].tolist(), strict=True):
        if one != before or moment - begin > span:
            before, begin, count = one, moment, count + 1
        burst[row] = count
    return burst
