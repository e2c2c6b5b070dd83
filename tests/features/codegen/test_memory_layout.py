"""The memory of a history: arrays that take room only where they are written."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest

from callsieve.features import Call, Intake, Key
from callsieve.features.codegen.memory_layout import LARGE, allocate, ask_for_large_pages
from callsieve.features.online import history

MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE_PAGES = MODES.exists() and "[never]" not in MODES.read_text()


def asked(array):
    """Whether the kernel has noted that the memory that an array begins in shall have large pages."""
    at, inside = ctypes.addressof(ctypes.c_char.from_buffer(array)), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            begin, end = (int(word, 16) for word in first.split("-"))
            inside = begin <= at < end
        elif inside and first == "VmFlags:":
            return "hg" in rest
    raise AssertionError("no such memory")


def resident():
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by Linux alone")
def test_large_arrays_ask_for_large_pages_and_take_no_memory_before_they_are_written():
    before = resident()
    large, small, never = allocate("q", LARGE), allocate("i", LARGE // 4 - 1), allocate("q", LARGE)
    ask_for_large_pages([large, small])
    assert resident() - before < LARGE
    assert [asked(each) for each in (large, small, never)] == [LARGE_PAGES, False, False]
    large[LARGE - 1] = 7
    assert (large[0], large[LARGE - 1], small[0], len(small)) == (0, 7, 0, LARGE // 4 - 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by Linux alone")
def test_a_history_of_many_numbers_asks_for_large_pages_and_so_does_its_snapshot(tmp_path, monkeypatch):
    intake = Intake(Key("e1", bytes(32)))
    monkeypatch.setattr(history, "MANY", 5)
    held = history.History(calls=LARGE // 8, numbers=100)
    assert not asked(held._memory["shared"]["calls"])
    for number in range(4):
        held.observe(intake(Call(1775001600.0 + number, f"1380000000{2 * number}", f"1380000000{2 * number + 1}")))
    assert asked(held._memory["shared"]["calls"]) == LARGE_PAGES
    held.save(tmp_path / "snapshot")
    again = history.History.load(tmp_path / "snapshot")
    assert asked(again._memory["shared"]["calls"]) == LARGE_PAGES
    assert again.numbers == held.numbers == 8
