"""Kamailio's copies of SIP messages give the tap the calls, the ends and the verdicts that its HTTP requests give."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import replace

import pytest

from callsieve.features import Intake
from callsieve.features.records import OUTCOMES, RELEASED_BY
from callsieve.serving import read_policy
from callsieve.serving.live.calls_in_progress import is_over
from callsieve.serving.live.events import CALLS, call_from_line
from callsieve.serving.live.journal import ReadCounts, read_journal
from tests.support import live_states, real_bundle
from tests.support.http_service import CAPACITY, free_port, write_service_files
from tests.support.paths import ROOT
from tests.support.servers import kamailio
from tests.support.waiting import wait_until
from tests.system.test_kamailio import Service, verdict

PAGE = (ROOT / "docs" / "how-to" / "tap.md").read_text()
(SIPTRACE,) = re.findall(r'^loadmodule "siptrace.so"$.*?(?=^```$)', PAGE, re.MULTILINE | re.DOTALL)
SAME = ("caller_class", "callee_class", "same_region", "shared_prefix", "presented_differs", "attestation", "route",
        "caller_block", "trunk", "operator", "device", "place")  # fmt: skip
LATE = 8000  # ms; a verdict on a call that http.cfg does not wait for could not be compared
NEAR = 5000  # ms between two processes that look at the clock on a busy machine


class TapProcess:
    """`callsieve live tap` on the files of a folder; leaving the block stops it."""

    def __init__(self, folder, port):
        self.state, self._port = folder / "tap", port
        self.lines, self._log = folder / "verdicts.jsonl", folder / "tap.log"
        words = ["live", "tap", "--bundle", folder / "bundle", "--key", folder / "number.key", "--state", self.state]
        words += ["--policy", folder / "policy.toml", "--port", port, "--max-calls", CAPACITY["limits"].calls]
        words += ["--max-numbers", CAPACITY["limits"].numbers]
        self._command = [sys.executable, "-m", "callsieve.training", *map(str, words)]

    def __enter__(self):
        with self.lines.open("wb") as lines, self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=lines, stderr=log)
        wait_until(
            lambda: f"HEP3 over UDP and TCP on 127.0.0.1:{self._port}" in self.log() or self._process.poll(), 120
        )
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.log()

    def log(self):
        return self._log.read_text()

    def verdicts(self):
        return [json.loads(line) for line in self.lines.read_text().splitlines()]


def tapped(folder, count, rate):
    """Places calls through Kamailio, which asks a service and sends copies to a tap.

    Returns: the service, the tap, and the calls placed: by SIPp, and three that the phone refuses.
    """
    write_service_files(folder, policy='certified = "label"\nwatch = "label"\n')
    port, phone, service = free_port(), kamailio.Phone(), Service(lambda _: verdict("label"))
    script = (kamailio.SCRIPTS / "http.cfg").read_text().replace("loadmodule", f"{SIPTRACE}loadmodule", 1)
    assert script.count("127.0.0.1:9060") == 1
    (folder / "http.cfg").write_text(script.replace("127.0.0.1:9060", f"127.0.0.1:{port}"))
    more = {"SCORER": f'"{service.url}"', "DEADLINE": LATE, "TRUSTED": '"^$"'}
    with TapProcess(folder, port) as tap, kamailio.Kamailio(folder / "http.cfg", phone.port, folder, **more) as proxy:
        caller = kamailio.Caller(proxy.port)
        with closing(caller.socket):
            for callee in ("+8613900139486", "+8613900139603", "+8613900139607"):
                caller.call("+8613800138000", callee)
        load = kamailio.run_calls(proxy.port, folder, count, rate, seconds=60 + count // rate)
        placed = load["placed"] + 3
        seen = lambda: (len(service.attempts), len(service.observed), tap.lines.read_bytes().count(b"\n"))
        wait_until(lambda: seen() == (placed,) * 3, 60)
        time.sleep(2)
    service.close()
    phone.close()
    return service, tap, placed


def by_pair(calls):
    """Returns calls by the tokens of both numbers, in order of start."""
    groups = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.start):
        groups[call.caller, call.callee].append(call)
    return groups


def compared(folder, service, tap):
    """Returns the number of calls whose events, by tap and by HTTP, agree, and of those whose verdicts are equal.

    The verdicts are those of another live state, which gets the service's calls with the tap's times, in the tap's
    order.
    """
    events = [call_from_line(line) for line in read_journal(tap.state, CALLS, 0, ReadCounts())]
    key = lambda calls: [Intake(real_bundle.NUMBER_KEY)(call) for call in calls]
    raw, agreeing, of_event = {}, 0, {}
    keyed = key(service.attempts)
    raw = {(call.caller, call.callee, call.start): text for call, text in zip(keyed, service.attempts, strict=True)}
    begun, begun_tap = by_pair(keyed), by_pair(event for event in events if not is_over(event))
    over, over_tap = by_pair(key(service.observed)), by_pair(event for event in events if is_over(event))
    assert begun.keys() == begun_tap.keys() == over.keys() == over_tap.keys()
    for pair, calls in begun.items():
        for call, other, end, other_end in zip(calls, begun_tap[pair], over[pair], over_tap[pair], strict=True):
            facts = all(getattr(call, name) == getattr(other, name) for name in SAME)
            ends = (end.outcome, end.released_by) == (other_end.outcome, other_end.released_by)
            seconds = [(call.start, other.start), (end.ring, other_end.ring), (end.talk, other_end.talk)]
            agreeing += facts and ends and all(abs(a - b) < NEAR for a, b in seconds)
            of_event[(*pair, other.start)] = raw[(*pair, call.start)]
    swap = live_states.loaded(folder / "bundle", policy=read_policy(folder / "policy.toml"))
    live, expected = live_states.begin(swap, folder / "http"), {}
    for event in events:
        call = replace(of_event[event.caller, event.callee, event.start], start=event.start / 1000)
        if is_over(event):
            words = {"outcome": OUTCOMES[event.outcome], "released_by": RELEASED_BY[event.released_by]}
            live.end(replace(call, ring=event.ring / 1000, talk=event.talk / 1000, **words))
        else:
            verdict_line = json.loads(live.attempt(call).to_json())
            expected[event.start, event.caller, verdict_line["case"]] = verdict_line
    live.close()
    answers = {(line["start"], line["caller"], line["verdict"]["case"]): line["verdict"] for line in tap.verdicts()}
    equal = sum(answers.get(place) == verdict_line for place, verdict_line in expected.items())
    return agreeing, equal, {verdict_line["score"] for verdict_line in answers.values()}


@pytest.mark.source("L37", by="serving/telephony/tap.py")
def test_the_tap_sees_the_calls_and_gives_the_verdicts_of_http(tmp_path):
    service, tap, placed = tapped(tmp_path, 300, 100)
    agreeing, equal, scores = compared(tmp_path, service, tap)
    assert (placed, agreeing, equal) == (303, 303, 303) and len(scores) > 5
    assert "invalid" not in tap.log() and f"{placed} calls, {placed} ends" in tap.log()
    text = tap.log() + tap.lines.read_text()
    assert not any(number[-11:] in text for call in service.attempts for number in (call.caller, call.callee))
