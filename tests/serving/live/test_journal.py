"""Lines on disk: what was handed over is read back, and what a crash or a bad disk left of a line is counted."""

import os
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.serving.live import journal
from callsieve.serving.live.journal import Journal, ReadCounts, file_numbers, file_path, read_journal, recover, seal
from tests.support.waiting import wait_until

WORDS = st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line), max_size=20)


def found_in(folder, first=0, by=read_journal):
    found = ReadCounts()
    return list(by(folder, "calls", first, found)), found


def written(folder, lines):
    kept = Journal(folder, "calls")
    for line in lines:
        kept.add(line)
    kept.close()
    return kept


@given(WORDS)
def test_lines_are_read_as_they_were_written(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("journal")
    written(folder, lines)
    assert found_in(folder) == (lines, ReadCounts(lines=len(lines)))


def test_each_process_begins_a_new_file(tmp_path):
    for line in (b"a", b"b", b"c"):
        written(tmp_path, [line])
    assert file_numbers(tmp_path, "calls") == [1, 2, 3]
    assert found_in(tmp_path)[0] == [b"a", b"b", b"c"]
    assert found_in(tmp_path, 2)[0] == [b"b", b"c"]


def test_a_line_is_on_disk_before_anybody_asks(tmp_path):
    kept = Journal(tmp_path, "calls")
    kept.add(b"a")
    wait_until(lambda: found_in(tmp_path)[0] == [b"a"] and not kept._unsynced)
    kept.close()


def test_the_journal_turns_and_drops(tmp_path):
    kept = Journal(tmp_path, "calls")
    kept.add(b"a")
    assert kept.rotate() == 2
    kept.add(b"b")
    kept.flush()
    kept.drop(2)
    assert file_numbers(tmp_path, "calls") == [2]
    kept.close()
    assert found_in(tmp_path)[0] == [b"b"]


def test_a_file_never_has_a_lower_number_than_the_least(tmp_path):
    file_path(tmp_path, "calls", 3).touch()
    for least, number in ((2, 4), (4, 4), (9, 9)):
        kept = Journal(tmp_path, "calls", least=least)
        assert kept.number == number
        kept.close()


def test_work_beside_the_calls_that_fails_stops_no_writing(tmp_path):
    def fails():
        raise RuntimeError("whatever")

    kept = Journal(tmp_path, "calls", after=fails)
    wait_until(lambda: kept.faults)
    kept.add(b"a")
    wait_until(lambda: found_in(tmp_path)[0] == [b"a"])
    kept.close()


@given(st.integers(1, 60), st.binary(max_size=30))
def test_a_torn_end_is_cut_and_counted(tmp_path_factory, cut, rubbish):
    folder = tmp_path_factory.mktemp("journal")
    lines = [b"first", b"second", b"third"]
    written(folder, lines)
    where = file_path(folder, "calls", 1)
    whole = where.read_bytes()
    torn = whole[: max(len(whole) - cut, 0)] + rubbish.replace(b"\n", b"")
    where.write_bytes(torn)
    told, found = found_in(folder, by=recover)
    assert told == lines[: len(told)]
    assert found.lines == len(told)
    left = torn[len(b"".join(b"%b %08x\n" % (line, zlib.crc32(line)) for line in told)) :]
    if b"\n" not in left:
        assert found.torn == len(left)
        assert where.read_bytes() == torn[: len(torn) - len(left)]
    assert found_in(folder, by=recover)[0] == told
    assert found_in(folder, by=recover)[1].torn == 0


def test_a_reader_leaves_what_another_process_is_writing(tmp_path):
    begun, rest = seal(b"second")[:5], seal(b"second")[5:]
    with file_path(tmp_path, "calls", 1).open("ab", buffering=0) as file:
        file.write(seal(b"first") + begun)
        assert list(read_journal(tmp_path, "calls", 0, ReadCounts())) == [b"first"]
        file.write(rest)
    assert list(read_journal(tmp_path, "calls", 0, ReadCounts())) == [b"first", b"second"]


@given(st.data())
def test_a_damaged_line_is_left_out_and_counted(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    lines = [b"line %d" % number for number in range(5)]
    written(folder, lines)
    where = file_path(folder, "calls", 1)
    whole = bytearray(where.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 2).filter(lambda at: whole[at] != 10))
    whole[place] ^= data.draw(st.sampled_from([1, 2, 4, 128]))
    hit = whole[:place].count(10)
    where.write_bytes(whole)
    told, found = found_in(folder)
    assert told == lines[:hit] + lines[hit + 1 :]
    assert found.damaged >= 1


def test_what_is_no_journal_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_LINE", 64)
    file_path(tmp_path, "calls", 1).write_bytes(b"\0" * 1000)
    assert found_in(tmp_path, by=recover) == ([], ReadCounts(torn=1000))
    assert file_path(tmp_path, "calls", 1).read_bytes() == b""
    file_path(tmp_path, "calls", 2).mkdir()
    assert found_in(tmp_path)[1].unread == 1


class Refusing:
    """A disk that refuses, after it has taken half of what it was given."""

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
def test_what_a_full_disk_refused_is_written_later(tmp_path, monkeypatch, half):
    """And what it had room for is written at once: many lines that wait are not all left for want of room for the
    last."""
    monkeypatch.setattr(journal, "EVERY", 3600)
    disk = Refusing()
    disk.half = half
    monkeypatch.setattr(journal.os, "write", disk)
    kept, lines = Journal(tmp_path, "calls"), [b"%d" % number for number in range(9)]
    for line in lines:
        kept.add(line)
    kept.flush()
    assert kept.faults == 1
    assert found_in(tmp_path) == ((lines[:4], ReadCounts(lines=4)) if half else ([], ReadCounts()))
    disk.refuses = False
    kept.flush()
    kept.close()
    assert kept.lost == 0
    assert found_in(tmp_path)[0] == lines


def test_a_disk_that_keeps_nothing_is_counted_and_asked_again(tmp_path, monkeypatch):
    def refuses(_file):
        raise OSError(5, "Input/output error")

    kept = Journal(tmp_path, "calls")
    kept.add(b"a")
    kept.flush()
    kept.add(b"b")
    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", refuses)
        kept.flush()
        assert kept.faults >= 1 and kept.age > 0
    kept.flush()
    assert kept.age == 0 and kept.lost == 0
    kept.close()
    assert found_in(tmp_path)[0] == [b"a", b"b"]


def test_no_more_lines_wait_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_WAITING", 5)
    monkeypatch.setattr(journal.os, "write", Refusing())
    kept = Journal(tmp_path, "calls")
    for number in range(12):
        kept.add(b"%d" % number)
    assert kept.lost == 7
    kept.close()
    assert kept.lost == 12


def test_threads_lose_no_line(tmp_path):
    kept = Journal(tmp_path, "calls")
    threads = [
        threading.Thread(target=lambda who=who: [kept.add(b"%d %d" % (who, n)) for n in range(2000)])
        for who in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        kept.rotate()
    kept.close()
    told = found_in(tmp_path)[0]
    for who in range(4):
        assert [line for line in told if line.startswith(b"%d " % who)] == [b"%d %d" % (who, n) for n in range(2000)]
