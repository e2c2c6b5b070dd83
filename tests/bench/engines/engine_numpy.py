"""Computes the common features with NumPy: prefix sums, and binary search for the edges of each window.

One sorted key stands for (caller, time), so one search over the whole table finds an edge. For distinct callees an
attempt stops counting when its window ends or its callee is called again. So the distinct callees at a time are the
attempts before it, less the attempts that stopped counting before it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .common import COMMON, WINDOWS, keyed, outcome_sums

NEVER = np.iinfo(np.int64).max


def search(calls: pa.Table, threads: int) -> pa.Table:  # noqa: ARG001 - NumPy has one
    """Returns rows in order of caller and start, with their position in `calls` as `row`."""
    key, caller, callee = keyed(calls)
    moments, totals = outcomes(calls, key)
    order = np.argsort(key, kind="stable")
    key, pair = key[order], (caller * (callee.max() + 1) + callee)[order]
    again = next_of_pair(key, pair)
    before, after = np.searchsorted(key, key), np.searchsorted(moments, key)
    sums = {}
    for name, width in WINDOWS.items():
        begin = np.searchsorted(moments, key - width)
        sums[f"calls_{name}"] = before - np.searchsorted(key, key - width)
        sums[f"callees_{name}"] = before - np.searchsorted(np.sort(np.minimum(key + width, again)), key)
        sums |= {f"{total}_{name}": totals[total][after] - totals[total][begin] for total in outcome_sums(name)}
    return pa.table({"row": order} | {f.name: value(sums, f.how, f.part, f.whole) for f in COMMON})


def next_of_pair(key, pair):
    """Returns the key at which the same caller calls the same callee again."""
    by_pair = np.argsort(pair, kind="stable")
    again = np.full(len(key), NEVER)
    same = np.diff(pair[by_pair]) == 0
    again[by_pair[:-1][same]] = key[by_pair[1:][same]]
    return again


def outcomes(calls, key):
    """Returns the sorted keys of the outcomes, and the running totals of each sum, which start with zero."""
    over = calls["ring"].is_valid().to_numpy()
    ring, talk = (calls[name].fill_null(0).to_numpy()[over] for name in ("ring", "talk"))
    outcome = calls["outcome"].combine_chunks()
    words, codes = outcome.dictionary.to_pylist(), outcome.indices.to_numpy()[over]
    answered = codes == words.index("answered")
    adds = {
        "ended": codes != words.index("blocked") if "blocked" in words else np.ones(len(talk), dtype=np.int64),
        "answered": answered,
        "talk": np.where(answered, talk, 0),
        "under_10s": answered & (talk < 10_000),
        "under_30s": answered & (talk < 30_000),
        "no_answer": codes == words.index("no_answer"),
    }
    key = key[over] + ring + talk
    order = np.argsort(key, kind="stable")
    return key[order], {name: np.concatenate([[0], np.cumsum(column[order])]) for name, column in adds.items()}


def value(sums, how, part, whole):
    if how == "count":
        return sums[part].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if how == "seconds":
            return sums[part] / sums[whole] / 1000
        return np.where(sums[whole] > 0, (sums[part] + 0.5) / (sums[whole] + 1), np.nan)
