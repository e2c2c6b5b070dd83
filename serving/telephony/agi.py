"""FastAGI for Asterisk: a verdict before the phone rings, and what became of the call once it is over.

    exten => _X.,1,Set(CALLSIEVE=pass)
     same => n,AGI(agi://127.0.0.1:4573/ring)
     same => n,GotoIf($["${CALLSIEVE}" = "block"]?blocked)
     same => n,Dial(PJSIP/${EXTEN},30)
    exten => h,1,AGI(agi://127.0.0.1:4573/end,${DIALEDTIME},${ANSWEREDTIME},${DIALSTATUS},${HANGUPCAUSE})

`ring` sets CALLSIEVE to the action, CALLSIEVE_CASE and CALLSIEVE_SCORE. Whatever goes wrong, the line is closed and
the dialplan goes on with the "pass" it began with: nobody listens (AGISTATUS is FAILURE then), a verdict is late, a
dialogue takes more than SECONDS. What this cannot mend: Asterisk waits without end for a process that holds the line
and does nothing, one that was stopped by a signal; so let a watchdog end such a one.

Written against Asterisk's documents and the lines that its res_agi.c writes and reads, and tested with a dialogue
put together from them: never with Asterisk itself, which Debian 13 does not have.
"""

from __future__ import annotations

import asyncio
import math
import re
import signal
import time
from collections import OrderedDict
from dataclasses import replace

from callsieve.features.records import Call
from callsieve.serving.live.live import Live

SECONDS = 0.5  # for a whole dialogue
PORT = 4573
LINE, LINES = 1024, 64  # bytes of a line, and lines of a head
OPEN, PENDING = 256, 100_000  # dialogues at once, and calls in the air that are remembered
_UNIQUE = re.compile(r"(?:.*-)?(\d{9,10})\.\d{1,10}")
_HIDDEN = 0x60  # bits of `agi_callingpres`: restricted, or not available
# DIALSTATUS, and the causes of Q.850 that say more.
OUTCOMES = {"ANSWER": "answered", "NOANSWER": "no_answer", "CANCEL": "no_answer", "BUSY": "busy"}
OUTCOMES |= {"DONTCALL": "rejected", "TORTURE": "rejected", "CONGESTION": "failed", "CHANUNAVAIL": "failed"}
CAUSES = {"1": "invalid_number", "21": "rejected"}


class Agi:
    """The dialogue with Asterisk, one a connection.

    Attributes:
        counts: dialogues by how they went: ring, end; unknown, an end whose ring was not here; full, turned away;
            broken, not read to their end in time.
    """

    def __init__(self, live: Live) -> None:
        self.counts = dict.fromkeys(("ring", "end", "unknown", "full", "broken"), 0)
        self._live, self._open = live, 0
        self._pending: OrderedDict[str, Call] = OrderedDict()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, and close it. Never raises."""
        self._open += 1
        went = "full"
        try:
            if self._open <= OPEN:
                async with asyncio.timeout(SECONDS):
                    went = await self._talk(reader, writer)
        except Exception:
            # What went wrong is counted and not shown: its text could hold a number.
            went = "broken"
        finally:
            self.counts[went] += 1
            self._open -= 1
            writer.transport.abort() if went == "broken" else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        said = await _head(reader)
        script = said.get("network_script", "")
        if script == "end":
            return self._end(said)
        if script != "ring":
            raise ValueError("expected the script ring or end")
        call = call_from_request(said)
        verdict = self._live.attempt(call)
        self._pending[said["uniqueid"]] = call
        if len(self._pending) > PENDING:
            self._pending.popitem(last=False)
        score = "" if math.isnan(verdict.score) else f"{verdict.score:.6f}"
        for name, value in (("", verdict.action), ("_CASE", verdict.case), ("_SCORE", score)):
            writer.write(f'SET VARIABLE CALLSIEVE{name} "{value}"\n'.encode())
            await _answered(reader)
        return "ring"

    def _end(self, said: dict[str, str]) -> str:
        call = self._pending.pop(said["uniqueid"], None)
        if call is None:
            return "unknown"
        self._live.end(ended_call(call, *(said.get(f"arg_{i}", "") for i in range(1, 5))))
        return "end"


async def serve(live: Live, host: str = "127.0.0.1", port: int = PORT) -> None:
    """Serve until SIGTERM or SIGINT. Raises: OSError: if the port cannot be had."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    async with await asyncio.start_server(Agi(live), host, port, limit=LINE):
        await stop.wait()


def call_from_request(said: dict[str, str]) -> Call:
    """The call that a head tells of, as it rings. Its start is that of the channel, in whole seconds.

    Raises: KeyError, ValueError: if a line that it needs is not there.
    """
    moment = _UNIQUE.fullmatch(said["uniqueid"])
    hidden = int(said.get("callingpres", "0")) & _HIDDEN
    dialled = said.get("dnid", "unknown")
    return Call(
        start=float(moment[1]) if moment else float(int(time.time())),
        caller="" if hidden else said["callerid"],
        callee=said["extension"] if dialled in ("", "unknown") else dialled,
        trunk=said["channel"].rpartition("-")[0] or None,
    )


def ended_call(call: Call, dialled: str, answered: str, status: str, cause: str) -> Call:
    """The call as it is known when it is over: seconds from dialling, seconds from the answer, how, and Q.850's why."""
    talk = _seconds(answered)
    outcome = OUTCOMES.get(status, "unknown")
    if outcome != "answered":
        outcome = CAUSES.get(cause, outcome)
    return replace(call, ring=max(_seconds(dialled) - talk, 0.0), talk=talk, outcome=outcome)


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The lines `agi_name: value` up to an empty one, by name."""
    said: dict[str, str] = {}
    for _ in range(LINES):
        line = (await reader.readuntil()).decode(errors="replace").rstrip("\r\n")
        if not line:
            return said
        name, _, value = line.partition(": ")
        said[name.removeprefix("agi_")] = value
    raise ValueError(f"expected at most {LINES} lines")


async def _answered(reader: asyncio.StreamReader) -> None:
    """Asterisk's answer to a command; the word HANGUP may come before it at any time."""
    for _ in range(LINES):
        line = (await reader.readuntil()).rstrip(b"\r\n")
        if line.startswith(b"200 "):
            return
        if line != b"HANGUP":
            break
    raise ValueError("the command was not taken")


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0.0
