"""Histories of calls with several records that differ in whatever records of one call can differ in."""

from callsieve.features.records import OUTCOMES, RELEASED_BY, STEPS

from .strategies import DAY, EXAMPLE_CALL, HOUR, SECOND

START = EXAMPLE_CALL["start"]
LATER_STEPS = (0, 0, 0, 1, SECOND, 10 * SECOND, HOUR - 1, HOUR, 5 * HOUR, DAY - HOUR, DAY, 3 * DAY, 7 * DAY)
RINGS, TALKS = (0, 3_000, 4_001, 20_000), (0, 9_999, 30_000, 60_000, 3_600_000, DAY, 2 * DAY, 8 * DAY)
DELAYS = (None, None, None, -5, 0, 1, SECOND, HOUR, 6 * DAY, 7 * DAY - 1, 7 * DAY, 8 * DAY)


def local(start):
    return {"start": start, "hour": (start // HOUR + 8) % 24, "day": (start + 8 * HOUR) // DAY}


def conflicting_records(rng, start, caller, callee):
    """Returns up to four records of one call that differ in whatever a record can differ in."""
    records = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
        ring, talk = (rng.choice(RINGS), rng.choice(TALKS)) if rng.random() < 0.65 else (None, None)
        if records and rng.random() < 0.3:  # the end of an earlier record, so that they are known together
            ring, talk = records[-1]["ring"], records[-1]["talk"]
        delay, known = rng.choice(DELAYS), start + (0 if talk is None else ring + talk)
        records.append(EXAMPLE_CALL | local(start) | {
            "caller": caller, "callee": callee, "ring": ring, "talk": talk,
            "recorded": None if delay is None else known + delay,
            "outcome": rng.choice(("answered", "answered", *OUTCOMES)), "released_by": rng.choice(RELEASED_BY),
            "step": rng.choice((None, *STEPS)), "same_region": rng.choice((None, 0, 1)),
            "caller_block": rng.choice((None, "x", "y")), "trunk": rng.choice((None, "t1", "t2")),
            "device": rng.choice((None, "d1", "d2")),
        })  # fmt: skip
        if len(records) > 1 and rng.random() < 0.3:
            records[-1]["recorded"] = records[-2]["recorded"]
    return records


def hostile_history(rng, calls):
    """Returns calls with conflicting records in order of start, and a later call that sees all of them."""
    rows, seen, start = [], set(), START
    for _ in range(calls):
        start += rng.choice(LATER_STEPS)
        parties = rng.choice("abc"), rng.choice("abcd")
        if (start, *parties) not in seen:
            seen.add((start, *parties))
            rows += conflicting_records(rng, start, *parties)
    last = EXAMPLE_CALL | local(start + rng.choice((1, 30_000, HOUR + 1, DAY, 3 * DAY)))
    last |= {"caller": rng.choice("abce"), "callee": rng.choice("abcd"), "caller_block": rng.choice("xy")}
    return rows, last | {"trunk": rng.choice(("t1", "t2")), "device": rng.choice(("d1", "d2"))}
