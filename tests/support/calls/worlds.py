"""Simulated worlds for several tests, and their columns as arrays."""

import tempfile
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa

from callsieve.training.world import load_scenario, simulate

SHIPPED_SCENARIO = load_scenario()
TRADES = tuple(SHIPPED_SCENARIO.table("work"))
OUTFITS = {name: SHIPPED_SCENARIO.table(f"outfits.{name}") for name in SHIPPED_SCENARIO.table("outfits")}
NUISANCE = {name for name, outfit in OUTFITS.items() if outfit["nuisance"]}
# Outfits that show the number of another subscriber or call through a platform: they call from other numbers.
MASKED = {"relay_callback", "spoofed_service", "spoofed_subscriber"}
TABLES = ("calls", "truth", "numbers", "complaints", "findings")
HOUR = 3_600_000
DAY = 24 * HOUR
CLEAN = "[records]\nduplicate_share = 0.0\nring_missing_share = 0.0\n"


def scenario_of(text):
    """Returns the scenario of a TOML text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_text(text, encoding="utf-8")
        return load_scenario(path)


@cache
def clean_scenario():
    """Returns the shipped scenario with every call recorded once and completely."""
    return scenario_of(CLEAN)


@cache
def small_world():
    """Returns the tiny world of the clean scenario."""
    return simulate(clean_scenario(), 1, "tiny")


@cache
def town_world():
    """Returns a world of some 500,000 calls, large enough to check shares."""
    return simulate(scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 3000\ndays = 28\n"), 5, "tiny")


@cache
def attacked_world():
    """Returns a small world in which three attacks are common."""
    common = "".join(f"[outfits.{name}]\ncalls_per_1000 = 30.0\n" for name in ("bombing", "warmed_up", "sim_box"))
    return simulate(scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 1500\ndays = 28\n{common}"), 2, "tiny")


def category_codes(table, column):
    """Returns the dictionary codes of a column, -1 for null."""
    return table[column].combine_chunks().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def text_values(table, column):
    """Returns the values of a column as objects, None for null."""
    if not pa.types.is_dictionary(table[column].type):
        return np.array(table[column].to_pylist(), dtype=object)
    coded = table[column].combine_chunks()
    # The additional last element is what a null's index -1 reads.
    values = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    return values[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def timestamps(table, column):
    """Returns a column of times as Unix ms."""
    return table[column].cast(pa.int64()).to_numpy()


def end_times(calls):
    """Returns the ends of calls, Unix ms."""
    length = np.rint((calls["ring"].to_numpy() + calls["talk"].to_numpy()) * 1000).astype(np.int64)
    return timestamps(calls, "start") + length


def carriers(calls):
    """Returns the number whose line a call takes: the network number where another one is shown."""
    caller, network_caller = category_codes(calls, "caller"), category_codes(calls, "network_caller")
    return np.where(network_caller >= 0, network_caller, caller)


def unique_rows(world):
    """Returns the rows of calls without duplicate records."""
    return np.flatnonzero(~world.truth["duplicate"].to_numpy())


def count_calls(world):
    """Returns outgoing calls, incoming calls of existing numbers, and calls to invalid numbers."""
    rows, exists = unique_rows(world), np.zeros(len(world.calls["caller"].combine_chunks().dictionary), dtype=bool)
    exists[category_codes(world.numbers, "number")] = True
    caller, callee = category_codes(world.calls, "caller")[rows], category_codes(world.calls, "callee")[rows]
    assert exists[caller].all()
    invalid = text_values(world.calls, "outcome")[rows] == "invalid_number"
    assert exists[callee[~invalid]].all()
    assert (caller != callee).all()
    outgoing, incoming = (
        np.bincount(caller, minlength=len(exists)),
        np.bincount(callee[~invalid], minlength=len(exists)),
    )
    return int(outgoing.sum()), int(incoming.sum()), int(invalid.sum())


def check_calls_within_lifetimes(world):
    """Asserts that no number has a call before it exists or after it is cut off."""
    calls, numbers = world.calls, world.numbers
    place = np.full(len(calls["caller"].combine_chunks().dictionary), -1)
    place[category_codes(numbers, "number")] = np.arange(numbers.num_rows)
    rows = np.flatnonzero(text_values(calls, "outcome") != "invalid_number")
    born, died = timestamps(numbers, "active_from"), timestamps(numbers, "active_to")
    start, end = timestamps(calls, "start")[rows], end_times(calls)[rows]
    for number in (carriers(calls)[rows], category_codes(calls, "callee")[rows]):
        rows_of_number = place[number]
        assert (rows_of_number >= 0).all()
        assert (start >= born[rows_of_number]).all()
        assert (start < died[rows_of_number]).all()
        assert (end <= died[rows_of_number])[died[rows_of_number] < int(world.facts["end"])].all()


def check_one_call_per_mobile(world):
    """Asserts that calls of a mobile do not overlap; returns the number of successive pairs."""
    rows = unique_rows(world)
    calls = world.calls.take(rows)
    answered = text_values(calls, "outcome") == "answered"
    number = np.concatenate((carriers(calls), category_codes(calls, "callee")[answered]))
    start = np.concatenate((timestamps(calls, "start"), timestamps(calls, "start")[answered]))
    end = np.concatenate((end_times(calls), end_times(calls)[answered]))
    own_mobile = np.zeros(len(calls["caller"].combine_chunks().dictionary), dtype=bool)
    own_mobile[category_codes(world.numbers, "number")] = world.numbers["own_mobile"].to_numpy()
    is_mobile = own_mobile[number]
    number, start, end = number[is_mobile], start[is_mobile], end[is_mobile]
    order = np.lexsort((start, number))
    number, start, end = number[order], start[order], end[order]
    same = number[1:] == number[:-1]
    assert (start[1:][same] >= end[:-1][same]).all()
    return int(same.sum())


@st.composite
def scenarios(draw):
    """Draws small worlds of any shape: sizes, habits, a common attack, a shock, record faults."""
    share = st.floats(0, 1).map(lambda value: round(value, 3))
    common = draw(st.sampled_from(sorted(OUTFITS)))
    return f"""
[calendar]
shock_day = {draw(st.integers(0, 5))}
holidays = {draw(st.sampled_from(["[]", "[2025-03-05]"]))}
[sizes.tiny]
subscribers = {draw(st.integers(120, 260))}
days = {draw(st.integers(1, 7))}
[records]
duplicate_share = {draw(share)}
late_share = {draw(share)}
ring_missing_share = 0.0
[people]
leave_share = {draw(share)}
callback_share = {draw(share)}
silent_share = {draw(share)}
[people.voicemail]
share = {draw(share)}
[people.manner]
answer_share = {draw(share)}
[outfits.{common}]
calls_per_1000 = 80.0
"""


def ipc_bytes(table):
    """Returns a table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
