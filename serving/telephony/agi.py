"""FastAGI server for Asterisk: a verdict before the phone rings, and the outcome when the call is over.

    exten => _X.,1,Set(CALLSIEVE=pass)
     same => n,GotoIf($[0${STIR_SHAKEN(count)} = 0]?ring)
     same => n,Set(STIR=${STIR_SHAKEN(0,verify_result)},${STIR_SHAKEN(0,attestation)})
     same => n(ring),AGI(agi://127.0.0.1:4573/ring,${STIR})
     same => n,GotoIf($["${CALLSIEVE}" = "block"]?blocked)
     same => n,Dial(PJSIP/${EXTEN},30)
    exten => h,1,AGI(agi://127.0.0.1:4573/end,${DIALEDTIME},${ANSWEREDTIME},${DIALSTATUS},${HANGUPCAUSE})

The lines with STIR_SHAKEN are for an Asterisk that verifies calls (`res_stir_shaken`). `ring` reads the result, and
sets CALLSIEVE (the action), CALLSIEVE_CASE, CALLSIEVE_CONFIDENCE, CALLSIEVE_STATUS (a word of
`serving/scorer/status.py`) and CALLSIEVE_RULES (names of rules, with commas between). After any fault the connection is
closed, and the dialplan continues with its initial "pass". Faults are: the server does not run (AGISTATUS is then
FAILURE), a verdict is late, or a dialogue takes more than SECONDS. One fault needs a watchdog: Asterisk waits for ever
for a server that keeps the connection open and does nothing, for example after SIGSTOP.

Debian 13 does not package Asterisk, so the tests play dialogues in the form of its res_agi.c. The dialplan was run once
on Asterisk itself, built from its sources of August 2026 (commit f0c1c1a), with Local channels. That build lacked
PJSIP, so variables took the place of the results of STIR_SHAKEN.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from callsieve.features.records import Call
from callsieve.serving.live.live import Live

from .service_loop import run_until_stopped

SECONDS = 0.5  # for a whole dialogue
PORT = 4573
PREFIX_WAIT, PREFIX_WAITS = 0.01, 20  # seconds of a wait for lists by prefix, and most waits
LINE, LINES = 1024, 64  # bytes of a line, and lines of a head
OPEN, PENDING = 256, 100_000  # dialogues at once, and calls in progress that are remembered
_UNIQUE = re.compile(r"(?:.*-)?(\d{9,10})\.\d{1,10}")
_HIDDEN = 0x60  # bits of `agi_callingpres`: restricted, or not available
# Outcomes of DIALSTATUS, and of the Q.850 causes that are more precise.
OUTCOMES = {"ANSWER": "answered", "NOANSWER": "no_answer", "CANCEL": "no_answer", "BUSY": "busy"}
OUTCOMES |= {"DONTCALL": "rejected", "TORTURE": "rejected", "CONGESTION": "failed", "CHANUNAVAIL": "failed"}
CAUSES = {"1": "invalid_number", "21": "rejected"}
# The attestation by `verify_result` of the dialplan function STIR_SHAKEN: words of Asterisk 20.8 and later, then of
# earlier ones. "" means the level that the caller's network attests. Other words are faults of the verification.
VERIFIED = {
    "success": "",
    "missing_identity_hdr": "none",
    "Verification passed": "",
    "Verification not present": "none",
}
REFUTED = ("signature_validation", "iat_range_error", "cid_orig_tn_mismatch", "cert_not_trusted", "cert_date_failure")
VERIFIED |= dict.fromkeys((*REFUTED, "Signature failed", "Verification mismatch"), "failed")


class Agi:
    """Answers dialogues with Asterisk, one for each connection.

    Attributes:
        counts: dialogues by result. ring, end: answered. unknown: an end without a ring. full: too many at once.
            broken: invalid, or not complete in time.
    """

    def __init__(self, live: Live) -> None:
        self.counts = dict.fromkeys(("ring", "end", "unknown", "full", "broken"), 0)
        self._live, self._open = live, 0
        self._pending: OrderedDict[str, Call] = OrderedDict()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection, and closes it. Never raises."""
        self._open += 1
        result = "full"
        try:
            if self._open <= OPEN:
                async with asyncio.timeout(SECONDS):
                    result = await self._talk(reader, writer)
        except Exception:
            # Counted and not logged: the error's text could contain a number.
            result = "broken"
        finally:
            self.counts[result] += 1
            self._open -= 1
            writer.transport.abort() if result == "broken" else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        request = await _read_head(reader)
        script = request.get("network_script", "")
        if script == "end":
            return self._end(request)
        if script != "ring":
            raise ValueError("expected the script ring or end")
        call = call_from_request(request)
        if (listed := self._live.scorers.listed) is not None and listed.by_prefix:
            token = listed.token(call.caller)
            for _ in range(PREFIX_WAITS):
                if listed.is_read(token):
                    break
                await asyncio.sleep(PREFIX_WAIT)
        verdict = self._live.attempt(call)
        self._pending[request["uniqueid"]] = call
        if len(self._pending) > PENDING:
            self._pending.popitem(last=False)
        confidence = "" if math.isnan(verdict.confidence) else f"{verdict.confidence:.6f}"
        for name, value in (
            ("", verdict.action),
            ("_CASE", verdict.case),
            ("_CONFIDENCE", confidence),
            ("_STATUS", verdict.status),
            ("_RULES", ",".join(fact.rule for fact in verdict.rules)),
        ):
            writer.write(f'SET VARIABLE CALLSIEVE{name} "{value}"\n'.encode())
            await _read_result(reader)
        return "ring"

    def _end(self, request: dict[str, str]) -> str:
        call = self._pending.pop(request["uniqueid"], None)
        if call is None:
            return "unknown"
        self._live.end(ended_call(call, *(request.get(f"arg_{i}", "") for i in range(1, 5))))
        return "end"


async def serve(
    live: Live, host: str = "127.0.0.1", port: int = PORT, *, reload: Callable[[], object] = lambda: None
) -> None:
    """Serves until SIGTERM or SIGINT; `reload` is as in `run_until_stopped`."""
    async with await asyncio.start_server(Agi(live), host, port, limit=LINE):
        await run_until_stopped(live, f"FastAGI on {host}:{port}", reload)


def call_from_request(request: dict[str, str]) -> Call:
    """Returns the call of a `ring` request. Its start is that of the channel, in whole seconds."""
    start = _UNIQUE.fullmatch(request["uniqueid"])
    hidden = int(request.get("callingpres", "0")) & _HIDDEN
    dialled = request.get("dnid", "unknown")
    return Call(
        start=float(start[1]) if start else float(int(time.time())),
        caller="" if hidden else request["callerid"],
        callee=request["extension"] if dialled in ("", "unknown") else dialled,
        trunk=request["channel"].rpartition("-")[0] or None,
        attestation=attestation_of(request.get("arg_1", ""), request.get("arg_2", "")),
    )


def attestation_of(result: str, level: str) -> str:
    """Returns the attestation of a call, from STIR_SHAKEN's `verify_result` and `attestation`.

    >>> attestation_of("success", "B"), attestation_of("signature_validation", "A"), attestation_of("", "A")
    ('B', 'failed', 'unknown')
    """
    return VERIFIED.get(result, "unknown") or (level if level in ("A", "B", "C") else "unknown")


def ended_call(call: Call, dialled: str, answered: str, status: str, cause: str) -> Call:
    """Returns the ended call, from Asterisk's DIALEDTIME, ANSWEREDTIME, DIALSTATUS and HANGUPCAUSE."""
    talk = _seconds(answered)
    outcome = OUTCOMES.get(status, "unknown")
    if outcome != "answered":
        outcome = CAUSES.get(cause, outcome)
    return replace(call, ring=max(_seconds(dialled) - talk, 0.0), talk=talk, outcome=outcome)


async def _read_head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Returns the lines `agi_name: value` up to an empty line, by name."""
    request: dict[str, str] = {}
    for _ in range(LINES):
        line = (await reader.readuntil()).decode(errors="replace").rstrip("\r\n")
        if not line:
            return request
        name, _, value = line.partition(": ")
        request[name.removeprefix("agi_")] = value
    raise ValueError(f"expected at most {LINES} lines")


async def _read_result(reader: asyncio.StreamReader) -> None:
    """Waits for Asterisk's answer to a command; a line HANGUP may come before it."""
    for _ in range(LINES):
        line = (await reader.readuntil()).rstrip(b"\r\n")
        if line.startswith(b"200 "):
            return
        if line != b"HANGUP":
            break
    raise ValueError("expected `200 ` in answer to a command")


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0.0
