"""The scorer inside Kamailio: the script that app_python3 loads for `embedded.cfg`.

All calls are scored in one process, that of the timer "score": a history that is split over processes sees a part of
each caller's calls and says so nowhere. SIP workers leave calls in a queue, take verdicts from another, and never wait.

Nothing heavy is imported before that process asks for it: with NumPy in Kamailio's main process, Kamailio hangs on
SIGTERM. The settings file is named by the environment variable CALLSIEVE_KAMAILIO; `settings.toml` shows its form.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import site
import threading
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callsieve.features.records import KeyedCall
    from callsieve.serving import Scorer, Verdict
    from callsieve.serving.live.journal import Journal
    from callsieve.serving.live.memory import Memory
    from callsieve.serving.telephony.sip_replies import Reply

# Queues: calls that wait, what is said of them, what became of earlier ones, and calls that did not wait any longer.
CALLS, VERDICTS, EVENTS, MISSED = "calls", "verdicts", "events", "missed"
# What the answering processes look at: when this process last came round (Unix ms), and the call that it has in hand.
BEAT, HELD = "$shv(beat)", "$shv(held)"
LOOK_EVERY = 1.0  # seconds between looks at the bundle's signature
REPORT_EVERY = 60.0  # seconds between lines of counts in the log
SELDOM = 60.0  # seconds between two lines that say the same of messages that cannot be read
PENDING = 200_000  # calls in the air that are remembered; the oldest is forgotten first
COUNTED = ("scored", "label", "screen", "block", "ended", "reports", "refused", "missed", "faults")
BATCH = 64  # calls between two looks at the bundle, and events or missed calls taken in while none waits
FORGETTING = 1e-4  # seconds between two steps of forgetting: calls that wait come first
BETWEEN = 8  # events taken in between two calls: more than a call has, and few enough for the next one to wait for
RETRY = 5.0  # seconds until a bundle that could not be loaded at first is tried again
_NOTHING = "pass|||"
# A reload of this script runs it again in the same namespace: what was learnt must outlive it.
_KEPT: dict[str, Any] = globals().get("_KEPT", {})


@dataclass(slots=True)
class Pending:
    """A call in the air, or one being talked on since `answered` (Unix ms)."""

    call: KeyedCall
    tag: str
    answered: int | None = None


class Engine:
    """Intake, history and scorer of one process, and the calls in the air."""

    def __init__(self, settings: dict[str, Any]) -> None:
        site.addsitedir(settings["site"])
        features, serving = importlib.import_module("callsieve.features"), importlib.import_module("callsieve.serving")
        self.sip = importlib.import_module("callsieve.serving.telephony.sip")
        self.replies = importlib.import_module("callsieve.serving.telephony.sip_replies")
        self.settings = settings
        self.redress = self.replies.Redress(**settings["redress"])
        self.dialect = settings.get("dialect", "3gpp")
        self.blocked = self._answer(settings.get("answer", "603+"))
        self.intake = features.Intake(features.read_key(settings["key"]), settings.get("zone", "Asia/Shanghai"))
        self.trusted = [serving.read_public_key(settings["signer"])]
        self.policy = serving.read_policy(settings.get("policy"))
        self.cleared = serving.ClearedCallers(Path(settings["unlisted"])) if "unlisted" in settings else None
        self.registers, self.open = settings.get("registers"), serving.Scorer.load
        self.read_registers = importlib.import_module("callsieve.serving.live.swap").current_registers
        self.caselog = importlib.import_module("callsieve.serving.live.verdict_log")
        self.pending: OrderedDict[str, Pending] = OrderedDict()
        self.counts = dict.fromkeys(COUNTED, 0)
        self._looked, self._seen, self._reported = 0.0, self._signed(), time.monotonic()
        self.scorer: Scorer = self._load(settings.get("minimum_epoch", 0))
        self._warm(features)
        kept = importlib.import_module("callsieve.serving.live.memory")
        room = {name: settings[name] for name in ("calls", "numbers") if name in settings}
        self.memory: Memory | None = None
        self.cases: Journal | None = None
        if "state" in settings:
            # What an earlier process, or `callsieve live fill`, left; and where the evidence of verdicts goes.
            state = Path(settings["state"])
            self.memory = memory = kept.Memory(state, **room)
            self.history, self.lock = memory.history, memory.lock
            self.cases = importlib.import_module("callsieve.serving.live.journal").Journal(state, self.caselog.VERDICTS)
            memory.look_after(self.forget)
        else:
            self.history, self.lock = kept.RecordingHistory(**room), threading.Lock()

    def _answer(self, name: str) -> Callable[[str], Reply]:
        """Case id -> what a blocked call is answered. Found now: a call would be the wrong moment to find a fault."""
        if name == "603+":
            return lambda case: self.replies.network_blocked(self.redress, case)
        if name != "608":
            raise ValueError(f"answer must be 603+ or 608, got {name!r}")
        reply = self.replies.rejected(self.redress)
        return lambda _case: reply

    def _keep_evidence(self, verdict: Verdict, keyed: KeyedCall, scorer: Scorer) -> None:
        """As `Live` does: what a verdict was made of, unless the call passes. Never raises."""
        if self.cases is not None and verdict.action != "pass" and self.history.last is not None:
            with contextlib.suppress(Exception):
                found = self.caselog.verdict_record(verdict, keyed, self.history.last, scorer)
                self.cases.add(self.caselog.record_to_line(found))

    def _warm(self, features: Any) -> None:
        """Have all tables read before the first call, on an intake and a history of their own."""
        call = self.sip.to_call(time.time(), "tel:110", "tel:110")
        intake = features.Intake(features.Key.generate("warm"))
        self.scorer.explain(features.History(), intake(call))

    def score(self, call_id: str, tag: str, **facts: Any) -> Verdict:
        """The verdict on a call, which is then known as an attempt."""
        with self.lock:
            return self._score(call_id, tag, **facts)

    def _score(self, call_id: str, tag: str, **facts: Any) -> Verdict:
        keyed = self.intake(self.sip.to_call(dialect=self.dialect, **facts))
        scorer, self.history.last = self.scorer, None
        # No answer holds reasons: only evidence does.
        verdict: Verdict = scorer.score(self.history, keyed, reasons=self.cases is not None)
        if self.cleared is not None:
            self.cleared.look()
            verdict = self.cleared.spare(verdict, keyed, scorer.action_if_cleared(verdict))
        self._keep_evidence(verdict, keyed, scorer)
        self._observe(call_id, tag, keyed)
        self.counts["scored"] += 1
        if verdict.action in self.counts:
            self.counts[verdict.action] += 1
        return verdict

    def learn(self, call_id: str, tag: str, **facts: Any) -> None:
        """Know a call as an attempt that went on without a verdict."""
        with self.lock:
            self._observe(call_id, tag, self.intake(self.sip.to_call(dialect=self.dialect, **facts)))
        self.counts["missed"] += 1

    def forget(self, token: str) -> None:
        """Know a number no more: in a thread beside the calls, as `Live` does."""
        with self.lock:
            self.history.forget(token)
            for call_id, waiting in list(self.pending.items()):
                if token in (waiting.call.caller, waiting.call.callee):
                    del self.pending[call_id]
        left, steps = True, self.intake.forgetting(token)
        while left:
            with self.lock:
                left = next(steps, False)
            time.sleep(FORGETTING)

    def _keep(self, keyed: KeyedCall) -> None:
        if self.memory is None:
            self.history.observe(keyed)
        else:
            self.memory.keep(keyed)

    def _observe(self, call_id: str, tag: str, keyed: KeyedCall) -> None:
        self._keep(keyed)
        self.pending[call_id] = Pending(keyed, tag)
        if len(self.pending) > PENDING:
            self.pending.popitem(last=False)

    def note(self, call_id: str, event: str) -> None:
        """Take in what happened to a call: `reply <ms> <status> <phrase>` or `bye <ms> <from-tag>`."""
        with self.lock:
            self._note(call_id, event)

    def _note(self, call_id: str, event: str) -> None:
        kind, moment, *words = event.split(" ", 3)
        at, waiting = int(moment), self.pending.get(call_id)
        if waiting is None:
            return
        if kind == "bye" and waiting.answered is not None:
            by = "caller" if words[0] == waiting.tag else "callee"
            self._over(call_id, waiting, "answered", by, waiting.answered, at)
        elif kind == "reply" and waiting.answered is None:
            outcome, by = self.sip.outcome_of(int(words[0]), words[1] if len(words) > 1 else "")
            if outcome == "answered":
                waiting.answered = at
            else:
                self.counts["reports"] += outcome == "unwanted"
                self._over(call_id, waiting, outcome, by, at, at)

    def _over(self, call_id: str, waiting: Pending, outcome: str, by: str, answered: int, ended: int) -> None:
        records = importlib.import_module("callsieve.features.records")
        del self.pending[call_id]
        over = replace(
            waiting.call,
            ring=max(answered - waiting.call.start, 0),
            talk=max(ended - answered, 0),
            outcome=records.OUTCOMES.index(outcome),
            released_by=records.RELEASED_BY.index(by),
        )
        self._keep(over)
        self.counts["ended"] += 1

    def look(self) -> None:
        """Once a second: say what was done, and take up a new bundle where there is one.

        A bundle loads beside the calls; a refused one, or one of an earlier epoch, changes nothing.
        """
        now = time.monotonic()
        if now < self._looked + LOOK_EVERY:
            return
        self._looked = now
        if now >= self._reported + self.settings.get("report_every", REPORT_EVERY):
            self._reported = now
            _log("notice", " ".join(f"{name}={count}" for name, count in self.counts.items()))
        signed = self._signed()
        if signed != self._seen:
            self._seen = signed
            threading.Thread(target=self._take_up, daemon=True).start()

    def _take_up(self) -> None:
        try:
            self.scorer = self._load(self.scorer.bundle.epoch)
            _log("info", f"took up model {self.scorer.bundle.model_id}")
        except Exception as error:
            self.counts["refused"] += 1
            _log("err", f"bundle refused, the last good one stays: {error}")

    def _load(self, epoch: int) -> Scorer:
        registers = None if self.registers is None else self.read_registers(self.registers)
        scorer: Scorer = self.open(
            self.settings["bundle"], trusted=self.trusted, policy=self.policy, registers=registers, minimum_epoch=epoch
        )
        scorer.bundle.contributions.prepare()  # no call waits for it
        return scorer

    def _signed(self) -> tuple[int, int]:
        try:
            found = (Path(self.settings["bundle"]) / "MANIFEST.sig").stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino


class Handler:
    """What the routes of `embedded.cfg` call. Each method returns 1 and never raises: a fault is a call that passes."""

    def child_init(self, _rank: int) -> int:
        """Nothing: Kamailio calls this in its main process too."""
        return 0

    def score(self, _message: object, patience: str = "") -> int:
        """In the scoring process: answer all calls that wait, after what became of earlier ones is known.

        Those that have waited for more than `patience` ms pass at once: to score them would make the next ones late.
        """
        pv, queue = _ksr().pv, _ksr().mqueue
        engine = _KEPT.get("engine") or _first()
        longest = int(patience) if patience else math.inf
        for _ in range(BATCH):
            now = time.time_ns() // 1_000_000
            pv.sets(BEAT, str(now))
            self._events(engine, pv, queue, BETWEEN)
            if queue.mq_fetch(CALLS) < 0:
                self._events(engine, pv, queue, BATCH)
                self._missed(engine, pv, queue)
                break
            key, fields = pv.getw(f"$mqk({CALLS})"), pv.getw(f"$mqv({CALLS})")
            if _began(fields) + longest < now:
                queue.mq_add(VERDICTS, key, _NOTHING)
                queue.mq_add(MISSED, key, fields)
                continue
            pv.sets(HELD, key)
            queue.mq_add(VERDICTS, key, _said(engine, fields))
            pv.sets(HELD, "")
        if engine is not None:
            engine.look()
        return 1

    @staticmethod
    def _missed(engine: Engine | None, pv: Any, queue: Any) -> None:
        for _ in range(BATCH):
            if queue.mq_fetch(MISSED) < 0:
                return
            _learn(engine, pv.getw(f"$mqv({MISSED})"))

    @staticmethod
    def _events(engine: Engine | None, pv: Any, queue: Any, most: int) -> None:
        for _ in range(most):
            if queue.mq_fetch(EVENTS) < 0:
                return
            try:
                if engine is not None:
                    engine.note(pv.getw(f"$mqk({EVENTS})"), pv.getw(f"$mqv({EVENTS})"))
            except Exception as error:
                _fault(engine, "an event is lost", error)


def mod_init() -> Handler:
    """Called by app_python3 when it loads this script, and when it loads it again."""
    return Handler()


def _said(engine: Engine | None, fields: str) -> str:
    """The answer to a call as `action|status|phrase|header`; a fault, or no engine, is a call that passes."""
    if engine is None:
        return _NOTHING
    try:
        verdict = engine.score(**_read(engine, fields))
        if verdict.action == "block":
            reply = engine.blocked(verdict.case)
            headers = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
            return f"block|{reply.status}|{reply.phrase}|{headers}"
        label = engine.replies.label(verdict, engine.redress)
        return f"{verdict.action}|||Call-Info: {label}\r\n" if label else _NOTHING
    except Exception as error:
        _fault(engine, "not scored, the call passes", error)
        return _NOTHING


def _learn(engine: Engine | None, fields: str) -> None:
    """Take in a call that nobody waits for any more."""
    try:
        if engine is not None:
            engine.learn(**_read(engine, fields))
    except Exception as error:
        _fault(engine, "a call is not learnt", error)


def _fault(engine: Engine | None, what: str, error: Exception) -> None:
    """Count a message that could not be read, and tell of it now and then: who sends many of them must fill no log."""
    if engine is not None:
        engine.counts["faults"] = engine.counts.get("faults", 0) + 1  # it may be one of before a reload of this script
    # An error's text could hold what a message held; its kind cannot.
    line, now, told = f"{what}: {type(error).__name__}", time.monotonic(), _KEPT.setdefault("told", {})
    if told.get(line, now) <= now:
        told[line] = now + SELDOM
        _log("err", line)


def _began(fields: str) -> float:
    """When a call came, in Unix ms; of one that does not say, never too late."""
    start = fields.partition(" ")[0]
    return int(start) if start.isdecimal() and len(start) < 16 else math.inf


def _read(engine: Engine, fields: str) -> dict[str, Any]:
    """A call as the routes write it. Raises: ValueError: if it is none."""
    start, trunk, *encoded = fields.split(" ")
    call_id, tag, target, sender, asserted, privacy, attestation, twilio = map(_text, encoded)
    return {
        "call_id": call_id,
        "tag": tag,
        "start": int(start) / 1000,
        "target": target,
        "sender": sender,
        "asserted": asserted,
        "privacy": privacy,
        "verstat": twilio if engine.dialect == "twilio" else "",
        "attestation_info": attestation,
        "trunk": trunk,
    }


def _text(field: str) -> str:
    """A field as it was before Kamailio wrote it in hexadecimal digits; "" for one that is not there."""
    return "" if field == "<null>" else bytes.fromhex(field).decode("utf-8", "replace")


def _first() -> Engine | None:
    """The engine, made at the first time of asking; None, and another try later, if that fails."""
    if _KEPT.get("failed", -RETRY) + RETRY > time.monotonic():
        return None
    try:
        with Path(os.environ["CALLSIEVE_KAMAILIO"]).open("rb") as file:  # it says where the package lies
            engine = _KEPT["engine"] = Engine(tomllib.load(file))
    except Exception as error:
        _KEPT["failed"] = time.monotonic()
        _log("err", f"not loaded, calls pass: {error}")
        return None
    importlib.import_module("callsieve.serving.live.gc_pauses").shorten_pauses()
    if engine.memory is not None and engine.memory.refusal:
        _log("err", f"what was kept of calls cannot be read: {engine.memory.refusal}")
    _log("info", f"serving model {engine.scorer.bundle.model_id}, {engine.history.calls} calls are known of earlier")
    return engine


def _log(level: str, text: str) -> None:
    _ksr().log(level, f"callsieve: {text}\n")


def _ksr() -> Any:
    return importlib.import_module("KSR")
