"""Replays a simulated world as a stream and compares its vectors with those of the table, bit for bit.

python tests/tools/replay_parity.py [--size small] [--seed 7] [--calls 1000000] [--json]

A call is observed at its start and again when its record becomes known; late records and repeats come from the
world. That is two events a call. The vector of a call is computed before it is observed.
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
    parser.add_argument("--calls", type=int, default=1_000_000, help="number of calls, from the start of the world")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    world = simulated(options.size, options.seed, None, Key("e1", secrets.token_bytes(32)), lambda *_: None)
    calls = world.calls.sort_by("start").slice(0, options.calls)
    del world
    result = compare(calls) | {"size": options.size, "seed": options.seed}
    print(json.dumps(result) if options.json else "\n".join(f"{name:24}{value}" for name, value in result.items()))
    sys.exit(any(result[name] for name in ("missing", "extra", "different")))


def compare(calls):
    """Compares the vectors of stream and table, for the first record of each call."""
    offline = vectors(calls)
    singles = list(keyed_calls(calls))
    first = is_first_record(singles)
    began = time.perf_counter()
    online, history = stream(singles)
    seconds = time.perf_counter() - began
    rows_compared = np.flatnonzero(first)
    online, offline = online[rows_compared], offline[rows_compared]
    same = (online == offline) | (np.isnan(online) & np.isnan(offline))
    return {
        "calls": len(singles),
        "events": 2 * len(singles),
        "repeats": int(np.count_nonzero(~first)),
        "late": sum(is_late(call) for call in singles),
        "features": len(NAMES),
        "missing": int(np.count_nonzero(np.isnan(online) & ~np.isnan(offline))),
        "extra": int(np.count_nonzero(~np.isnan(online) & np.isnan(offline))),
        "different": int(np.count_nonzero(~same)),
        "dropped": history.dropped,
        "evicted": history.evicted,
        "events_per_second": round(2 * len(singles) / seconds),
    }


def stream(singles):
    """Computes the vector of every call at its start, and observes each event when it becomes known."""
    history = History(calls=2 * len(singles), numbers=len(singles))
    rows = np.empty((len(singles), len(NAMES)))
    for _, event, row in sorted(events(singles)):
        call = singles[row]
        if event == RECORD:
            history.observe(call)
            continue
        history.advance(call.start)
        rows[row] = history.vector(call)
        if not is_late(call):
            history.observe(replace(call, ring=None, talk=None, recorded=None))
    return rows, history


def events(singles):
    for row, call in enumerate(singles):
        yield call.start, ATTEMPT, row
        yield max(end(call), call.recorded or end(call)), RECORD, row


def end(call):
    """Returns when a call ended; a call without ring or talk is only an attempt."""
    return call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk


def is_late(call):
    """Returns whether the record arrived after the end of its call, without an earlier record."""
    return call.recorded is not None and call.recorded > end(call)


def is_first_record(singles):
    """Returns a mask of the records that make their call known first: other records take its keys."""
    first = {}
    for row, call in enumerate(singles):
        known = call.recorded if is_late(call) else call.start
        is_over = call.ring is not None and call.talk is not None
        identity = call.start, call.caller, call.callee
        first[identity] = min(first.get(identity, (known, is_over, row)), (known, is_over, row))
    return np.isin(np.arange(len(singles)), [row for _, _, row in first.values()])


if __name__ == "__main__":
    main()
