"""Vectors in shards are those of the table, bit for bit, however the work is cut and wherever it was killed."""

import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from callsieve.features import shards
from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.keyed import read_keyed
from callsieve.features.pseudonyms import Key
from callsieve.features.shards import write_shards
from callsieve.features.stages import Plan
from callsieve.features.table import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import histories, table

KEY = Key("e1", b"k" * 32)
USES = {"caller": "number", "callee": "number", "caller_block": "block", "trunk": "trunk", "device": "device"}
GIB = 1 << 30


def keyed(calls):
    """Drawn calls with tokens for names, those of one number in another epoch."""
    rows = []
    for call in calls:
        named = {n: KEY.token(use, call[n]) if call[n] else None for n, use in USES.items()}
        rows.append(call | {n: f"old-{t}" if t and call[n] == "a" else t for n, t in named.items()})
    return table(rows)


def parts(folder):
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])


def bits(rows):
    return np.ascontiguousarray(rows).view(np.int64)


def check(folder, calls, names=NAMES):
    """All rows once, with the numbers and bits they should have, the calls of a caller together and in order."""
    found = parts(folder)
    assert found.column_names == ["row", "start", "caller", "callee", *names]
    row = found["row"].to_numpy()
    np.testing.assert_array_equal(np.sort(row), np.arange(calls.num_rows))
    expected = calls.take(row)
    assert found["start"].to_pylist() == expected["start"].to_pylist()
    for party in ("caller", "callee"):
        assert found[party].to_pylist() == expected[party].to_pylist()
    values = np.column_stack([found[name].to_numpy() for name in names])
    np.testing.assert_array_equal(bits(values), bits(vectors(calls, features=names, threads=1)[row]))
    assert_in_order(found)


def assert_in_order(found):
    caller, start = found["caller"].to_numpy(), found["start"].to_numpy()
    runs = np.flatnonzero(np.append(True, caller[1:] != caller[:-1]))
    assert len(runs) == len(set(caller))
    assert all(np.all(np.diff(run) >= 0) for run in np.split(start, runs[1:]))


@given(histories(max_calls=40), st.integers(1, 50), st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_shards_equal_the_table_however_they_are_cut(tmp_path_factory, calls, chunk, count, threads):
    folder = tmp_path_factory.mktemp("shards")
    calls = keyed(calls)
    pq.write_table(calls, folder / "calls.parquet", row_group_size=7)
    plan = Plan(folder / "out", NAMES, calls.num_rows, chunk, count)
    plan.work.mkdir(parents=True)
    shards.run(plan, folder / "calls.parquet", threads, shards.silent)
    check(plan.folder, calls)


@pytest.mark.parametrize("roles", [("caller",), ("callee", "trunk"), ("device",)])
def test_a_choice_of_features_in_the_order_asked(roles, world_folder, tmp_path):
    names = tuple(feature.name for feature in reversed(FEATURES) if feature.role in roles)
    calls = pq.read_table(world_folder / "calls.parquet").slice(0, 5000)
    pq.write_table(calls, tmp_path / "calls.parquet")
    told = write_shards(tmp_path / "calls.parquet", tmp_path / "out", features=names)
    assert (told["calls"], told["features"], told["shards"]) == (5000, len(names), 1)
    check(tmp_path / "out", read_keyed(tmp_path / "calls.parquet"), names)


def test_no_calls(world_folder, tmp_path):
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 0), tmp_path / "calls.parquet")
    assert write_shards(tmp_path / "calls.parquet", tmp_path / "out")["calls"] == 0
    assert parts(tmp_path / "out").num_rows == 0


RUN = """
import sys
from pathlib import Path
from callsieve.features import shards
shards.CALL_BYTES, shards.CHUNK_BYTES = 120_000, 100_000  # so that there are many shards and chunks
shards.write_shards(Path(sys.argv[1]), Path(sys.argv[2]), memory=1 << 30, threads=2)
"""


def files_of(folder):
    """The finished files, and when they were written; one that is renamed or removed meanwhile is left out."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.suffix in (".arrow", ".parquet"):
                found[path] = path.stat().st_mtime_ns
    return found


@pytest.mark.parametrize("stage", ["out", "trunk_values", "part"])
def test_a_killed_run_goes_on_where_it_was(stage, world_folder, tmp_path):
    source, out = tmp_path / "calls.parquet", tmp_path / "out"
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 24_000), source)
    run = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(out)])
    deadline = time.monotonic() + 60
    while not any(path.stem[:-6] == stage for path in files_of(out)) and time.monotonic() < deadline:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    before = files_of(out)
    assert any(path.name.startswith(f"{stage}-") for path in before)
    done = []
    write_shards(source, out, memory=2 * GIB, progress=lambda what, part: done.append((what, part)))
    after = files_of(out)
    assert {path: after[path] for path in before if path in after} == {p: t for p, t in before.items() if p in after}
    assert [part for _, part in done] == sorted(part for _, part in done)
    assert done[-1][1] == pytest.approx(1)
    assert not (out / "_work").exists()
    check(out, read_keyed(source))
