"""Progress runs from 0 to 1 and never back, in steps and in long commands."""

from contextlib import contextmanager

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.files.progress import by_size, steps
from callsieve.features.keys.tokens import Key
from callsieve.serving.cli import console
from tests.support import small_bundle as small
from tests.support.keys import write_key
from tests.support.simulated import mark_simulated

TABLES = ("calls", "truth", "complaints", "findings", "register_recycled")
DAY = ("--first", "2025-03-03", "--last", "2025-03-03", "--purpose", "a sample", "--person", "me")


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=8))
def test_steps_cover_0_to_1_without_gaps(sizes):
    parts = []
    for callback in steps(lambda _step, part: parts.append(part), dict(enumerate(sizes))).values():
        callback("begin", 0.0)
        callback("end", 1.0)
    assert parts == pytest.approx(sorted(parts)) and parts[0] == 0.0
    assert parts[1::2] == pytest.approx([sum(sizes[: i + 1]) / (sum(sizes) or 1) for i in range(len(sizes))])


def test_steps_of_files_and_folders_are_sized_by_their_bytes(tmp_path):
    for name, size in (("a", 30), ("b/c", 50), ("b/d", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    parts = []
    callbacks = by_size(lambda step, part: parts.append((step, part)), [tmp_path / name for name in ("a", "gone", "b")])
    for path, callback in callbacks.items():
        callback(path.name, 1.0)
    assert parts == [("a", 0.3), ("gone", 0.3), ("b", 1.0)]


@pytest.fixture
def parts(monkeypatch):
    """The parts that a command passed to its progress callback."""
    received = []

    @contextmanager
    def progress(_title):
        received.clear()
        yield lambda _step, part: received.append(part)

    monkeypatch.setattr(console, "progress", progress)
    return received


@pytest.fixture
def data(world_folder, tmp_path):
    """A folder with the calls of one day of a world, complaints and registers."""
    out = tmp_path / "data"
    out.mkdir()
    for name in TABLES:
        table = pq.read_table(world_folder / f"{name}.parquet")
        if name == "calls":
            table = table.filter(pc.equal(table["day"], pc.min(table["day"]))).slice(0, 300)
        pq.write_table(table, out / f"{name}.parquet", row_group_size=100)
    mark_simulated(out)
    since = "2025-01-01,2025-01-01"
    (out / "campaigns.csv").write_text(f"number,business,principal,valid_from,known_at\n13800138000,a,b,{since}\n")
    (out / "protected.csv").write_text(f"number,reason,valid_from,known_at\n13800138000,hospital,{since}\n")
    complaint = "13900139000,13800138000,2025-03-03T10:00:00+08:00,2025-03-04T10:00:00+08:00,fraud"
    (out / "complaints.csv").write_text(f"reporter,number,at,known_at,category\n{complaint}\n")
    return out


@pytest.mark.system
def test_long_commands_report_their_progress(parts, data, command_json, tmp_path):
    first = Key("e1", b"k" * 32)
    first.write(tmp_path / "e1.key")
    first.rotated("e2").write(tmp_path / "e2.key")
    write_key(small.KEY, tmp_path / "signing.key")
    log = ("--audit", tmp_path / "audit", "--signing-key", tmp_path / "signing.key")
    person = ("--data", data, "--key", tmp_path / "e1.key")
    for words in (
        ("ingest", "registers", data, "--out", tmp_path / "registers", "--key", tmp_path / "e1.key"),
        ("ingest", "complaints", data / "complaints.csv", "--out", tmp_path / "complaints.parquet"),
        ("privacy", "ticket", "export", "--data", data, *DAY, "--out", tmp_path / "act.json"),
        ("privacy", "export", "--data", data, *DAY, "--out", tmp_path / "calls.parquet", *log),
        ("privacy", "find", *person),
        ("privacy", "delete", *person, "--why", "asked", *log),
        ("privacy", "key", "rekey", tmp_path / "e1.key", tmp_path / "e2.key", "--data", data, *log),
        ("privacy", "retention", "--data", data, *log),
    ):
        command_json(*words, stdin="13812345678\n")
        assert len(parts) > 1, words
        assert parts == pytest.approx(sorted(parts)) and parts[0] < 0.7, words
        assert parts[-1] == pytest.approx(1.0), words
