"""Signs that records were read in a wrong way, or that their feed was not recognised. They change no score."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from callsieve.features.online.feeds import ONE_SITE, feed_of_table, lacks_of

COLUMNS = ("day", "hour", "caller", "callee")
SAMPLE_CALLS, FEWEST_CALLS, FEWEST_DAYS = 10_000, 500, 3
# Share of the calls from 2 to 6 h, and how many times as many as in the four quietest hours. Simulated worlds have
# shares of 0.003 to 0.02, the other simulator 0.01, students of Copenhagen 0.02, callers of the Reality Mining Study
# 0.06, one of them 0.09 and 2.9 times the quietest hours. Eight hours off, these and subscribers of Sichuan have 0.17
# to 0.32.
NIGHT, TIMES_QUIETEST = 0.15, 2.5
# GAP_HOURS hours in a row from 9 to 18 h are a gap if each has less than EMPTY of the calls of the busiest hour. The
# least of these hours has 0.3 to 0.6 of the busiest in all of these records. A break at noon takes two hours.
EMPTY, GAP_HOURS, MIDDLE = 0.02, 3, (9, 18)
# Share of the calls of one line. It is 0.06 in the records of people, 0.2 in the smallest world.
MOST_CALLS = 0.5


def odd_table(calls: pa.Table) -> list[str]:
    """Returns `odd_records` of a table of keyed calls."""
    return odd_records([calls], calls.num_rows, lambda: feed_of_table(calls))


def odd_records(calls: Iterable[pa.Table | pa.RecordBatch], count: int, feed: Callable[[], str]) -> list[str]:
    """Returns a sentence for each sign in keyed calls; none for fewer than FEWEST_CALLS or FEWEST_DAYS."""
    step, begin, parts = max(-(-count // SAMPLE_CALLS), 1), 0, []
    for batch in calls:
        rows = pa.array(np.arange(-begin % step, batch.num_rows, step))
        day, hour, *parties = (batch[name].take(rows) for name in COLUMNS)
        parts.append(pa.table([day, hour, *(party.cast(pa.string()) for party in parties)], names=COLUMNS))
        begin += batch.num_rows
    if count < FEWEST_CALLS or len((sample := pa.concat_tables(parts))["day"].unique()) < FEWEST_DAYS:
        return []
    lines = pa.chunked_array([*sample["caller"].chunks, *sample["callee"].chunks]).drop_null().value_counts()
    busiest = max(lines.field("counts").to_pylist(), default=0) / sample.num_rows
    hours = np.bincount(sample["hour"].to_numpy(), minlength=24) / sample.num_rows
    four = np.array([hours.take(range(first, first + 4), mode="wrap").sum() for first in range(24)])
    quietest, night = int(four.argmin()), four[2]
    empty = hours < EMPTY * hours.max()
    gap = [hour for hour in range(MIDDLE[0], MIDDLE[1] - GAP_HOURS + 1) if empty[hour : hour + GAP_HOURS].all()]
    signs = []
    if night >= max(NIGHT, TIMES_QUIETEST * four[quietest]):
        signs.append(
            f"times: {night:.0%} of the calls start from 2 to 6 h, and the fewest from {quietest} to "
            f"{(quietest + 4) % 24} h; check the time zone of the clock (zone under [clock] of the layout, or --zone)"
        )
    if gap and busiest <= MOST_CALLS:  # a site may be closed for a part of the day
        signs.append(
            f"times: hardly any call starts from {gap[0]} to {gap[-1] + GAP_HOURS} h; check whether the records lack a "
            "part of each day"
        )
    if busiest > MOST_CALLS and ONE_SITE not in lacks_of(recognised := feed()):
        signs.append(
            f"lines: one line takes part in {busiest:.0%} of the calls, and the feed was recognised as '{recognised}'; "
            f"if the records are of one site, score them with a policy that has feed = '{ONE_SITE}': thresholds for "
            f"'{recognised}' do not hold there"
        )
    return signs
