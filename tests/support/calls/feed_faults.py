"""Faults of feeds, applied to a table of keyed calls from a day on."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def text_column(calls, name):
    """Returns a column without dictionaries."""
    column = calls[name].combine_chunks()
    return pc.dictionary_decode(column) if pa.types.is_dictionary(column.type) else column


def replace_column(calls, name, values):
    """Returns the table with other values in a column."""
    kind = calls.schema.field(name).type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type).dictionary_encode()
    return calls.set_column(calls.column_names.index(name), name, [values])


def random_rows_from(calls, day, share, seed=7):
    """Returns a mask of a random share of the calls from a day on."""
    return (calls["day"].to_numpy() >= day) & (np.random.default_rng(seed).random(calls.num_rows) < share)


def blank_values(name, share):
    """Returns a fault that blanks a share of a column."""
    return lambda calls, day: replace_column(
        calls, name, pc.if_else(pa.array(random_rows_from(calls, day, share)), None, text_column(calls, name))
    )


def overwrite_values(name, word, share):
    """Returns a fault that overwrites a share of a column with a word."""
    return lambda calls, day: replace_column(
        calls, name, pc.if_else(pa.array(random_rows_from(calls, day, share)), word, text_column(calls, name))
    )


def talk_in_seconds(calls, day):
    """Writes talk times in seconds instead of milliseconds."""
    short = pc.divide(calls["talk"].combine_chunks(), 1000)
    return replace_column(
        calls, "talk", pc.if_else(pa.array(random_rows_from(calls, day, 1.0)), short, calls["talk"].combine_chunks())
    )


def lose_records(share):
    """Returns a fault that loses a share of the records."""
    return lambda calls, day: calls.filter(pa.array(~random_rows_from(calls, day, share)))


def answered_only(calls, day):
    """Loses the records of unanswered calls."""
    answered = pc.equal(text_column(calls, "outcome"), "answered").to_numpy(zero_copy_only=False)
    return calls.filter(pa.array(~random_rows_from(calls, day, 1.0) | answered))


def ends_at_18(calls, day):
    """Loses the records after 18:00."""
    return calls.filter(pa.array(~(random_rows_from(calls, day, 1.0) & (calls["hour"].to_numpy() >= 18))))


def duplicate_records(share):
    """Returns a fault that duplicates a share of the records."""
    return lambda calls, day: calls.take(
        np.sort(np.concatenate([np.arange(calls.num_rows), np.flatnonzero(random_rows_from(calls, day, share))]))
    )


def late_by_six_hours(calls, day):
    """Delays records by six hours after the end of their calls, so outcomes are known late."""
    length = pc.add(pc.fill_null(calls["ring"], 0), pc.fill_null(calls["talk"], 0)).combine_chunks()
    later = pc.add(pc.add(calls["start"].combine_chunks(), length), 6 * 3_600_000)
    return replace_column(
        calls,
        "recorded",
        pc.if_else(pa.array(random_rows_from(calls, day, 1.0)), later, text_column(calls, "recorded")),
    )


FEED_FAULTS = {
    "talk in seconds instead of milliseconds": talk_in_seconds,
    "half of the records are lost": lose_records(0.5),
    "answered calls only": answered_only,
    "nothing after 18 h": ends_at_18,
    "a tenth of the records stand twice": duplicate_records(0.1),
    "records come six hours late": late_by_six_hours,
    "trunks are missing": blank_values("trunk", 1.0),
    "half of the devices are missing": blank_values("device", 0.5),
    "a third of the outcomes are unknown": overwrite_values("outcome", "unknown", 0.33),
    "attestation is not passed on": overwrite_values("attestation", "unknown", 1.0),
}
