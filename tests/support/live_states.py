"""Live states over the bundle of tests, and streams of events for them."""

import dataclasses
import subprocess
import sys
from contextlib import contextmanager

from callsieve.features import Call, Intake
from callsieve.serving import Swap
from callsieve.serving.live.live import Live
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import CAPACITY, LONG_DEADLINE


def loaded(bundle, **options):
    """Returns a swap that trusts the key of tests, with the bundle of a folder in service."""
    swap = Swap(trusted=small.TRUSTED, **options)
    swap.load(bundle)
    return swap


def begin(swap, folder, **options):
    """Returns a live state with the number key of tests; `options` replace its long deadline and its capacity."""
    return Live(swap, Intake(real_bundle.NUMBER_KEY), folder, **{"deadline": LONG_DEADLINE, **CAPACITY, **options})


HOLD = """
import sys
from pathlib import Path
from callsieve.serving.live.snapshots import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(folder):
    """Another process holds the folder of a live state, as a scorer does."""
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=-1, stdout=-1) as scorer:
        scorer.stdout.readline()
        yield


def attempt_of(call):
    """Returns a call without the fields that are unknown while it rings."""
    return dataclasses.replace(call, ring=None, talk=None, outcome="unknown", released_by="unknown")


def events(calls):
    """Returns (kind, call) pairs in order of time: kind 0 is an attempt, 1 an end. Attempts precede ends."""
    timeline = [(call.start, 0, call) for call in calls]
    timeline += [(call.start + call.ring + call.talk, 1, call) for call in calls if call.ring is not None]
    return [(kind, call) for _, kind, call in sorted(timeline, key=lambda event: event[:2])]


def play(live, timeline):
    """Sends events to `live`; returns the verdict of each attempt."""
    verdicts = []
    for kind, call in timeline:
        if kind == 0:
            verdicts.append(live.attempt(attempt_of(call)))
        else:
            live.end(call)
    return verdicts


def probes(calls):
    """Returns one later call for each of many pairs of numbers."""
    moment = max(call.start for call in calls) + 5000.0
    pairs = [(a, b) for a in real_bundle.CALLERS for b in real_bundle.CALLEES[:6]]
    intake = Intake(real_bundle.NUMBER_KEY)
    return [intake(Call(start=moment, caller=a, callee=b)) for a, b in pairs]


def state(live, calls):
    """Returns a text of all that the history knows of the numbers of tests."""
    return repr([live.memory.history.vector(probe) for probe in probes(calls)])
