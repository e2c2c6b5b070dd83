"""Call events as they come -> verdicts at ring time: one process, its memory, and what of it is on disk.

live = Live(swap, Intake(read_key("number.key")), Path("state"))
verdict = live.attempt(call)  # at ring time; never raises, and passes when it would be late
live.end(call)  # with ring, talk and outcome, when it is over
live.close()

On disk is a snapshot of the history and the events since then (`journal.py` says what is kept when): keyed tokens and
facts, never a number. What is not on disk: which number a caller dialled last, for that is digits. So the first call of
a caller after a restart has an unknown `call_step`; all else is as it was, vector by vector.
"""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from bisect import bisect_left
from collections import Counter, OrderedDict
from dataclasses import replace
from itertools import chain
from pathlib import Path

from callsieve.features.intake.intake import Intake
from callsieve.features.records import Call, KeyedCall
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import FILLING, Verdict

from .calls_in_progress import CallsInProgress
from .clock import Clock
from .events import Complaint, complaint_to_line
from .journal import Journal
from .memory import JOURNAL_BYTES, Memory
from .swap import Swap
from .verdict_log import VERDICTS, record_to_line, verdict_record

DEADLINE = 0.020  # seconds
AHEAD = 60.0  # seconds after now at which a call may start or end
RECENT = 4_096  # verdicts that can be explained
LONGEST = 256  # characters of a text of a call
BETWEEN = 1e-4  # seconds between two steps of forgetting: calls that wait come first
CASES_BYTES = 64 << 20  # of evidence in one file
BOUNDS = (50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 1.0)  # seconds
COUNTERS = ("attempts", "ends", "reports", "shed", "late", "ahead", "faults", "repeats")
_TEXTS = ("caller", "callee", "network_caller", "trunk", "operator", "device", "place")


class FutureEventError(ValueError):
    """An event that lies after now, by this machine's clock."""


class Live:
    """A stream of call events in one process. Safe to share between threads: they take turns.

    A call that starts or ends more than AHEAD seconds after now is not taken in: the windows of its numbers would move
    on, and never back.

    Attributes:
        counts: what was done, by the names of COUNTED. `shed` attempts were answered "pass" unseen, because their
            deadline had passed when their turn came; `late` ones were judged, and answered "pass"; events of calls that
            lie `ahead` and `faults`, which could not be read, were not taken in; `repeats` were known.
        actions: verdicts by action.
        latency: verdicts by time taken: up to each of BOUNDS, and above. `seconds` is the sum.
        told: how often each feature was a reason for a verdict other than "pass".
        rules: how often a call met each rule.
        memory: what it knows of calls, and what of that is on disk.
    """

    def __init__(
        self,
        judge: Swap,
        intake: Intake,
        folder: Path,
        *,
        deadline: float = DEADLINE,
        calls: int = 2_000_000,
        numbers: int = 200_000,
        compiled: bool = True,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> None:
        """Take up the state in a folder, or begin one there; it belongs to one process at a time.

        Args:
            deadline: seconds from an attempt's arrival to its verdict.
            calls, numbers, compiled: as for `History`.
            journal_bytes: events on disk, until a snapshot takes their place.

        Raises:
            ValueError: if another process has the folder, or there is no time for a verdict.
            OSError: if it cannot be read.
        """
        if not 0 < deadline < math.inf:
            raise ValueError(f"deadline must be above 0 and finite, got {deadline} seconds")
        self.judge, self.deadline = judge, deadline
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.actions: Counter[str] = Counter()
        self.latency, self.seconds = [0] * (len(BOUNDS) + 1), 0.0
        self.told: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self._intake, self._clock = intake, Clock()
        self._air = CallsInProgress(intake)
        self._recent: OrderedDict[str, tuple[Scorer, array[float], KeyedCall, Verdict]] = OrderedDict()
        self.memory = Memory(
            folder, left=self._air.note_left, calls=calls, numbers=numbers, compiled=compiled,
            journal_bytes=journal_bytes,
        )  # fmt: skip
        self._lock = self.memory.lock
        self.memory.look_after(self.forget)
        self._turned = 0
        self._begun = False  # a journal's thread may run before its name is known here
        self.cases = Journal(folder, VERDICTS, after=self._turn_if_large)
        self._begun = True

    def attempt(self, call: Call, arrived: float | None = None) -> Verdict:
        """The verdict at ring time; the call is then known as an attempt. Never raises.

        Args:
            arrived: `time.monotonic()` when the question came, if it had to wait.
        """
        began = time.monotonic()
        last = (began if arrived is None else arrived) + self.deadline
        if last <= began or not self._lock.acquire(timeout=last - began):
            return self.shed()
        try:
            verdict = self._judged(call)
        except Exception as error:
            self.counts["faults"] += 1
            verdict = self._pass(f"no score: {type(error).__name__}")
        finally:
            self._lock.release()
        if time.monotonic() > last:
            self.counts["late"] += 1
            verdict = replace(verdict, action="pass", status="late: the verdict came after the deadline")
        self._keep_evidence(verdict)
        return self._counted(verdict, began)

    def shed(self) -> Verdict:
        """The answer to an attempt that there was no time for."""
        self.counts["shed"] += 1
        return self._counted(self._pass("no score: its turn came after the deadline"), time.monotonic())

    def end(self, call: Call) -> None:
        """Take in a call as it is known later: over, or not.

        Raises:
            Ahead: if it starts or ends after now.
            ValueError: in one line without a number, if it cannot be.
        """
        with self._lock:
            if self._is_ahead(call):
                raise FutureEventError("call: expected one that does not start or end after now")
            try:
                self._keep(call, self._air.keyed(_checked(call)))
            except Exception:
                self.counts["faults"] += 1
                raise
            self.counts["ends"] += 1

    def report(self, report: Complaint) -> None:
        """Keep what a called person says; `events.read_complaints` gives it back, for labels.

        Raises:
            Ahead: if it is of after now.
        """
        now = self._clock.now()
        if not 0 <= report.at <= now + AHEAD:
            self.counts["ahead"] += 1
            raise FutureEventError("complaint: expected `at` in seconds since 1970, and not after now")
        with self._lock:
            reporter, number = (self._intake.token("number", text) for text in (report.reporter, report.number))
        self.memory.reports.add(complaint_to_line(report, str(reporter), str(number), round(now * 1000)))
        self.counts["reports"] += 1

    def explain(self, case: str) -> Verdict | None:
        """A recent verdict once more, by the model that gave it, with reasons; None if it is not known any more."""
        kept = self._recent.get(case)
        if kept is None:
            return None
        scorer, row, call, given = kept
        again = scorer.explain_row(row.tolist(), call.start, covered=given.status != FILLING)
        # What registers said then is not looked up again: they may say something else by now.
        return replace(again, case=case, action=given.action, status=given.status, rules=given.rules)

    def forget(self, token: str) -> None:
        """Know a number no more, in memory; `forgetting.py` says what of the disk, and what stays."""
        with self._lock:
            self.memory.history.forget(token)
            recent = list(self._recent.values())
        # To look through them takes milliseconds: calls go on meanwhile.
        cases = [verdict.case for _, _, call, verdict in recent if token in (call.caller, call.callee)]
        with self._lock:
            for case in cases:
                self._recent.pop(case, None)
        left, steps = True, chain(self._air.forgetting(token), self._intake.forgetting(token))
        while left:
            with self._lock:
                left = next(steps, False)
            time.sleep(BETWEEN)

    def close(self) -> None:
        """Write down everything; no event may come any more."""
        self.cases.close()
        self.memory.close()

    def _judged(self, call: Call) -> Verdict:
        if self._is_ahead(_checked(call)):
            return self._pass("no score: the call starts or ends after now")
        keyed = self._air.known(call) or self._intake(call)
        scorer, self.memory.history.last = self.judge.scorer, None
        verdict = self.judge.score(self.memory.history, keyed)
        if scorer is not None and self.memory.history.last is not None:
            self._recent[verdict.case] = (scorer, self.memory.history.last, keyed, verdict)
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        self._keep(call, keyed)
        return verdict

    def _keep_evidence(self, verdict: Verdict) -> None:
        """Hand over what a verdict was made of, unless the call passes. Never raises: the verdict stands without."""
        if verdict.action == "pass":
            return
        with contextlib.suppress(Exception):
            scorer, row, call, _ = self._recent[verdict.case]
            self.cases.add(record_to_line(verdict_record(verdict, call, row, scorer)))

    def _counted(self, verdict: Verdict, began: float) -> Verdict:
        took = time.monotonic() - began
        self.counts["attempts"] += 1
        self.actions[verdict.action] += 1
        for fact in verdict.rules:
            self.rules[fact.rule] += 1
        self.latency[bisect_left(BOUNDS, took)] += 1
        self.seconds += took
        if verdict.action != "pass":
            self.told.update(reason.feature for reason in verdict.reasons)
        return verdict

    def _pass(self, status: str) -> Verdict:
        scorer = self.judge.scorer
        model, until = (scorer.bundle.model_id, scorer.bundle.valid_until) if scorer else ("", "")
        return Verdict("pass", math.nan, "", None, None, (), status, "", model, until)

    def _keep(self, call: Call, keyed: KeyedCall) -> None:
        self.memory.keep(keyed)
        self.counts["repeats"] += self._air.note(call, keyed)

    def _is_ahead(self, call: Call) -> bool:
        """Whether a call is of the future, and count it. A time that is no number is not ahead: it is a fault."""
        last = max(call.start + (call.ring or 0.0) + (call.talk or 0.0), call.recorded or 0.0)
        ahead = last > self._clock.now() + AHEAD
        self.counts["ahead"] += ahead
        return ahead

    def _turn_if_large(self) -> None:
        """In the thread of the journal of cases: a file that is not written any more can be deleted once it is read."""
        if self._begun and self.cases.written - self._turned > CASES_BYTES:
            self._turned = self.cases.written
            self.cases.turn()


def _checked(call: Call) -> Call:
    """The same call; ValueError if a text of it is so long that it would fill the memory of texts."""
    texts = (call.caller, call.callee, call.network_caller, call.trunk, call.operator, call.device, call.place)
    for text in texts:
        if text and len(text) > LONGEST:
            name = _TEXTS[texts.index(text)]
            raise ValueError(f"call: {name} must have at most {LONGEST} characters")
    return call
