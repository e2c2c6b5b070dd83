"""Splits calls into folds: forward in time with a gap, and no caller, block, trunk, device or campaign in two folds.

Callers that share a number block, a trunk, a device or a campaign form a group (connected components); a group is in
one fold only. A block, trunk or device that a large share of the callers uses, such as an exchange's main trunk, forms
no group. Training comes first. After a gap of the longest window plus the label delay, thresholds are chosen in
one span and certified in a later one. Thresholds are chosen on training groups, by out-of-fold scores
(`scores.py`), and certified on groups that no ensemble member trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import dictionary_decoded, factorize
from callsieve.features.records import NUMBER_CLASSES
from callsieve.training.data.sources import Role

WINDOW_DAYS = 7  # the longest window
FOLDS = ("train", "certify")
# Shares of the groups: enough to certify one false positive in 10,000 benign calls, the rest for training.
SHARES = (0.73, 0.27)
GOLDEN = (5**0.5 - 1) / 2
LINKS = ("caller_block", "trunk", "device")
# A value of a link that more callers use than this connects no callers. In simulated worlds a nuisance trunk has at
# most 48 numbers of 66,000 (0.1 %), and a block at most 39; in a world of 500 callers a block has up to 32 (7 %).
LARGE_SHARE, LEAST_LARGE = 0.05, 100


@dataclass(frozen=True, slots=True)
class Plan:
    """Spans of time in Unix milliseconds, each `[begin, end)`."""

    train: tuple[int, int]
    choose: tuple[int, int]
    certify: tuple[int, int]
    label_cutoff: int


def plan(first: int, last: int, *, label_delay_days: int = 3) -> Plan:
    """Divides the time from the first to the last call (Unix ms) into spans.

    The first 7 days only fill the windows. Of the days after the gap, half are for choosing, half for certifying.
    """
    days = (last - first) // DAY + 1
    gap = WINDOW_DAYS + label_delay_days
    usable = days - WINDOW_DAYS - gap
    if usable < 4:
        raise ValueError(f"calls: expected at least {WINDOW_DAYS + gap + 4} days (windows, training, gap), got {days}")
    learn = usable // 2
    judge = (usable - learn) // 2
    begin = first + WINDOW_DAYS * DAY
    end = begin + learn * DAY
    chosen = end + gap * DAY
    return Plan(
        train=(begin, end),
        choose=(chosen, chosen + judge * DAY),
        certify=(chosen + judge * DAY, first + days * DAY),
        label_cutoff=end + label_delay_days * DAY,
    )


def fold_plan(calls: pa.Table, label_delay_days: int, role: Role = "both", *, with_truth: bool = False) -> Plan:
    """Divides the time of a folder's calls by the role of the folder.

    "both" divides as `plan` does. In a folder to learn from, thresholds are chosen on all days after the gap; if it is
    learnt from with its truth, no label is waited for, and both spans are all days with full windows. In a folder to
    certify on, these days certify.
    """
    first, last = judged_span(calls)
    if role == "certify":
        return Plan(train=(first, first), choose=(first, first), certify=(first, last), label_cutoff=first)
    if role == "learn" and with_truth:
        return Plan(train=(first, last), choose=(first, last), certify=(last, last), label_cutoff=last)
    divided = plan(first - WINDOW_DAYS * DAY, last - 1, label_delay_days=label_delay_days)
    if role == "learn":
        end = divided.certify[1]
        return replace(divided, choose=(divided.choose[0], end), certify=(end, end))
    return divided


def days_of_records(role: Role, divided: Plan) -> float:
    """Returns the days of records that gave the certifying days of a folder, without windows and gap.

    `plan` gives a quarter of its usable days to the certificate, so in a folder with both roles each costs four.
    """
    begin, end = divided.certify
    return (end - begin) / DAY * (4 if role == "both" else 1)


def judged_span(calls: pa.Table) -> tuple[int, int]:
    """Returns the span in which a table's calls have full windows, `[begin, end)` in Unix ms."""
    start = calls["start"].to_numpy()
    if not len(start):
        raise ValueError("calls: expected some, got none")
    return (int(start.min()) + WINDOW_DAYS * DAY, int(start.max()) + 1)


def links_of(calls: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Returns the columns LINKS by name; a value that a large share of the callers uses is null.

    A value is large if more than LARGE_SHARE of all callers use it, and more than LEAST_LARGE callers.
    """
    caller, callers = factorize(calls["caller"])
    columns = {}
    for name in LINKS:
        columns[name] = calls[name]
        link, values = factorize(calls[name])
        valid = link >= 0
        pairs = coo_array((np.ones(int(valid.sum()), dtype=np.int8), (link[valid], caller[valid])), (values, callers))
        large = np.append(np.diff(pairs.tocsr().indptr) > max(LARGE_SHARE * callers, LEAST_LARGE), False)
        if large.any():
            columns[name] = calls[name].take(pa.array(np.arange(len(link)), mask=large[link]))
    return columns


def groups(calls: pa.Table, campaigns: Sequence[pa.ChunkedArray] = ()) -> Array:
    """Returns the group of each call's caller: callers with a common block, trunk, device or campaign. Shape (n,).

    A large block, trunk or device does not count (`links_of`); a campaign counts at any size.
    """
    caller, callers = factorize(calls["caller"])
    nodes = callers
    rows, columns = [], []
    for shared in (*links_of(calls).values(), *campaigns):
        link, links = factorize(shared)
        valid = link >= 0
        rows.append(caller[valid])
        columns.append(nodes + link[valid])
        nodes += links
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(nodes, nodes)).tocsr()
    graph.data[:] = 1  # duplicate edges are summed, and an int8 sum may wrap to zero
    return np.asarray(connected_components(graph, directed=False)[1][caller])


def caller_classes(calls: pa.Table) -> Array:
    """Returns the class of each call's caller as a place among NUMBER_CLASSES, shape (n,); null is "unknown"."""
    words = dictionary_decoded(calls["caller_class"].combine_chunks())
    places = pc.index_in(words, value_set=pa.array(NUMBER_CLASSES, words.type))
    return np.asarray(places.fill_null(NUMBER_CLASSES.index("unknown")).to_numpy(), dtype=np.int64)


def fold_rows(fold_name: str, span: tuple[int, int], fold: Array, start: Array) -> Array:
    """Returns whether each call is in a fold and starts within a span `[begin, end)` of Unix ms; bool."""
    rows: Array = (fold == FOLDS.index(fold_name)) & (start >= span[0]) & (start < span[1])
    return rows


def fold_of_group(group: Array, kind: Array, seed: int, shares: Sequence[float] = SHARES) -> Array:
    """Returns the fold of each call's group: an index into FOLDS, or into other `shares` of the groups.

    Groups are distributed in order of class and size, so that every fold gets its share of the few groups that make
    many calls: a fold without a courier gives no evidence about couriers.
    """
    sizes = np.bincount(group)
    kinds = np.zeros(len(sizes), dtype=np.int64)
    kinds[group] = kind
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(sizes)), -sizes, kinds))
    # A low-discrepancy sequence: any run of neighbours in the order is divided by the shares.
    places = (np.arange(len(sizes)) * GOLDEN + rng.random()) % 1.0
    fold = np.empty(len(sizes), dtype=np.int64)
    fold[order] = np.searchsorted(np.cumsum(shares)[:-1], places, side="right")
    return np.asarray(fold[group])
