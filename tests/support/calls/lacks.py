"""Copies of keyed calls from which something is missing, as in the records of a poorer system."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.kernel.windows import WEEK
from callsieve.features.online.feeds import ANSWERED_ONLY, NO_RING_TIME, NO_ROUTES, OUTGOING_ONLY


def without(calls, lacks, share=1.0):
    """Returns keyed calls that lack something, in this share of the rows (drawn evenly)."""
    for lack in lacks:
        chosen = pa.array(np.random.default_rng(1).random(calls.num_rows) < share)
        calls = REMOVE[lack](calls, chosen)
    return calls


def week_of_calls(calls, rare_of_100, callers=100):
    """Returns a week of calls: some callers make two calls, the others ten.

    Args:
        calls: keyed calls, whose schema and facts the result has.
        rare_of_100: calls in 100 whose callers make two.
        callers: a tenth of the number of calls.
    """
    template = next(row for row in calls.to_pylist() if row["trunk"] and row["outcome"] == "answered")
    rows = []
    for name, count, rate in (("a", callers * rare_of_100 // 20, 2), ("b", callers * (100 - rare_of_100) // 100, 10)):
        for place in range(count * rate + bool(count)):  # and one at the end of the week
            parties = {"caller": f"{name}{place % count}", "callee": f"{name}{(place + 1) % count}"}
            outcome = "busy" if place % 5 == 0 else "answered"
            start = place * (WEEK // (count * rate))
            rows.append(template | parties | {"start": start, "outcome": outcome, "ring": 5_000, "talk": 30_000})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["start"]), calls.schema)


def week_of_a_site(calls, lines):
    """Returns a week of calls of a site: each line makes twelve calls to six numbers and receives five.

    Args:
        calls: keyed calls, whose schema and facts the result has.
        lines: how many lines the site has. A line also calls the next one.
    """
    parties = []
    for line in range(lines):
        parties += [(f"line{line}", f"out{line}.{call // 2}") for call in range(12)]
        parties += [(f"in{line}.{call // 2}", f"line{line}") for call in range(5)]
        parties.append((f"line{line}", f"line{(line + 1) % lines}"))
    return _week(calls, parties)


def week_of_busy_callers(calls, called):
    """Returns a week of calls in which 40 numbers make 110 calls each to 200 people, who call each other.

    Args:
        calls: keyed calls, whose schema and facts the result has.
        called: how many of these 40 a person calls, once.
    """
    parties = [(f"busy{n % 40}", f"person{7 * n % 200}") for n in range(40 * 110)]
    parties += [(f"person{n % 200}", f"person{(n + 1 + n // 200) % 200}") for n in range(1_200)]
    return _week(calls, parties + [(f"person{n}", f"busy{n}") for n in range(called)])


def week_of_an_operator(calls, numbers, partners):
    """Returns a week of calls between own numbers and people who know two of them: three calls each way.

    Args:
        calls: keyed calls, whose schema and facts the result has.
        numbers: how many own numbers there are.
        partners: how many people each own number knows.
    """
    people = [(n, person) for n in range(numbers) for person in range(partners // 2)]
    pairs = [(f"own{own % numbers}", f"person{n}.{person}") for n, person in people for own in (n, n + 1)]
    return _week(calls, 3 * (pairs + [(callee, caller) for caller, callee in pairs]))


def _week(calls, parties):
    """Returns calls between these pairs of numbers in random order, evenly over a week and some minutes."""
    template = next(row for row in calls.to_pylist() if row["trunk"] and row["outcome"] == "answered")
    rows = []
    for place, pair in enumerate(np.random.default_rng(1).permutation(len(parties)).tolist()):
        facts = {"outcome": "busy" if place % 5 == 0 else "answered", "ring": 5_000, "talk": 30_000}
        start = place * (WEEK + 60_000) // len(parties)
        rows.append(template | dict(zip(("caller", "callee"), parties[pair], strict=True)) | facts | {"start": start})
    return pa.Table.from_pylist(rows, calls.schema)


def forged_calls(calls, share, made=1, to=""):
    """Returns calls of a week with further ones of forged numbers, which nobody calls.

    Args:
        share: share of the forged calls among all.
        made: calls of each forged number.
        to: how the numbers begin that are called; by default all numbers are.
    """
    draws, count = np.random.default_rng(1), round(calls.num_rows * share / (1 - share))
    within = pc.starts_with(calls["callee"].cast(pa.string()), to).to_numpy()
    places = np.flatnonzero(within)[1:-1]  # not the first, nor the last
    rows = calls.take(pa.array(places[draws.integers(len(places), size=count)]))
    callers = pa.array([f"forged{number // made}" for number in range(count)])
    starts = pa.array(rows["start"].to_numpy() + draws.integers(1, 1_000, count))
    for name, values in (("caller", callers), ("start", starts)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, values.cast(calls.schema.field(name).type))
    return pa.concat_tables([calls, rows]).unify_dictionaries().sort_by("start")


def _answered(calls, chosen):
    return calls.filter(pc.or_(pc.invert(chosen), pc.equal(calls["outcome"].cast(pa.string()), "answered")))


def _outgoing(calls, chosen):
    """Gives called numbers tokens that no caller has."""
    callee = calls["callee"].cast(pa.string())
    return _replaced(calls, chosen, "callee", pc.binary_join_element_wise("x", callee, ""))


def _routes(calls, chosen):
    for name in ("trunk", "device"):
        calls = _replaced(calls, chosen, name, pa.nulls(calls.num_rows, pa.string()))
    return calls


def _ring(calls, chosen):
    return _replaced(calls, chosen, "ring", pa.array([0] * calls.num_rows, calls["ring"].type))


def _replaced(calls, chosen, name, new):
    kind, place = calls[name].type, calls.schema.get_field_index(name)
    plain = calls[name].cast(pa.string()) if pa.types.is_dictionary(kind) else calls[name]
    return calls.set_column(place, name, pc.if_else(chosen, new, plain).cast(kind))


REMOVE = {ANSWERED_ONLY: _answered, OUTGOING_ONLY: _outgoing, NO_ROUTES: _routes, NO_RING_TIME: _ring}
