"""A simulated world as a stream: the vectors that were told at ring time are those of the table, bit for bit.

python tests/tools/replay_parity.py [--size small] [--seed 7] [--calls 1000000] [--json]

Calls are announced when they ring and told again when their record is known, late records and repeats as the world has
them: two events a call. Every call is asked about before it is announced.
"""

import argparse
import json
import secrets
import sys
import time
from dataclasses import replace

import numpy as np

from callsieve.features.catalogue import NAMES
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.training.studies.simulated import simulated

ATTEMPT, RECORD = 1, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1_000_000, help="the first ones of the world")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    world = simulated(given.size, given.seed, None, Key("e1", secrets.token_bytes(32)), lambda *_: None)
    calls = world.calls.sort_by("start").slice(0, given.calls)
    del world
    told = compare(calls) | {"size": given.size, "seed": given.seed}
    print(json.dumps(told) if given.json else "\n".join(f"{name:24}{value}" for name, value in told.items()))
    sys.exit(any(told[name] for name in ("missing", "extra", "different")))


def compare(calls):
    """Vectors of the stream against those of the table, the first record of each call."""
    offline = vectors(calls)
    singles = list(keyed_calls(calls))
    first = told_first(singles)
    began = time.perf_counter()
    online, history = stream(singles)
    seconds = time.perf_counter() - began
    asked = np.flatnonzero(first)
    same = (online[asked] == offline[asked]) | (np.isnan(online[asked]) & np.isnan(offline[asked]))
    return {
        "calls": len(singles),
        "events": 2 * len(singles),
        "repeats": int(np.count_nonzero(~first)),
        "late": sum(is_late(call) for call in singles),
        "features": len(NAMES),
        "missing": int(np.count_nonzero(np.isnan(online[asked]) & ~np.isnan(offline[asked]))),
        "extra": int(np.count_nonzero(~np.isnan(online[asked]) & np.isnan(offline[asked]))),
        "different": int(np.count_nonzero(~same)),
        "dropped": history.dropped,
        "evicted": history.evicted,
        "events_per_second": round(2 * len(singles) / seconds),
    }


def stream(singles):
    """Ask about every call as it rings, and tell what becomes known when it does."""
    history = History(calls=2 * len(singles), numbers=len(singles))
    rows = np.empty((len(singles), len(NAMES)))
    for _, event, row in sorted(events(singles)):
        call = singles[row]
        if event == RECORD:
            history.observe(call)
            continue
        rows[row] = history.vector(call)
        if not is_late(call):
            history.observe(replace(call, ring=None, talk=None, recorded=None))
    return rows, history


def events(singles):
    for row, call in enumerate(singles):
        yield call.start, ATTEMPT, row
        yield max(end(call), call.recorded or end(call)), RECORD, row


def end(call):
    """When a call was over; one whose ring or talk is missing is known as an attempt only."""
    return call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk


def is_late(call):
    """A record that came later than the end of its call: nothing was told of it before."""
    return call.recorded is not None and call.recorded > end(call)


def told_first(singles):
    """Whether no earlier record tells of the same call: a repeat is asked of the keys of the first one."""
    seen, first = set(), np.zeros(len(singles), dtype=bool)
    for row, call in enumerate(singles):
        identity = call.start, call.caller, call.callee
        first[row] = identity not in seen
        seen.add(identity)
    return first


if __name__ == "__main__":
    main()
