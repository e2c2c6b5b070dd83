"""Journals: added lines are read back, and lines that a crash or a bad disk damaged are counted."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.serving.live import journal
from callsieve.serving.live.journal import Journal, ReadCounts, file_numbers, file_path, read_journal, recover, seal
from tests.support.errors import raising
from tests.support.waiting import wait_until

WORDS = st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line), max_size=20)


def read(folder, first=0, by=read_journal):
    counts = ReadCounts()
    return list(by(folder, "calls", first, counts)), counts


def write(folder, lines):
    writer = Journal(folder, "calls").start()
    for line in lines:
        writer.add(line)
    writer.close()
    return writer


@given(WORDS)
def test_lines_survive_a_round_trip(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("journal")
    write(folder, lines)
    assert read(folder) == (lines, ReadCounts(lines=len(lines)))


def test_each_process_starts_a_new_file_with_at_least_the_least_number(tmp_path):
    for line in (b"a", b"b", b"c"):
        write(tmp_path, [line])
    assert file_numbers(tmp_path, "calls") == [1, 2, 3]
    assert read(tmp_path)[0] == [b"a", b"b", b"c"]
    assert read(tmp_path, 2)[0] == [b"b", b"c"]
    for least, number in ((2, 4), (4, 4), (9, 9)):
        writer = Journal(tmp_path, "calls", least=least).start()
        assert writer.number == number
        writer.close()


@pytest.mark.system
def test_a_line_is_written_without_a_flush(tmp_path):
    writer = Journal(tmp_path, "calls").start()
    writer.add(b"a")
    wait_until(lambda: read(tmp_path)[0] == [b"a"] and not writer._unsynced)
    writer.close()


def test_a_journal_rotates_and_drops_files(tmp_path):
    writer = Journal(tmp_path, "calls").start()
    writer.add(b"a")
    assert writer.rotate() == 2
    writer.add(b"b")
    writer.flush()
    writer.drop(2)
    assert file_numbers(tmp_path, "calls") == [2]
    writer.close()
    assert read(tmp_path)[0] == [b"b"]


def test_a_failing_background_task_does_not_stop_writing(tmp_path):
    def fails():
        raise RuntimeError("any error")

    writer = Journal(tmp_path, "calls", after=fails).start()
    wait_until(lambda: writer.faults)
    writer.add(b"a")
    wait_until(lambda: read(tmp_path)[0] == [b"a"])
    writer.close()


@given(st.integers(1, 60), st.binary(max_size=30))
def test_a_torn_end_is_removed_and_counted(tmp_path_factory, cut, rubbish):
    folder = tmp_path_factory.mktemp("journal")
    lines = [b"first", b"second", b"third"]
    write(folder, lines)
    where = file_path(folder, "calls", 1)
    whole = where.read_bytes()
    torn = whole[: max(len(whole) - cut, 0)] + rubbish.replace(b"\n", b"")
    where.write_bytes(torn)
    read_lines, counts = read(folder, by=recover)
    assert read_lines == lines[: len(read_lines)]
    assert counts.lines == len(read_lines)
    left = torn[len(b"".join(b"%b %08x\n" % (line, zlib.crc32(line)) for line in read_lines)) :]
    if b"\n" not in left:
        assert counts.torn == len(left)
        assert where.read_bytes() == torn[: len(torn) - len(left)]
    assert read(folder, by=recover)[0] == read_lines
    assert read(folder, by=recover)[1].torn == 0


def test_a_reader_skips_a_line_that_is_still_written(tmp_path):
    start, rest = seal(b"second")[:5], seal(b"second")[5:]
    with file_path(tmp_path, "calls", 1).open("ab", buffering=0) as file:
        file.write(seal(b"first") + start)
        assert list(read_journal(tmp_path, "calls", 0, ReadCounts())) == [b"first"]
        file.write(rest)
    assert list(read_journal(tmp_path, "calls", 0, ReadCounts())) == [b"first", b"second"]


@given(st.data())
def test_a_damaged_line_is_skipped_and_counted(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    lines = [b"line %d" % number for number in range(5)]
    write(folder, lines)
    where = file_path(folder, "calls", 1)
    whole = bytearray(where.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 2).filter(lambda at: whole[at] != 10))
    whole[place] ^= data.draw(st.sampled_from([1, 2, 4, 128]))
    hit = whole[:place].count(10)
    where.write_bytes(whole)
    read_lines, counts = read(folder)
    assert read_lines == lines[:hit] + lines[hit + 1 :]
    assert counts.damaged >= 1


def test_a_file_without_lines_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_LINE", 64)
    file_path(tmp_path, "calls", 1).write_bytes(b"\0" * 1000)
    assert read(tmp_path, by=recover) == ([], ReadCounts(torn=1000))
    assert file_path(tmp_path, "calls", 1).read_bytes() == b""
    file_path(tmp_path, "calls", 2).mkdir()
    assert read(tmp_path)[1].unread == 1


class Refusing:
    """A disk without space. With `half` it first writes half of the data."""

    def __init__(self):
        self.refuses, self.half = True, False

    def __call__(self, file, data):
        if self.half:
            self.half = False
            return WRITE(file, data[: len(data) // 2])
        if self.refuses:
            raise OSError(28, "No space left on device")
        return WRITE(file, data)


WRITE = os.write


@pytest.mark.parametrize("half", [False, True])
def test_lines_that_a_full_disk_refused_are_written_later(tmp_path, monkeypatch, half):
    """Lines for which the disk has space are written at once."""
    monkeypatch.setattr(journal, "EVERY", 3600)
    disk = Refusing()
    disk.half = half
    monkeypatch.setattr(journal.os, "write", disk)
    writer, lines = Journal(tmp_path, "calls").start(), [b"%d" % number for number in range(9)]
    for line in lines:
        writer.add(line)
    writer.flush()
    assert writer.faults == 1
    assert read(tmp_path) == ((lines[:4], ReadCounts(lines=4)) if half else ([], ReadCounts()))
    disk.refuses = False
    writer.flush()
    writer.close()
    assert writer.lost == 0
    assert read(tmp_path)[0] == lines


def test_a_failed_sync_is_counted_and_tried_again(tmp_path, monkeypatch):
    writer = Journal(tmp_path, "calls").start()
    writer.add(b"a")
    writer.flush()
    writer.add(b"b")
    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", raising(OSError(5, "Input/output error")))
        writer.flush()
        assert writer.faults >= 1 and writer.age > 0
    writer.flush()
    assert writer.age == 0 and writer.lost == 0
    writer.close()
    assert read(tmp_path)[0] == [b"a", b"b"]


def test_waiting_lines_are_bounded_and_lost_lines_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_WAITING", 5)
    monkeypatch.setattr(journal.os, "write", Refusing())
    writer = Journal(tmp_path, "calls").start()
    for number in range(12):
        writer.add(b"%d" % number)
    assert writer.lost == 7
    assert writer.close() == writer.lost == 12


def test_the_error_of_the_disk_is_logged_once_a_minute_and_lost_lines_at_the_end(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(journal, "EVERY", 3600)
    moment = [1000.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: moment[0])
    disk = Refusing()
    monkeypatch.setattr(journal.os, "write", disk)
    writer = Journal(tmp_path, "calls")
    writer.add(b"a")
    for seconds in (0, 1, 58.9, 0.1, 60):
        moment[0] += seconds
        writer.flush()
    line = "journal calls: the disk refuses writes: No space left on device; 1 lines wait, 0 are lost"
    assert [record.getMessage() for record in caplog.records] == [line] * 3
    assert writer.refusals == {"ENOSPC": 5}
    caplog.clear()
    assert writer.close() == 1
    assert caplog.messages == ["journal calls: 1 lines are lost (ENOSPC)"]
    caplog.clear()
    disk.refuses = False
    assert write(tmp_path, [b"a"]).lost == 0 and caplog.messages == []


def test_threads_lose_no_line(tmp_path):
    writer = Journal(tmp_path, "calls").start()
    expected = [[b"%d %d" % (thread, n) for n in range(2000)] for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(lambda lines=lines: [writer.add(line) for line in lines]) for lines in expected]
        while not all(task.done() for task in tasks):
            writer.rotate()
    writer.close()
    lines = read(tmp_path)[0]
    assert [[line for line in lines if line.startswith(b"%d " % thread)] for thread in range(4)] == expected
