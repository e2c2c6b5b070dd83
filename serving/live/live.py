"""Live scoring in one process: call events in, verdicts at ring time out; memory, and its copy on disk.

live = Live(swap, Intake(read_key("number.key")), Path("state"))
verdict = live.attempt(call)  # at ring time; never raises, and passes a call whose verdict would be late
live.end(call)  # with ring, talk and outcome, when the call is over
live.close()

On disk are a snapshot of the history and the events since then (`journal.py` says when they are safe): keyed tokens and
facts, never a number. The number that a caller dialled last is not on disk, because it is digits. So the first call of
a caller after a restart has an unknown `call_step`; all other features are restored, vector by vector.
"""

from __future__ import annotations

import logging
import math
import time
from array import array
from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.intake.call_values import type_fault
from callsieve.features.intake.intake import Intake
from callsieve.features.records import Call, KeyedCall
from callsieve.serving.bundle.level import Shift
from callsieve.serving.scorer.flags import FILE, Flags
from callsieve.serving.scorer.network_scores import NetworkScores
from callsieve.serving.scorer.problems import ProblemLog
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import STATUSES, Status, band_conditions, message_of
from callsieve.serving.scorer.verdict import Verdict, no_verdict

from .calls_in_progress import CallsInProgress
from .clock import Clock
from .events import Complaint, complaint_to_line
from .journal import Journal
from .memory import JOURNAL_BYTES, LIMITS, Limits, Memory
from .swap import Swap
from .verdict_log import VERDICTS, explain_record, find_record, record_to_line, verdict_record

DEADLINE = 0.020  # seconds
AHEAD = 60.0  # seconds in the future at which a call may start or end
RECENT = 4_096  # verdicts that are explained from memory, and that shares of statuses are computed from
MAX_TEXT = 256  # characters of a text of a call
PAUSE = 1e-4  # seconds between two steps of forgetting, for waiting calls
VERDICT_BYTES = 64 << 20  # of verdict records in one file
IN_PROGRESS = 3_600_000  # ms; after a clean stop, the end of a call that began earlier has an unknown step
SCORES_EVERY = 600.0  # seconds between two copies of the network's scores; a killed process loses those since the last
BOUNDS = (50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 1.0)  # seconds
COUNTERS = ("attempts", "ends", "reports", "shed", "late", "ahead", "faults", "repeats", "unrecorded")
_LOG = logging.getLogger("callsieve.serving")
_TEXTS = ("caller", "callee", "network_caller", "trunk", "operator", "device", "place")


class FutureEventError(ValueError):
    """An event lies in the future, by this machine's clock."""


class Live:
    """Scores call events in one process. Safe to share between threads: a lock serializes them.

    A call that starts or ends more than AHEAD seconds in the future is not recorded: it would move the windows of its
    numbers forward, and windows never move back.

    Attributes:
        counts: events by the names of COUNTERS. `reports` are complaints. `shed`: attempts that got the lock after
            their deadline and passed unscored. `late`: attempts that were scored after the deadline and passed.
            `ahead`: events in the future, not recorded. `faults`: events that could not be read, not recorded.
            `repeats`: attempts that were known already. `unrecorded`: verdicts other than "pass" without a record.
        actions: verdicts by action.
        statuses: verdicts by status. `recent_statuses`: the statuses of the last RECENT verdicts.
        latency: verdicts by time taken, up to each of BOUNDS and above. `seconds` is the sum.
        reason_counts: how often each feature was a reason for a verdict other than "pass".
        rules: how often a call met each rule.
        in_progress: calls that have begun and not ended.
        memory: the history, and its copy on disk.
        verdicts: the journal of verdict records.
        on_forget: called when a token was forgotten in memory.
    """

    def __init__(
        self,
        scorers: Swap,
        intake: Intake,
        folder: Path,
        *,
        deadline: float = DEADLINE,
        limits: Limits = LIMITS,
        journal_bytes: int = JOURNAL_BYTES,
        by_commit: bool = False,
    ) -> None:
        """Restores the state in a folder, or creates one there. A folder belongs to one process at a time.

        Args:
            deadline: seconds from an attempt's arrival to its verdict.
            by_commit: whether events are written by `commit` alone, for a stream that is read again from the last
                position on disk. By default a thread writes them several times a second.
        """
        if not 0 < deadline < math.inf:
            raise ValueError(f"deadline must be above 0 and finite, got {deadline} seconds")
        self.scorers, self.deadline = scorers, deadline
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.actions: Counter[str] = Counter()
        self.statuses: Counter[Status] = Counter()
        self.recent_statuses: deque[Status] = deque(maxlen=RECENT)
        self.latency, self.seconds = [0] * (len(BOUNDS) + 1), 0.0
        self.reason_counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.on_forget: Callable[[], object] = lambda: None
        self._intake, self._clock, self._folder = intake, Clock(), folder
        self.in_progress = CallsInProgress(intake)
        self._recent: OrderedDict[str, tuple[Scorer, array[float], KeyedCall, Verdict]] = OrderedDict()
        self.memory = Memory(folder, on_restored=self.in_progress.restore, limits=limits, journal_bytes=journal_bytes)
        if self.memory.refusal is not None:
            _LOG.error("a snapshot of earlier processes was refused: %s", self.memory.refusal)
        self._lock = self.memory.lock
        self._problems = ProblemLog()
        self._rotated_at, self._scores_at = 0, time.monotonic() + SCORES_EVERY
        self.verdicts = Journal(folder, VERDICTS, after=self._after_write)
        self._restore_scores()  # before anything can fail: closing writes them again
        try:
            scorers.require_fit(self.memory.history)
        except ValueError:
            self.close()
            raise
        _ = self.memory.history.feed  # measured now, so that health knows it before the first call
        self.memory.start(self.forget, by_commit=by_commit)
        self.verdicts.start()

    def attempt(self, call: Call, arrived: float | None = None) -> Verdict:
        """Returns the verdict at ring time; the call is then recorded as an attempt. Never raises."""
        began = time.monotonic()
        last = (began if arrived is None else arrived) + self.deadline
        if last <= began or not self._lock.acquire(timeout=last - began):
            return self.shed()
        try:
            try:
                verdict = self._score(call)
            except Exception as error:
                self.counts["faults"] += 1
                verdict = self._problem("fault", type(error).__name__)
            if time.monotonic() > last:
                verdict = self._late(verdict)
        finally:
            self._lock.release()
        self._record_verdict(verdict)
        return self._counted(verdict, time.monotonic() - began)

    def shed(self) -> Verdict:
        """Returns the answer to an attempt whose deadline passed before it was scored. The call is not recorded."""
        self.counts["shed"] += 1
        return self._counted(self._pass("deadline"), 0.0)

    def end(self, call: Call) -> None:
        """Records a call as it is known later: ended, or still in progress."""
        with self._lock:
            try:
                self.refuse_future(call)
                self._record(call, self.in_progress.keyed(_checked(call)))
            except FutureEventError:
                raise
            except Exception:
                self.counts["faults"] += 1
                if fault := type_fault(call):
                    raise TypeError(fault) from None
                raise
            self.counts["ends"] += 1

    def refuse_future(self, call: Call) -> None:
        """Raises FutureEventError for a call that starts or ends in the future, which `attempt` passes unscored."""
        if self._is_ahead(call):
            raise FutureEventError("call: expected a call that does not start or end in the future")

    def add_complaint(self, complaint: Complaint) -> None:
        """Records a complaint for labels; `events.read_complaints` reads it back."""
        now = self._clock.now()
        if not 0 <= complaint.at <= now + AHEAD:
            self.counts["ahead"] += 1
            raise FutureEventError("complaint: expected `at` in seconds since 1970, and not after now")
        with self._lock:
            reporter, number = (self._intake.token("number", text) for text in (complaint.reporter, complaint.number))
        self.memory.complaints.add(complaint_to_line(complaint, str(reporter), str(number), round(now * 1000)))
        self.counts["reports"] += 1

    def explain(self, case: str) -> Verdict | None:
        """Returns a verdict with reasons, by the model that gave it; None if it is unknown.

        The last RECENT verdicts are in memory. Older ones, and those before a restart, come from the journal of verdict
        records, as long as it has them; a verdict "pass" has no record.
        """
        recent = self._recent.get(case)
        if recent is None:
            record = find_record(self._folder, case)
            return None if record is None else explain_record(record, self.scorers.scorer)
        scorer, row, call, first = recent
        conditions = band_conditions(first.status, first.band, scored=not math.isnan(first.score))
        shift = Shift(first.shift)
        again = scorer.explain_row(row.tolist(), call.start, feed=first.feed, shift=shift, **conditions)
        # Registers are not looked up again, because they may have changed since.
        names = ("action", "confidence", "status", "message", "rules", "plan_class")
        same = {name: getattr(first, name) for name in names}
        return replace(again, case=case, **same)

    @property
    def feed(self) -> str:
        """The feed whose thresholds apply: the pinned one, or the one that the history recognised last."""
        scorer, recognised = self.scorers.scorer, self.memory.history.memory_feed.name
        return recognised if scorer is None else scorer.feed_for(scorer.policy.feed or recognised)

    @property
    def feed_is_pinned(self) -> bool:
        """Whether the policy sets the feed."""
        return self.scorers.scorer is not None and self.scorers.scorer.policy.feed != ""

    def status_shares(self) -> dict[Status, float]:
        """Returns the share of each status among the last RECENT verdicts; 0 without a verdict."""
        counts = Counter(self.recent_statuses.copy())
        total = max(counts.total(), 1)
        return {status: counts[status] / total for status in STATUSES}

    def forget(self, token: str) -> None:
        """Forgets a number in memory; `forgetting.py` describes the disk, and what stays."""
        with self._lock:
            self.memory.history.forget(token)
            if (scorer := self.scorers.scorer) is not None:
                scorer.flags.release(token)
            if self.scorers.listed is not None:
                self.scorers.listed.token.cache_clear()  # its keys are numbers as written
            recent = list(self._recent.values())
        # The search takes milliseconds, and calls continue during it.
        cases = [verdict.case for _, _, call, verdict in recent if token in (call.caller, call.callee)]
        with self._lock:
            for case in cases:
                self._recent.pop(case, None)
        self._keep_scores()  # the file of flags forgets, too
        more, steps = True, chain(self.in_progress.forgetting(token), self._intake.forgetting(token))
        while more:
            with self._lock:
                more = next(steps, False)
            time.sleep(PAUSE)
        self.on_forget()

    def remember(self, call: Call) -> None:
        """Learns which number a caller dialled last, from an event that the state has already."""
        with self._lock:
            self._intake(call)

    def commit(self) -> bool:
        """Writes all events and verdict records to disk now; returns whether the disk took them."""
        self.verdicts.flush()
        return self.memory.commit() and self.verdicts.age == 0

    def close(self) -> int:
        """Writes everything to disk; returns how many events and records are lost. No event may come after this."""
        self._keep_scores()
        latest = (self.memory.newest or 0) - IN_PROGRESS
        return self.verdicts.close() + self.memory.close(self.in_progress.since(latest))

    def _keep_scores(self) -> None:
        for path, lasting in self._lasting().items():
            try:
                write_atomic(path, lasting.to_bytes(), OWNER_ONLY)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                _LOG.warning("%s is not written (%s): strict thresholds after the start", path.name, reason)

    def _restore_scores(self) -> None:
        for path, lasting in self._lasting().items():
            with suppress(OSError, ValueError):  # without the file the strictest thresholds apply for a while
                lasting.restore(path.read_bytes())

    def _lasting(self) -> dict[Path, NetworkScores | Flags]:
        if (scorer := self.scorers.scorer) is None:
            return {}
        networks = {
            f"scores-{scorer.bundle.model_id}-{feed.replace(', ', '-').replace(' ', '_')}.bin": network
            for feed, network in scorer.networks.items()
        }
        return {self._folder / name: lasting for name, lasting in (networks | {FILE: scorer.flags}).items()}

    def _score(self, call: Call) -> Verdict:
        try:
            if self._is_ahead(_checked(call)):
                return self._problem("wrong_input", "the call starts or ends in the future")
            keyed = self.in_progress.find(call) or self._intake(call)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            self.counts["faults"] += 1
            return self._problem("wrong_input", type_fault(call) or str(error))
        scorer, listed = self.scorers.scorer, self.scorers.listed
        self.memory.history.advance(keyed.start)  # not ahead of the clock
        shared = 0 if listed is None else listed.token(call.caller)
        verdict, row = self.scorers.scored(self.memory.history, keyed, shared)
        if scorer is not None and row is not None:
            self._recent[verdict.case] = (scorer, row, keyed, verdict)
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        self._record(call, keyed)
        return verdict

    def _late(self, verdict: Verdict) -> Verdict:
        self.counts["late"] += 1
        late = replace(verdict, action="pass", status="deadline", message=message_of("deadline"))
        late = replace(late, confidence=math.nan, plan_class="")
        if verdict.case in self._recent:
            self._recent[verdict.case] = (*self._recent[verdict.case][:3], late)
        return late

    def _record_verdict(self, verdict: Verdict) -> None:
        if verdict.action == "pass":
            return
        try:
            scorer, row, call, _ = self._recent[verdict.case]
            self.verdicts.add(record_to_line(verdict_record(verdict, call, row, scorer)))
        except Exception as error:
            self.counts["unrecorded"] += 1
            line = "no record of a verdict %r, so its caller cannot appeal: %s"
            _LOG.error(line, verdict.action, type(error).__name__, extra={"case": verdict.case})

    def _counted(self, verdict: Verdict, took: float) -> Verdict:
        self.counts["attempts"] += 1
        self.actions[verdict.action] += 1
        self.statuses[verdict.status] += 1
        self.recent_statuses.append(verdict.status)
        for fact in verdict.rules:
            self.rules[fact.rule] += 1
        self.latency[bisect_left(BOUNDS, took)] += 1
        self.seconds += took
        if verdict.action != "pass":
            self.reason_counts.update(reason.feature for reason in verdict.reasons)
        return verdict

    def _pass(self, status: Status, detail: str = "") -> Verdict:
        scorer = self.scorers.scorer
        model, until = (scorer.bundle.model_id, scorer.bundle.valid_until) if scorer else ("", "")
        return no_verdict(status, detail, model=model, valid_until=until)

    def _problem(self, status: Status, detail: str) -> Verdict:
        verdict = self._pass(status, detail)
        self._problems.note(status, verdict.message)
        return verdict

    def _record(self, call: Call, keyed: KeyedCall) -> None:
        self.memory.record(keyed)
        self.counts["repeats"] += self.in_progress.note(call, keyed)

    def _is_ahead(self, call: Call) -> bool:
        last = max(call.start + (call.ring or 0.0) + (call.talk or 0.0), call.recorded or 0.0)
        ahead = last > self._clock.now() + AHEAD
        self.counts["ahead"] += ahead
        return ahead

    def _after_write(self) -> None:
        """Does what is due, in the thread of the journal of verdicts: a copy of the network's scores, or a new file.

        Only closed files can be deleted.
        """
        if time.monotonic() >= self._scores_at:
            self._scores_at = time.monotonic() + SCORES_EVERY
            self._keep_scores()
        if self.verdicts.written - self._rotated_at > VERDICT_BYTES:
            self._rotated_at = self.verdicts.written
            self.verdicts.rotate()


def _checked(call: Call) -> Call:
    for name in _TEXTS:
        text = getattr(call, name)
        if text and len(text) > MAX_TEXT:
            raise ValueError(f"call: {name} must have at most {MAX_TEXT} characters")
    return call
