"""Simulated worlds that several tests look at, and their columns as arrays."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from callsieve.training.world import load_scenario, simulate

SHIPPED = load_scenario()
TRADES = tuple(SHIPPED.table("work"))
OUTFITS = {name: SHIPPED.table(f"outfits.{name}") for name in SHIPPED.table("outfits")}
NUISANCE = {name for name, outfit in OUTFITS.items() if outfit["nuisance"]}
# Who shows another's number, or lets a platform call: its calls are not those of a number of its own.
MASKED = {"relay_callback", "spoofed_service", "spoofed_subscriber"}
TABLES = ("calls", "truth", "numbers", "reports", "findings")
HOUR = 3_600_000
DAY = 24 * HOUR
CLEAN = "[records]\nduplicate_share = 0.0\nring_missing_share = 0.0\n"


def scenario_of(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_text(text, encoding="utf-8")
        return load_scenario(path)


@cache
def clean():
    """The shipped scenario with each call written down once and whole."""
    return scenario_of(CLEAN)


@cache
def small_world():
    return simulate(clean(), 1, "tiny")


@cache
def town():
    """Large enough for shares and rules: some 500,000 calls."""
    return simulate(scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 3000\ndays = 28\n"), 5, "tiny")


@cache
def attacked():
    """A village in which some tricks are common."""
    common = "".join(f"[outfits.{name}]\ncalls_per_1000 = 30.0\n" for name in ("bombing", "warmed_up", "sim_box"))
    return simulate(scenario_of(f"{CLEAN}[sizes.tiny]\nsubscribers = 1500\ndays = 28\n{common}"), 2, "tiny")


def codes(table, column):
    return table[column].combine_chunks().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def words(table, column):
    if not pa.types.is_dictionary(table[column].type):
        return np.array(table[column].to_pylist(), dtype=object)
    coded = table[column].combine_chunks()
    # One place more than there are words: a null's -1 finds it.
    found = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    return found[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def moments(table, column):
    return table[column].cast(pa.int64()).to_numpy()


def ends(calls):
    length = np.rint((calls["ring"].to_numpy() + calls["talk"].to_numpy()) * 1000).astype(np.int64)
    return moments(calls, "start") + length


def carriers(calls):
    """The number whose line a call takes up: the network's where another one is shown."""
    shown, real = codes(calls, "caller"), codes(calls, "network_caller")
    return np.where(real >= 0, real, shown)


def as_bytes(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
