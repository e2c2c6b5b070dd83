"""The scorer inside Kamailio: the script that app_python3 loads for `embedded.cfg`, an adapter over `Live`.

One process, that of the timer "score", scores all calls: a history that is split over processes would see only a part
of each caller's calls. SIP workers put calls into a queue, take verdicts from another, and never wait.

This process imports the package only when it opens the engine. If Kamailio's main process had NumPy loaded,
Kamailio would hang on SIGTERM. The environment variable CALLSIEVE_KAMAILIO names the settings file; `settings.toml`
shows its form. After an upgrade of the package, restart Kamailio: a reload of the script keeps the old engine.
"""

from __future__ import annotations

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
    from callsieve.features.records import Call
    from callsieve.serving import Verdict
    from callsieve.serving.telephony.sip_replies import Reply

# Queues: waiting calls, their verdicts, events of earlier calls, and calls that were relayed without a verdict.
CALLS, VERDICTS, EVENTS, MISSED = "calls", "verdicts", "events", "missed"
# Variables that the answering processes read: time of this process's last cycle (Unix ms), and the call that it scores.
BEAT, IN_HAND = "$shv(beat)", "$shv(held)"
DEADLINE = 1.0  # seconds for a verdict; the answering processes relay a call long before that
CHECK_EVERY = 1.0  # seconds between two checks of the bundle's signature
REPORT_EVERY = 60.0  # seconds between two log lines with counters
REPEAT = 60.0  # seconds between two log lines about the same fault
RETRY = 5.0  # seconds until the next try to open an engine
PENDING = 200_000  # maximum of calls in progress; beyond it, the oldest is forgotten
BATCH = 64  # calls between two checks of the bundle, and events or missed calls recorded while no call waits
BETWEEN = 8  # events recorded between two calls: more than one call causes, but few, because the next call waits
SETTINGS = ("site", "bundle", "signer", "key", "state", "redress")
_NO_VERDICT = "pass|||"
# A reload of this script runs it again in the same namespace: the engine must survive it.
_STATE: dict[str, Any] = globals().get("_STATE", {})


@dataclass(slots=True)
class Pending:
    """A call in progress: ringing, or answered at `answered` (Unix ms)."""

    call: Call
    tag: str
    answered: int | None = None


class Engine:
    """Turns SIP facts into events of `Live`, and its verdicts into SIP replies.

    Attributes:
        pending: calls in progress, by Call-ID.
        missed, unwanted, refused, faults: calls relayed without a verdict; 607 answers; refused bundles;
            messages that could not be read.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        if missing := [name for name in SETTINGS if name not in settings]:
            raise ValueError(f"settings: missing {', '.join(missing)}; see settings.toml")
        site.addsitedir(settings["site"])
        from callsieve.features import Intake, read_key
        from callsieve.serving import ClearedCallers, Swap, read_policy, read_public_key
        from callsieve.serving.live.live import Live
        from callsieve.serving.live.memory import Limits
        from callsieve.serving.telephony import sip, sip_replies

        self.sip, self.replies, self.settings = sip, sip_replies, settings
        self.redress = sip_replies.Redress(**settings["redress"])
        self.dialect = settings.get("dialect", "3gpp")
        self.block_reply = self._block_reply(settings.get("answer", "603+"))
        self.cleared = ClearedCallers(Path(settings["cleared"])) if "cleared" in settings else None
        self.missed = self.unwanted = self.refused = self.faults = 0
        self.pending: OrderedDict[str, Pending] = OrderedDict()
        self._checked, self._signature, self._reported = 0.0, self._signed(), time.monotonic()
        self.swap = Swap(
            trusted=[read_public_key(settings["signer"])],
            policy=read_policy(settings.get("policy")),
            registers=settings.get("registers"),
            minimum_epoch=settings.get("minimum_epoch", 0),
            cleared=self.cleared,
        )
        self.swap.load(settings["bundle"])
        self.swap.warm_up()
        intake = Intake(read_key(settings["key"]), settings.get("zone", "Asia/Shanghai"))
        limits = Limits(**{name: settings[name] for name in ("calls", "numbers") if name in settings})
        self.live = Live(self.swap, intake, Path(settings["state"]), deadline=DEADLINE, limits=limits)
        self.live.on_forget = self._forget_pending

    def _block_reply(self, name: str) -> Callable[[str], Reply]:
        """Returns a function from case id to the reply to a blocked call. Raises at start if a setting is invalid."""
        if name == "603+":
            return lambda case: self.replies.network_blocked(self.redress, case)
        if name != "608":
            raise ValueError(f"settings: answer must be 603+ or 608, got {name!r}")
        reply = self.replies.rejected(self.redress)
        return lambda _case: reply

    @property
    def counts(self) -> dict[str, int]:
        """Counters, as the log shows them."""
        counts, actions = self.live.counts, self.live.actions
        return {
            "attempts": counts["attempts"],
            **{action: actions[action] for action in ("label", "screen", "block")},
            "ended": counts["ends"] - self.missed,
            "reports": self.unwanted,
            "refused": self.refused,
            "missed": self.missed,
            "faults": self.faults,
            **{f"status_{word}": count for word, count in sorted(self.live.statuses.items())},
        }

    def score(self, call_id: str, tag: str, **facts: Any) -> Verdict:
        """Returns the verdict on a call at ring time; the call is then in progress."""
        call, faults = self.sip.to_call(dialect=self.dialect, **facts), self.live.counts["faults"]
        if self.cleared is not None:
            self.cleared.look()
        verdict = self.live.attempt(call)
        self.faults += self.live.counts["faults"] - faults
        self._remember(call_id, Pending(call, tag))
        return verdict

    def learn(self, call_id: str, tag: str, **facts: Any) -> None:
        """Records a call that was relayed without a verdict."""
        call = self.sip.to_call(dialect=self.dialect, **facts)
        self.live.end(call)
        self.missed += 1
        self._remember(call_id, Pending(call, tag))

    def note(self, call_id: str, event: str) -> None:
        """Records an event of a call: `reply <ms> <status> <phrase>` or `bye <ms> <from-tag>`."""
        kind, moment, *words = event.split(" ", 3)
        at, pending = int(moment), self.pending.get(call_id)
        if pending is None:
            return
        if kind == "bye" and pending.answered is not None:
            released_by = "caller" if words[0] == pending.tag else "callee"
            self._end(call_id, pending, "answered", released_by, pending.answered, at)
        elif kind == "reply" and pending.answered is None:
            outcome, released_by = self.sip.outcome_of(int(words[0]), words[1] if len(words) > 1 else "")
            if outcome == "answered":
                pending.answered = at
            else:
                self.unwanted += outcome == "unwanted"
                self._end(call_id, pending, outcome, released_by, at, at)

    def answer(self, verdict: Verdict) -> str:
        """Returns a verdict in the form that the routes read: `action|status|phrase|headers`."""
        if verdict.action == "block":
            reply = self.block_reply(verdict.case)
            headers = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
            return f"block|{reply.status}|{reply.phrase}|{headers}"
        label = self.replies.label(verdict, self.redress)
        return f"{verdict.action}|||Call-Info: {label}\r\n" if label else _NO_VERDICT

    def check(self) -> None:
        """Logs the counters when they are due, and loads a new bundle if its signature changed; at most once a second.

        A bundle loads in a thread. A refused bundle, or a bundle of an earlier epoch, changes nothing.
        """
        now = time.monotonic()
        if now < self._checked + CHECK_EVERY:
            return
        self._checked = now
        if now >= self._reported + self.settings.get("report_every", REPORT_EVERY):
            self._reported = now
            _log("notice", " ".join(f"{name}={count}" for name, count in self.counts.items()))
        signature = self._signed()
        if signature != self._signature:
            self._signature = signature
            threading.Thread(target=self._reload, daemon=True).start()

    def _reload(self) -> None:
        try:
            scorer = self.swap.load(self.settings["bundle"])
            _log("info", f"model {scorer.bundle.model_id} is in service now")
        except Exception as error:
            self.refused += 1
            _log("err", f"bundle refused, the last good one stays: {error}")

    def _signed(self) -> tuple[int, int]:
        try:
            status = (Path(self.settings["bundle"]) / "MANIFEST.sig").stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino

    def _remember(self, call_id: str, pending: Pending) -> None:
        self.pending[call_id] = pending
        if len(self.pending) > PENDING:
            self.pending.popitem(last=False)

    def _end(self, call_id: str, pending: Pending, outcome: str, by: str, answered: int, ended: int) -> None:
        del self.pending[call_id]
        ring = max(answered - round(1000 * pending.call.start), 0) / 1000
        talk = max(ended - answered, 0) / 1000
        self.live.end(replace(pending.call, ring=ring, talk=talk, outcome=outcome, released_by=by))

    def _forget_pending(self) -> None:
        """Forgets the calls in progress that `Live` has forgotten; runs in the journal's thread."""
        for call_id, pending in list(self.pending.items()):
            if pending.call not in self.live.in_progress:
                self.pending.pop(call_id, None)


class Handler:
    """The methods that the routes of `embedded.cfg` call. Each returns 1 and never raises."""

    def child_init(self, _rank: int) -> int:
        """Does nothing: Kamailio calls this in its main process, too."""
        return 0

    def score(self, _message: object, patience: str = "") -> int:
        """Records the events of earlier calls, and answers all waiting calls; runs in the scoring process.

        Args:
            patience: milliseconds after which a waiting call passes at once; scoring it would delay the next calls.
        """
        pv, queue = _ksr().pv, _ksr().mqueue
        engine = _STATE.get("engine") or _open_engine()
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
            if _start(fields) + longest < now:
                queue.mq_add(VERDICTS, key, _NO_VERDICT)
                queue.mq_add(MISSED, key, fields)
                continue
            pv.sets(IN_HAND, key)
            queue.mq_add(VERDICTS, key, _score(engine, fields))
            pv.sets(IN_HAND, "")
        if engine is not None:
            engine.check()
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
    """Returns the handler; app_python3 calls this each time it loads the script."""
    return Handler()


def _score(engine: Engine | None, fields: str) -> str:
    """Returns the answer to a call; without an engine, and after a fault, the call passes."""
    if engine is None:
        return _NO_VERDICT
    try:
        return engine.answer(engine.score(**_read(engine, fields)))
    except Exception as error:
        _fault(engine, "not scored, the call passes", error)
        return _NO_VERDICT


def _learn(engine: Engine | None, fields: str) -> None:
    """Records a call that was relayed without a verdict."""
    try:
        if engine is not None:
            engine.learn(**_read(engine, fields))
    except Exception as error:
        _fault(engine, "a call is not learnt", error)


def _fault(engine: Engine | None, what: str, error: Exception) -> None:
    """Counts an unreadable message, and logs it at most once a minute: a sender of many must not fill the log."""
    if engine is not None:
        engine.faults = getattr(engine, "faults", 0) + 1  # an engine from before a reload may lack the attribute
    # An error's text could contain text from the message; its class cannot.
    line, now, logged = f"{what}: {type(error).__name__}", time.monotonic(), _STATE.setdefault("logged", {})
    if logged.get(line, now) <= now:
        logged[line] = now + REPEAT
        _log("err", line)


def _start(fields: str) -> float:
    """Returns when a call came, in Unix ms; infinity if the fields lack it, so that the call is never too late."""
    start = fields.partition(" ")[0]
    return int(start) if start.isdecimal() and len(start) < 16 else math.inf


def _read(engine: Engine, fields: str) -> dict[str, Any]:
    """Returns the facts of a call as the routes write them. Raises: ValueError: if a field is missing or invalid."""
    start, trunk, trusted, *encoded = fields.split(" ")
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
        "trusted": trusted == "1",
        "trunk": trunk,
    }


def _text(field: str) -> str:
    """Returns a field before Kamailio encoded it in hexadecimal digits; "" for a null."""
    return "" if field == "<null>" else bytes.fromhex(field).decode("utf-8", "replace")


def _open_engine() -> Engine | None:
    """Returns the engine; None if it cannot be opened now: the next try comes after RETRY seconds."""
    if _STATE.get("failed", -RETRY) + RETRY > time.monotonic():
        return None
    try:
        with Path(os.environ["CALLSIEVE_KAMAILIO"]).open("rb") as file:
            engine = _STATE["engine"] = Engine(tomllib.load(file))
    except Exception as error:
        _STATE["failed"] = time.monotonic()
        _log("err", f"not loaded, calls pass: {error}")
        return None
    from callsieve.serving.live.gc_pauses import shorten_pauses

    shorten_pauses()
    memory, scorer = engine.live.memory, engine.swap.scorer
    if memory.refusal:
        _log("err", f"the state of earlier processes cannot be read: {memory.refusal}")
    model = scorer.bundle.model_id if scorer else ""
    _log("info", f"serving model {model}, {memory.history.calls} calls restored")
    return engine


def _log(level: str, text: str) -> None:
    _ksr().log(level, f"callsieve: {text}\n")


def _ksr() -> Any:
    return importlib.import_module("KSR")
