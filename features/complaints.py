"""Complaints about a number before the call, as model features that are off by default.

A complaint is an event at the time when it became known, which is days after the call that it is about. Labels derive
from complaints, too: a model that uses these features learns how well complaints predict complaints.

Each person counts once: a complaint does not count if the same person complained about the same number in the 28 days
before. Of two complaints at one time, the later entry does not count. Counts include complaints with
`at - window <= known < at`. Counts of a block, trunk or device leave out complaints about the caller itself.

>>> [feature.name for feature in COMPLAINT_FEATURES][:2]
['reported_count_7d', 'reported_count_28d']
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from operator import attrgetter

from callsieve.features.kernel.windows import DAY_MS

from .records import GROUP_COLUMNS, KeyedCall

WINDOW_MS = 28 * DAY_MS
"""The longest window, and the time in which a second complaint of one person about one number does not count."""

COMPLAINT_COLUMNS = ("known", "reporter", "number", "block", "trunk", "device")
SOURCE = "marks as lists use them: TouchPal, PhoneBlock, 12321; known-at semantics: the design's own"


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint about one number: tokens, and the time at which it became known in Unix milliseconds.

    Block, trunk and device are those of the call that it is about.

    >>> complaint = Complaint(known=1_775_001_600_000, reporter="e1.aa", number="e1.bb")
    >>> complaint.block is None
    True
    """

    known: int
    reporter: str
    number: str
    block: str | None = None
    trunk: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class ComplaintFeature:
    """One feature: the count or the age of complaints about a `key` of the call (number, block, trunk or device)."""

    name: str
    key: str
    days: int
    unit: str
    en: str
    zh: str
    levels: tuple[str, ...] = ()
    source: str = SOURCE
    role: str = "complaints"

    @property
    def definition(self) -> dict[str, object]:
        """The settings that compute the feature from complaints, as plain JSON values."""
        return {
            "name": self.name,
            "history": "complaints",
            "aggregate": "seconds since the last one; unknown if there is none" if self.unit == "seconds" else "count",
            "key": self.key,
            "window_seconds": self.days * DAY_MS // 1000,
            "window_rule": "[at - window, at), by the time when the complaint became known",
            "where": "the same person did not complain about the same number in the 28 days before",
            "excluding": None if self.key == "number" else "complaints about the caller itself",
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
        "people who complained about the caller, known in the last 7 days",
        "7天内举报主叫的人数",
    ),
    ComplaintFeature(
        "reported_count_28d",
        "number",
        28,
        "people",
        "people who complained about the caller, known in the last 28 days",
        "28天内举报主叫的人数",
    ),
    ComplaintFeature(
        "reported_age",
        "number",
        28,
        "seconds",
        "time since the last complaint about the caller became known",
        "距主叫上次被举报的时间",
    ),
    ComplaintFeature(
        "block_reported_count_28d",
        "block",
        28,
        "people",
        "complaints about other numbers of the caller's block, known in the last 28 days",
        "28天内同号段其他号码被举报次数",
    ),
    ComplaintFeature(
        "trunk_reported_count_28d",
        "trunk",
        28,
        "people",
        "complaints about other numbers on the same trunk, known in the last 28 days",
        "28天内同中继其他号码被举报次数",
    ),
    ComplaintFeature(
        "device_reported_count_28d",
        "device",
        28,
        "people",
        "complaints about other numbers of the caller's device, known in the last 28 days",
        "28天内同设备其他号码被举报次数",
    ),
)
COMPLAINT_NAMES = tuple(feature.name for feature in COMPLAINT_FEATURES)
Key = tuple[str, ...]


class Complaints:
    """Complaints in memory, observed one at a time in any order, with their features at ring time. Not thread-safe.

    Args:
        limit: maximum of complaints in memory. Beyond it, a new complaint replaces the oldest arrival; `dropped` counts
            it.
    """

    def __init__(self, limit: int = 1_000_000) -> None:
        self.dropped = 0
        self._limit = limit
        self._stored: deque[Complaint] = deque()
        self._by_pair: dict[Key, list[Complaint]] = {}  # by (reporter, number), in order of `known`
        self._times: dict[Key, list[int]] = {}  # times of complaints that count, by number, block, trunk and device

    @property
    def stored(self) -> tuple[Complaint, ...]:
        """The complaints in memory, in order of arrival."""
        return tuple(self._stored)

    def observe(self, complaint: Complaint) -> None:
        """Adds a complaint, which counts from the time when it became known."""
        while self._stored and self._stored[0].known < complaint.known - 2 * WINDOW_MS:
            self._drop_oldest()
        if len(self._stored) >= self._limit:
            self._drop_oldest()
            self.dropped += 1
        self._stored.append(complaint)
        previous = self._by_pair.get((complaint.reporter, complaint.number), [])
        self._replace(previous, sorted([*previous, complaint], key=attrgetter("known")))

    def vector(self, call: KeyedCall) -> list[float]:
        """Values of COMPLAINT_FEATURES at the start of a call; NaN where unknown."""
        at = call.start
        own = self._times.get(("number", call.caller), [])
        last = bisect_left(own, at)
        recent = last > 0 and own[last - 1] >= at - WINDOW_MS
        row = [
            float(last - bisect_left(own, at - 7 * DAY_MS)),
            float(last - bisect_left(own, at - WINDOW_MS)),
            (at - own[last - 1]) / 1000 if recent else math.nan,
        ]
        for group, token in zip(GROUP_COLUMNS, (call.caller_block, call.trunk, call.device), strict=True):
            others = self._within(at, group, token) - self._within(at, group, token, call.caller) if token else math.nan
            row.append(float(others))
        return row

    def _within(self, at: int, *key: str) -> int:
        times = self._times.get(key, [])
        return bisect_left(times, at) - bisect_left(times, at - WINDOW_MS)

    def _drop_oldest(self) -> None:
        complaint = self._stored.popleft()
        previous = self._by_pair[complaint.reporter, complaint.number]
        self._replace(previous, [other for other in previous if other is not complaint])

    def _replace(self, old: list[Complaint], new: list[Complaint]) -> None:
        """Replaces the complaints of one reporter about one number, and updates the times of those that count."""
        pair = (old or new)[0].reporter, (old or new)[0].number
        counted_before, counted_now = counted(old), counted(new)
        for complaint in counted_before:
            if not any(other is complaint for other in counted_now):
                for key in keys_of(complaint):
                    self._times[key].remove(complaint.known)
                    if not self._times[key]:
                        del self._times[key]
        for complaint in counted_now:
            if not any(other is complaint for other in counted_before):
                for key in keys_of(complaint):
                    insort(self._times.setdefault(key, []), complaint.known)
        self._by_pair[pair] = new
        if not new:
            del self._by_pair[pair]


def counted(complaints: list[Complaint]) -> list[Complaint]:
    """Returns the complaints that count, given the complaints of one person about one number in order of `known`."""
    return [
        complaint
        for i, complaint in enumerate(complaints)
        if i == 0 or complaint.known - complaints[i - 1].known > WINDOW_MS
    ]


def keys_of(complaint: Complaint) -> list[Key]:
    """Keys under which a complaint counts: its number, and each group in total and by number."""
    keys: list[Key] = [("number", complaint.number)]
    for group, token in zip(GROUP_COLUMNS, (complaint.block, complaint.trunk, complaint.device), strict=True):
        if token is not None:
            keys += [(group, token), (group, token, complaint.number)]
    return keys
