"""Sealed shards: rows come back by shard and in order, and on the disk they cannot be read or changed."""

import os
import tempfile

import numpy as np
import pyarrow as pa
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.offline import keyed_file
from callsieve.features.offline.keyed_file import SealedShards

TEXTS = ("caller", "trunk")
WORDS = pa.dictionary(pa.int32(), pa.string())
COLUMNS = pa.schema([("row", pa.int64()), ("caller", WORDS), ("trunk", WORDS), ("outcome", WORDS)])
NUMBER = "+8613800138000"

ROW = st.tuples(
    st.integers(0, 4),
    st.sampled_from([None, NUMBER, "13800138001", ""]),
    st.sampled_from([None, "t1", "t2"]),
    st.sampled_from([None, "answered", "busy"]),
)


def table(rows):
    """A table of rows: place, caller, trunk and outcome."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, COLUMNS, strict=True)], schema=COLUMNS
    )


def add(sealed, rows, to):
    sealed.add(table(rows), np.array(to, dtype=np.uint16))


CALLS = [(place, NUMBER, "t1", "busy") for place in range(200)]


@pytest.fixture
def file(monkeypatch, tmp_path):
    """The files in which shards are stored, in the order in which they are opened; their folder is `tmp_path`."""
    opened, make = [], tempfile.TemporaryFile

    def seen(**options):
        assert options == {"dir": tmp_path}
        opened.append(make(**options))
        return opened[-1]

    monkeypatch.setattr(keyed_file.tempfile, "TemporaryFile", seen)
    return opened


def stored(file):
    """Returns the bytes on the disk."""
    file.flush()
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


@given(st.lists(st.lists(ROW, max_size=12), max_size=4))
def test_a_shard_has_its_rows_of_all_additions_in_order(tmp_path_factory, additions):
    expected, place = [[] for _ in range(5)], 0
    with SealedShards(tmp_path_factory.getbasetemp(), 5, COLUMNS, TEXTS) as sealed:
        assert len(sealed) == 5
        for addition in additions:
            rows = [(place + number, *rest) for number, (_, *rest) in enumerate(addition)]
            place += len(rows)
            for (shard, *_), row in zip(addition, rows, strict=True):
                expected[shard].append(row)
            add(sealed, rows, [shard for shard, *_ in addition])
        for shard in (4, 0, 1, 2, 3, 0):  # in any order, and again
            result = sealed.read(shard)
            assert [tuple(row.values()) for row in result.to_pylist()] == expected[shard]
            assert result.schema.equals(COLUMNS)


def test_rows_can_be_added_after_a_shard_was_read(tmp_path):
    with SealedShards(tmp_path, 2, COLUMNS, TEXTS) as sealed:
        add(sealed, CALLS, [row % 2 for row, *_ in CALLS])
        assert sealed.read(0)["row"].to_pylist() == list(range(0, 200, 2))
        add(sealed, CALLS[:3], [0, 1, 0])
        assert sealed.read(0)["row"].to_pylist() == [*range(0, 200, 2), 0, 2]
        assert sealed.read(1)["row"].to_pylist() == [*range(1, 200, 2), 1]


def test_an_interrupted_run_leaves_nothing_on_the_disk(tmp_path, file):
    """The file has no name while it is written, and is closed when an error ends the run."""
    with pytest.raises(KeyboardInterrupt), SealedShards(tmp_path, 1, COLUMNS, TEXTS) as sealed:
        add(sealed, CALLS, [0] * len(CALLS))
        assert list(tmp_path.iterdir()) == [] and len(stored(file[0])) > 1000
        raise KeyboardInterrupt
    assert file[0].closed and list(tmp_path.iterdir()) == []


def test_no_number_as_written_can_be_read_from_the_disk(tmp_path, file):
    with SealedShards(tmp_path, 2, COLUMNS, TEXTS) as sealed:
        add(sealed, CALLS, [place % 2 for place in range(len(CALLS))])
        data = stored(file[0])
        assert len(data) > 200 * len(NUMBER)
        assert NUMBER.encode() not in data and b"caller" not in data and b"busy" not in data


def test_equal_rows_are_encrypted_differently_each_time(tmp_path, file):
    """A repeated nonce would show which callers call again, and break the cipher."""
    parts = []
    for _ in range(2):
        with SealedShards(tmp_path, 1, COLUMNS, TEXTS) as sealed:
            for _ in range(2):
                add(sealed, CALLS, [0] * len(CALLS))
            data = stored(file[-1])
            parts += [data[: len(data) // 2], data[len(data) // 2 :]]
    assert len({len(part) for part in parts}) == 1 and len(set(parts)) == 4
    blocks = [part[begin : begin + 16] for part in parts for begin in range(0, len(part) - 16, 16)]
    assert len(set(blocks)) == len(blocks)


def swapped(data):
    """Two parts of equal size in the other order."""
    return data[len(data) // 2 :] + data[: len(data) // 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[: len(data) // 2] * 2,
        swapped,
    ],
    ids=["a byte short", "half", "a changed bit", "the first part twice", "parts swapped"],
)
def test_a_shard_that_is_not_whole_on_the_disk_is_not_read(tmp_path, file, change):
    with SealedShards(tmp_path, 1, COLUMNS, TEXTS) as sealed:
        for _ in range(2):
            add(sealed, CALLS, [0] * len(CALLS))
        whole = sealed.read(0)
        data = stored(file[0])
        for content, complete in ((change(data), False), (data, True)):
            os.ftruncate(file[0].fileno(), 0)
            os.pwrite(file[0].fileno(), content, 0)
            file[0].seek(0)
            if complete:
                assert sealed.read(0).equals(whole) and whole.num_rows == 2 * len(CALLS)
            else:
                with pytest.raises(InvalidTag):
                    sealed.read(0)
