"""What people said of a number before the call: features that a model has only if it is asked to.

A report is an event at the moment when it became known, days after the call that it is about. Labels are made of
reports too, so a training that uses them shows how well reports follow reports; hence off by default.

A person counts once: a report is left out if the same person reported the same number in the 28 days before (of two at
one moment, the one told later). Counts take reports with `at - window <= known < at`; what is said of a block, trunk or
device leaves out the caller's own.

>>> [feature.name for feature in REPORT_FEATURES][:2]
['reported_count_7d', 'reported_count_28d']
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from callsieve.features.kernel.windows import DAY_MS

from .dataclass import dataclass
from .records import GROUP_COLUMNS, KeyedCall

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

SPAN = 28 * DAY_MS
COMPLAINT_COLUMNS = ("known", "reporter", "number", "block", "trunk", "device")
SOURCE = "marks as lists use them: TouchPal, PhoneBlock, 12321; known-at semantics: the design's own"


@dataclass(frozen=True, slots=True)
class Complaint:
    """A report of one number: tokens, and Unix milliseconds. Block, trunk and device are those of the reported call.

    It counts from the moment when it became known, not from the call that it is about.

    >>> from callsieve.features.complaints import Reports
    >>> reports = Reports()
    >>> reports.observe(Report(known=1_775_001_600_000, reporter="e1.aa", number="e1.bb"))
    >>> len(reports.held)
    1
    """

    known: int
    reporter: str
    number: str
    block: str | None = None
    trunk: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class ComplaintFeature:
    """One feature: reports of a `key` of the call (number, block, trunk or device), counted or their age."""

    name: str
    key: str
    days: int
    unit: str
    en: str
    zh: str
    levels: tuple[str, ...] = ()
    source: str = SOURCE
    role: str = "reports"

    @property
    def definition(self) -> dict[str, Any]:
        """Enough to recompute the feature from reports; plain JSON values."""
        return {
            "name": self.name,
            "history": "reports",
            "aggregate": "seconds since the last one; unknown if there is none" if self.unit == "seconds" else "count",
            "key": self.key,
            "window_seconds": self.days * DAY_MS // 1000,
            "window_rule": "[at - window, at), by when the report became known",
            "where": "the same person did not report the same number in the 28 days before",
            "excluding": None if self.key == "number" else "reports of the caller itself",
            "unit": self.unit,
            "en": self.en,
            "zh": self.zh,
            "source": self.source,
        }


COMPLAINT_FEATURES = (
    ComplaintFeature(
        "reported_count_7d",
        "number",
        7,
        "people",
        "people who reported the caller, known in the last 7 days",
        "7天内举报主叫的人数",
    ),
    ComplaintFeature(
        "reported_count_28d",
        "number",
        28,
        "people",
        "people who reported the caller, known in the last 28 days",
        "28天内举报主叫的人数",
    ),
    ComplaintFeature(
        "reported_age",
        "number",
        28,
        "seconds",
        "time since the last report of the caller became known",
        "距主叫上次被举报的时间",
    ),
    ComplaintFeature(
        "block_reported_count_28d",
        "block",
        28,
        "people",
        "reports of other numbers of the caller's block, known in the last 28 days",
        "28天内同号段其他号码被举报次数",
    ),
    ComplaintFeature(
        "trunk_reported_count_28d",
        "trunk",
        28,
        "people",
        "reports of other numbers on the same trunk, known in the last 28 days",
        "28天内同中继其他号码被举报次数",
    ),
    ComplaintFeature(
        "device_reported_count_28d",
        "device",
        28,
        "people",
        "reports of other numbers of the caller's device, known in the last 28 days",
        "28天内同设备其他号码被举报次数",
    ),
)
COMPLAINT_NAMES = tuple(feature.name for feature in COMPLAINT_FEATURES)
Key = tuple[str, ...]


class Complaints:
    """Online: reports as they become known, in any order; what they say of a call at ring time. Not thread-safe.

    Args:
        most: reports held at most. The one that came first is forgotten when there is no room, counted in `dropped`.
    """

    def __init__(self, most: int = 1_000_000) -> None:
        self.dropped = 0
        self._most = most
        self._held: deque[Complaint] = deque()
        self._of_pair: dict[Key, list[Complaint]] = {}  # of each person and number, in order of when they became known
        self._times: dict[Key, list[int]] = {}  # of what counts, for each number, block, trunk and device

    @property
    def held(self) -> tuple[Complaint, ...]:
        """The reports in memory, in the order in which they came."""
        return tuple(self._held)

    def observe(self, report: Complaint) -> None:
        """Take in a report; it counts from the moment when it became known."""
        while self._held and self._held[0].known < report.known - 2 * SPAN:
            self._forget()
        if len(self._held) >= self._most:
            self._forget()
            self.dropped += 1
        self._held.append(report)
        told = self._of_pair.get((report.reporter, report.number), [])
        self._recount(told, sorted([*told, report], key=attrgetter("known")))

    def vector(self, call: KeyedCall) -> list[float]:
        """Values of REPORT_FEATURES at the start of a call; NaN where unknown."""
        at = call.start
        own = self._times.get(("number", call.caller), [])
        last = bisect_left(own, at)
        recent = last > 0 and own[last - 1] >= at - SPAN
        row = [
            float(last - bisect_left(own, at - 7 * DAY_MS)),
            float(last - bisect_left(own, at - SPAN)),
            (at - own[last - 1]) / 1000 if recent else math.nan,
        ]
        for group, token in zip(GROUP_COLUMNS, (call.caller_block, call.trunk, call.device), strict=True):
            others = self._within(at, group, token) - self._within(at, group, token, call.caller) if token else math.nan
            row.append(float(others))
        return row

    def _within(self, at: int, *key: str) -> int:
        times = self._times.get(key, [])
        return bisect_left(times, at) - bisect_left(times, at - SPAN)

    def _forget(self) -> None:
        report = self._held.popleft()
        told = self._of_pair[report.reporter, report.number]
        self._recount(told, [other for other in told if other is not report])

    def _recount(self, before: list[Complaint], after: list[Complaint]) -> None:
        """The reports of a person and a number have changed: count those that count now, and no others."""
        pair = (before or after)[0].reporter, (before or after)[0].number
        counted, counts = counting(before), counting(after)
        for report in counted:
            if not any(other is report for other in counts):
                for key in keys_of(report):
                    self._times[key].remove(report.known)
                    if not self._times[key]:
                        del self._times[key]
        for report in counts:
            if not any(other is report for other in counted):
                for key in keys_of(report):
                    insort(self._times.setdefault(key, []), report.known)
        self._of_pair[pair] = after
        if not after:
            del self._of_pair[pair]


def counting(reports: list[Complaint]) -> list[Complaint]:
    """Those reports of one person about one number, in order of when they became known, that count."""
    return [
        report
        for i, report in enumerate(reports)
        if i == 0 or report.known - reports[i - 1].known > SPAN
    ]  # fmt: skip


def keys_of(report: Complaint) -> list[Key]:
    """Where a report counts: for its number, and in each group for all and for its number alone."""
    keys: list[Key] = [("number", report.number)]
    for group, token in zip(GROUP_COLUMNS, (report.block, report.trunk, report.device), strict=True):
        if token is not None:
            keys += [(group, token), (group, token, report.number)]
    return keys


def complaint_vectors(calls: pa.Table, reports: pa.Table) -> Array:
    """Offline: values of REPORT_FEATURES for each call, as `Complaints` would say at ring time.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`.
        reports: columns REPORT_COLUMNS, `known` int64, the others tokens, the last three may be null.
    Returns: float64 (calls, features); NaN where a value is unknown.
    Raises: ValueError: if a column is missing.
    """
    import numpy as np

    missing = [name for name in COMPLAINT_COLUMNS if name not in reports.column_names]
    if missing:
        raise ValueError(f"reports: expected columns {', '.join(COMPLAINT_COLUMNS)}, {missing[0]} missing")
    reports = reports.filter(counting_rows(reports))
    known, at = reports["known"].to_numpy(), calls["start"].to_numpy()
    number = coded(reports["number"], calls["caller"])
    own = np.array([before(known, number, at - back) for back in (0, 7 * DAY_MS, SPAN)])
    last = np.append(known[np.lexsort((known, number[0]))], 0)[own[0] - 1]
    columns = [own[0] - own[1], own[0] - own[2], np.where(own[0] > own[2], (at - last) / 1000, np.nan)]
    for group, column in GROUP_COLUMNS.items():
        key = coded(reports[group], calls[column])
        pair = paired(key, number)
        others = [before(known, key, at - back) - before(known, pair, at - back) for back in (0, SPAN)]
        columns.append(np.where(calls[column].is_null().to_numpy(), np.nan, others[0] - others[1]))
    return np.column_stack(columns)


def counting_rows(reports: pa.Table) -> Array:
    """Whether each report counts: bool (reports,)."""
    import numpy as np

    pair = paired(*(coded(reports[name], reports[name]) for name in ("reporter", "number")))[0]
    known = reports["known"].to_numpy()
    order = np.lexsort((known, pair))
    again = np.append(False, (np.diff(pair[order]) == 0) & (np.diff(known[order]) <= SPAN))[: len(order)]
    counts = np.empty(len(order), dtype=bool)
    counts[order] = ~again
    return counts


def coded(of_reports: pa.ChunkedArray, of_calls: pa.ChunkedArray) -> tuple[Array, Array]:
    """Tokens of reports and of calls as the same integers; -1 for none, and for a call's that no report has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pc.unique(of_reports.cast(pa.string())).drop_null()
    codes = (pc.index_in(column.cast(pa.string()), value_set=known) for column in (of_reports, of_calls))
    first, second = (np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64) for found in codes)
    return first, second


def paired(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Codes of pairs from the codes of both; -1 where one of them is."""
    import numpy as np

    width = int(other[0].max(initial=0)) + 1
    both = [np.where((a < 0) | (b < 0), -1, a * width + b) for a, b in zip(one, other, strict=True)]
    known = np.unique(both[0][both[0] >= 0])
    place = [np.searchsorted(known, wanted) for wanted in both]
    known = np.append(known, -2)  # what no pair is
    first, second = (
        np.where(known[found] == wanted, found, -1)
        for found, wanted in zip(place, both, strict=True)
    )  # fmt: skip
    return first, second


def before(known: Array, keys: tuple[Array, Array], at: Array) -> Array:
    """How many reports, sorted by key and time, come before (key, at): differences count those of a key in a window."""
    import numpy as np

    moments = np.unique(known)
    ranks = np.searchsorted(moments, known), np.searchsorted(moments, at)
    reports, calls = (key * (len(moments) + 1) + rank for key, rank in zip(keys, ranks, strict=True))
    return np.searchsorted(np.sort(reports[keys[0] >= 0]), calls)
