"""Long commands tell how far they are: from the beginning to the end, and never back."""

import io
import shutil
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
from tests.training.cli.test_audit import write_key

TABLES = ("calls", "truth", "complaints", "findings", "register_recycled")
DAY = ("--first", "2025-03-03", "--last", "2025-03-03", "--purpose", "a sample", "--person", "me")


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=8))
def test_steps_lie_side_by_side_from_0_to_1(sizes):
    heard = []
    for told in steps(lambda _what, part: heard.append(part), dict(enumerate(sizes))).values():
        told("begin", 0.0)
        told("end", 1.0)
    assert heard == pytest.approx(sorted(heard)) and heard[0] == 0.0
    assert heard[1::2] == pytest.approx([sum(sizes[: i + 1]) / (sum(sizes) or 1) for i in range(len(sizes))])


def test_files_and_folders_count_by_their_bytes(tmp_path):
    for name, size in (("a", 30), ("b/c", 50), ("b/d", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    heard = []
    inside = by_size(lambda what, part: heard.append((what, part)), [tmp_path / name for name in ("a", "gone", "b")])
    for path, told in inside.items():
        told(path.name, 1.0)
    assert heard == [("a", 0.3), ("gone", 0.3), ("b", 1.0)]


@pytest.fixture
def heard(monkeypatch):
    """What parts a command told, in place of the bar."""
    parts = []

    @contextmanager
    def progress(_title):
        parts.clear()
        yield lambda _what, part: parts.append(part)

    monkeypatch.setattr(console, "progress", progress)
    return parts


@pytest.fixture
def data(world_folder, tmp_path):
    """Calls of one day of a world, and what is said beside them."""
    out = tmp_path / "data"
    out.mkdir()
    for name in TABLES:
        table = pq.read_table(world_folder / f"{name}.parquet")
        if name == "calls":
            table = table.filter(pc.equal(table["day"], pc.min(table["day"]))).slice(0, 300)
        pq.write_table(table, out / f"{name}.parquet", row_group_size=100)
    shutil.copy(world_folder / "world.json", out)
    since = "2025-01-01,2025-01-01"
    (out / "campaigns.csv").write_text(f"number,business,principal,valid_from,known_at\n13800138000,a,b,{since}\n")
    (out / "protected.csv").write_text(f"number,reason,valid_from,known_at\n13800138000,hospital,{since}\n")
    said = "13900139000,13800138000,2025-03-03T10:00:00+08:00,2025-03-04T10:00:00+08:00,fraud"
    (out / "said.csv").write_text(f"reporter,number,at,known_at,category\n{said}\n")
    return out


def test_commands_of_keeping_tell_their_progress(heard, data, told, tmp_path, monkeypatch):
    first = Key("e1", b"k" * 32)
    first.write(tmp_path / "e1.key")
    first.rotated("e2").write(tmp_path / "e2.key")
    write_key(small.KEY, tmp_path / "signing.key")
    log = ("--audit", tmp_path / "audit", "--signing-key", tmp_path / "signing.key")
    person = ("--data", data, "--key", tmp_path / "e1.key")
    for words in (
        ("ingest", "registers", data, "--out", tmp_path / "registers", "--key", tmp_path / "e1.key"),
        ("ingest", "complaints", data / "said.csv", "--out", tmp_path / "said.parquet"),
        ("privacy", "ticket", "export", "--data", data, *DAY, "--out", tmp_path / "act.json"),
        ("privacy", "export", "--data", data, *DAY, "--out", tmp_path / "calls.parquet", *log),
        ("privacy", "find", *person),
        ("privacy", "delete", *person, "--why", "asked", *log),
        ("privacy", "key", "rekey", tmp_path / "e1.key", tmp_path / "e2.key", "--data", data, *log),
        ("privacy", "retention", "--data", data, *log),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("13812345678\n"))
        told(*words)
        assert len(heard) > 1, words
        assert heard == pytest.approx(sorted(heard)) and heard[0] < 0.7, words
        assert heard[-1] == pytest.approx(1.0), words
