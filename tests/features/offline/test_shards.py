"""Vectors in shards are bit-equal to those of the table, however the work is cut and wherever it was killed."""

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.keys.tokens import Key
from callsieve.features.offline import shards
from callsieve.features.offline.shards import Buffers, Plan, write_shard, write_shards
from callsieve.features.offline.table import vectors
from callsieve.features.records import KEYED_CATEGORIES, KEYED_COLUMNS
from tests.support.calls.repeats import hostile_history
from tests.support.calls.strategies import as_keyed_table, histories
from tests.support.errors import refused

KEY = Key("e1", b"k" * 32)
USES = {"caller": "number", "callee": "number", "caller_block": "block", "trunk": "trunk", "device": "device"}
GIB = 1 << 30


def with_tokens(calls):
    """Returns drawn calls with tokens in place of names; number "a" has tokens of another epoch."""
    rows = []
    for call in calls:
        named = {n: KEY.token(use, call[n]) if call[n] else None for n, use in USES.items()}
        rows.append(call | {n: f"old-{t}" if t and call[n] == "a" else t for n, t in named.items()})
    return as_keyed_table(rows)


def read_parts(folder):
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])


def bits(rows):
    return np.ascontiguousarray(rows).view(np.int64)


def check(folder, calls, names=NAMES):
    """Checks rows, parties, values bit by bit, and that calls of a caller are together and in order."""
    table = read_parts(folder)
    assert table.column_names == ["row", "start", "caller", "callee", *names]
    row = table["row"].to_numpy()
    np.testing.assert_array_equal(np.sort(row), np.arange(calls.num_rows))
    expected = calls.take(row)
    assert table["start"].to_pylist() == expected["start"].to_pylist()
    for party in ("caller", "callee"):
        assert table[party].to_pylist() == expected[party].to_pylist()
    values = np.column_stack([table[name].to_numpy() for name in names])
    np.testing.assert_array_equal(bits(values), bits(vectors(calls, features=names, threads=1)[row]))
    check_order(table)


def check_order(table):
    caller, start = table["caller"].to_numpy(), table["start"].to_numpy()
    runs = np.flatnonzero(np.append(True, caller[1:] != caller[:-1]))
    assert len(runs) == len(set(caller))
    assert all(np.all(np.diff(run) >= 0) for run in np.split(start, runs[1:]))


def test_a_file_is_read_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BATCH_ROWS", 1 << 12)
    rows, rng = 300_000, np.random.default_rng(0)
    call = dict.fromkeys(KEYED_COLUMNS) | {name: words[0] for name, words in KEYED_CATEGORIES.items()}
    call |= {"day": 0, "hour": 0} | dict.fromkeys(("caller", "callee", "caller_block"), "b")
    calls = with_tokens([call | {"start": 0}]).take(np.zeros(rows, dtype=np.int64))
    for name in ("start", "ring", "talk", "recorded"):
        calls = calls.set_column(calls.column_names.index(name), name, pa.array(rng.integers(0, 2**50, rows)))
    pq.write_table(calls, path := tmp_path / "calls.parquet", row_group_size=10_000)
    plan, before = Plan(tmp_path, NAMES, rows, 1 << 13, 1), pa.total_allocated_bytes()
    tasks = shards.split_tasks(plan, path, list(range(len(plan.files("out")))))
    assert max(pa.total_allocated_bytes() for _ in tasks) - before < path.stat().st_size / 2


@pytest.mark.system
@given(histories(max_calls=40), st.integers(1, 50), st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=25)
def test_shards_equal_the_table_however_the_work_is_cut(tmp_path_factory, calls, chunk, count, threads):
    folder = tmp_path_factory.mktemp("shards")
    calls = with_tokens(calls)
    pq.write_table(calls, folder / "calls.parquet", row_group_size=7)
    plan = Plan(folder / "out", NAMES, calls.num_rows, chunk, count)
    plan.work.mkdir(parents=True)
    shards.run(plan, folder / "calls.parquet", threads, shards.silent, partial(write_shard, plan))
    check(plan.folder, calls)


@pytest.mark.system
@pytest.mark.parametrize("uncompressed_rows", [0, shards.UNCOMPRESSED_ROWS])
def test_calls_with_conflicting_records_have_the_same_values_in_shards(tmp_path, monkeypatch, uncompressed_rows):
    monkeypatch.setattr(shards, "UNCOMPRESSED_ROWS", uncompressed_rows)
    calls, _ = hostile_history(random.Random(1), 60)
    calls = with_tokens([call | {"caller_block": call["caller_block"] or "x"} for call in calls])
    pq.write_table(calls, tmp_path / "calls.parquet")
    plan = Plan(tmp_path / "out", NAMES, calls.num_rows, 9, 3)
    plan.work.mkdir(parents=True)
    shards.run(plan, tmp_path / "calls.parquet", 1, shards.silent, partial(write_shard, plan))
    check(plan.folder, calls)


@pytest.mark.system
@pytest.mark.parametrize("roles", [("caller",), ("callee", "trunk"), ("device",)])
def test_a_choice_of_features_has_the_requested_order(roles, world_folder, tmp_path):
    names = tuple(feature.name for feature in reversed(FEATURES) if feature.role in roles)
    calls = pq.read_table(world_folder / "calls.parquet").slice(0, 5000)
    pq.write_table(calls, tmp_path / "calls.parquet")
    result = write_shards(tmp_path / "calls.parquet", tmp_path / "out", features=names)
    assert (result["calls"], result["features"], result["shards"]) == (5000, len(names), 1)
    check(tmp_path / "out", read_keyed(tmp_path / "calls.parquet"), names)


@pytest.mark.parametrize(("rows", "threads", "count"), [(0, 2, 1), (100_000, 2, 1), (200_000, 2, 3), (10**6, 2, 8)])
def test_a_file_has_shards_for_all_threads(monkeypatch, tmp_path, rows, threads, count):
    monkeypatch.setattr(shards, "count_rows", lambda _: rows)
    pq.write_table(pa.table({"start": [0]}), path := tmp_path / "calls.parquet")
    assert shards.open_plan(path, tmp_path / "out", NAMES, 32 * GIB, threads).shards == count


@pytest.mark.parametrize(("rows", "chunk"), [(10**6, 1 << 17), (16_000_000, 250_000), (10**8, 1 << 19)])
def test_chunks_grow_when_there_are_many(monkeypatch, tmp_path, rows, chunk):
    monkeypatch.setattr(shards, "count_rows", lambda _: rows)
    pq.write_table(pa.table({"start": [0]}), path := tmp_path / "calls.parquet")
    assert shards.open_plan(path, tmp_path / "out", NAMES, 32 * GIB, 2).chunk == chunk


def test_a_file_without_calls_gives_no_rows(world_folder, tmp_path):
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 0), tmp_path / "calls.parquet")
    assert write_shards(tmp_path / "calls.parquet", tmp_path / "out")["calls"] == 0
    assert read_parts(tmp_path / "out").num_rows == 0


RUN = """
import sys
from pathlib import Path
from callsieve.features.offline import shards
shards.CALL_BYTES, shards.CHUNK_BYTES = 120_000, 100_000  # so that there are many shards and chunks
shards.write_shards(Path(sys.argv[1]), Path(sys.argv[2]), memory=1 << 30, threads=2)
"""


def finished_files(folder):
    """Returns the finished files and their modification times; files that vanish meanwhile are left out."""
    files = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.suffix in (".arrow", ".parquet"):
                files[path] = path.stat().st_mtime_ns
    return files


@pytest.mark.system
@pytest.mark.parametrize("stage", ["out", "trunk_values", "part"])
def test_a_killed_run_is_resumed(stage, world_folder, tmp_path):
    source, out = tmp_path / "calls.parquet", tmp_path / "out"
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 24_000), source)
    run = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(out)])
    deadline = time.monotonic() + 60
    while not any(path.stem[:-6] == stage for path in finished_files(out)) and time.monotonic() < deadline:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    before = finished_files(out)
    assert any(path.name.startswith(f"{stage}-") for path in before)
    done = []
    write_shards(source, out, memory=2 * GIB, progress=lambda step, part: done.append((step, part)))
    after = finished_files(out)
    assert {path: after[path] for path in before if path in after} == {p: t for p, t in before.items() if p in after}
    assert [part for _, part in done] == sorted(part for _, part in done)
    assert done[-1][1] == pytest.approx(1)
    assert not (out / "_work").exists()
    check(out, read_keyed(source))


def test_finished_work_is_not_repeated(world_folder, tmp_path):
    source, out = tmp_path / "calls.parquet", tmp_path / "out"
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 500), source)
    first, before = write_shards(source, out), finished_files(out)
    assert write_shards(source, out) == first
    assert finished_files(out) == before
    with pytest.raises(ValueError, match="its run differs in features; expected the same input, or a new folder"):
        write_shards(source, out, features=NAMES[:2])
    with pytest.raises(ValueError, match=r"memory: expected [\d,]+ bytes or more, got 0$"):
        write_shards(tmp_path / "calls.parquet", tmp_path / "none", memory=0)
    with pytest.raises(ValueError, match=r"memory: expected [\d,]+ bytes or more, got 1,000$"):
        write_shards(source, tmp_path / "other", memory=1000)


@pytest.mark.system
def test_a_second_process_on_the_same_folder_is_refused(world_folder, tmp_path):
    """Regression: the second process failed on a file that the first had removed."""
    out, refused = tmp_path / "out", []

    def second(_step, _part):
        if not refused:
            with pytest.raises(ValueError) as result:
                write_shards(world_folder / "calls.parquet", out, features=NAMES[:2])
            refused.append(str(result.value))

    write_shards(world_folder / "calls.parquet", out, features=NAMES[:2], progress=second)
    assert refused == [f"{out}: is written by another process now, expected one at a time"]
    assert sorted(path.name for path in out.iterdir()) == ["_manifest.json", "part-00000.parquet"]
    with pytest.raises(ValueError, match="not found"):
        write_shards(tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_chunks_do_not_depend_on_skipped_chunks(world_folder, tmp_path):
    source = tmp_path / "calls.parquet"
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 1000), source, row_group_size=70)
    files = []
    for name, chunks in (("all", range(7)), ("later", (3, 5))):
        plan = Plan(tmp_path / name, NAMES, 1000, 150, 2)
        plan.work.mkdir(parents=True)
        for task in shards.split_tasks(plan, source, list(chunks)):
            task()
        files.append({path.name: path.read_bytes() for path in plan.work.iterdir()})
    later = {name: data for name, data in files[0].items() if name[-9:-6] in ("003", "005")}
    assert files[1] == later != {}


def with_column(calls, name, values):
    return calls.set_column(calls.column_names.index(name), name, values)


INVALID_TABLES = {
    "nulls": (lambda c: with_column(c, "start", pa.nulls(len(c), pa.int64())), "column 'start' has 300 nulls"),
    "numbers": (lambda c: with_column(c, "caller", pa.array([7] * 300)), "column 'caller' holds int64, expected text"),
    "plain": (lambda c: with_column(c, "caller", pa.array(["x"] * 300)), "column 'caller' has an invalid value"),
    "less": (lambda c: c.drop_columns(["ring"]), "column 'ring' is missing, expected the columns of keyed calls"),
    "more": (lambda c: c.append_column("name", c["caller"]), "column 'name' is unknown, expected the columns"),
}


@pytest.mark.parametrize("kind", INVALID_TABLES)
def test_invalid_tables_are_refused_in_one_line(kind, world_folder, tmp_path):
    spoil, words = INVALID_TABLES[kind]
    pq.write_table(spoil(pq.read_table(world_folder / "calls.parquet").slice(0, 300)), tmp_path / "calls.parquet")
    with refused(words):
        write_shards(tmp_path / "calls.parquet", tmp_path / "out", features=NAMES[:2])


def test_files_that_are_not_parquet_are_refused(world_folder, tmp_path):
    source = tmp_path / "calls.parquet"
    with pytest.raises(ValueError, match="not found; expected a Parquet file of keyed calls"):
        write_shards(source, tmp_path / "out")
    source.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="broken Parquet file, expected a table of keyed calls"):
        write_shards(source, tmp_path / "out")
    calls = pq.read_table(world_folder / "calls.parquet").slice(0, 300)
    pq.write_table(calls, source, write_page_checksum=True)
    whole = bytearray(source.read_bytes())
    whole[len(whole) // 8] ^= 0xFF  # in a page, which the footer's statistics do not show
    source.write_bytes(whole)
    with pytest.raises(ValueError, match="broken Parquet file, expected a table of keyed calls"):
        write_shards(source, tmp_path / "out", features=NAMES[:2])


def test_an_array_is_reused_after_its_block_only():
    buffers = Buffers()
    with buffers.lend("vectors", 3, 2) as first, buffers.lend("vectors", 3, 2) as second:
        assert first.shape == second.shape == (3, 2)
        assert not np.shares_memory(first, second)
    with buffers.lend("columns", 2, 2) as other, buffers.lend("vectors", 2, 3) as again:
        assert again.shape == (2, 3)
        assert np.shares_memory(again, first) != np.shares_memory(again, second)
        assert not np.shares_memory(again, other)


def test_a_larger_array_is_new_and_a_failed_task_leaves_none():
    buffers = Buffers()
    with buffers.lend("vectors", 1, 1) as small:
        pass
    with buffers.lend("vectors", 100, 2) as large:
        assert large.shape == (100, 2)
        assert not np.shares_memory(small, large)
    with pytest.raises(ValueError, match="broken"), buffers.lend("vectors", 100, 2) as failed:
        raise ValueError("broken")
    with buffers.lend("vectors", 100, 2) as fresh:
        assert not np.shares_memory(failed, fresh)


def test_no_array_is_reused_after_clear():
    buffers = Buffers()
    with buffers.lend("vectors", 4, 4) as before:
        pass
    buffers.clear()
    with buffers.lend("vectors", 4, 4) as after:
        assert not np.shares_memory(before, after)
