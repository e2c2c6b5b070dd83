"""The memory of a history: arrays that take pages only where they are written."""

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


def requested_large_pages(array):
    """Returns whether the mapping in which an array begins has large pages requested."""
    at, inside = ctypes.addressof(ctypes.c_char.from_buffer(array)), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            begin, end = (int(word, 16) for word in first.split("-"))
            inside = begin <= at < end
        elif inside and first == "VmFlags:":
            return "hg" in rest
    raise AssertionError("no mapping contains the array")


def resident_bytes():
    """Returns the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports this")
def test_large_arrays_request_large_pages_and_take_no_memory_before_writes():
    before = resident_bytes()
    large, small, never = allocate("q", LARGE), allocate("i", LARGE // 4 - 1), allocate("q", LARGE)
    ask_for_large_pages([large, small])
    assert resident_bytes() - before < LARGE
    assert [requested_large_pages(array) for array in (large, small, never)] == [LARGE_PAGES, False, False]
    large[LARGE - 1] = 7
    assert (large[0], large[LARGE - 1], small[0], len(small)) == (0, 7, 0, LARGE // 4 - 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports this")
def test_a_large_history_requests_large_pages_also_after_loading(tmp_path, monkeypatch):
    intake = Intake(Key("e1", bytes(32)))
    monkeypatch.setattr(history, "LARGE_PAGES_FROM", 5)
    original = history.History(calls=LARGE // 8, numbers=100)
    assert not requested_large_pages(original._memory["shared"]["calls"])
    for number in range(4):
        original.observe(intake(Call(1775001600.0 + number, f"1380000000{2 * number}", f"1380000000{2 * number + 1}")))
    assert requested_large_pages(original._memory["shared"]["calls"]) == LARGE_PAGES
    original.save(tmp_path / "snapshot")
    loaded = history.History.load(tmp_path / "snapshot")
    assert requested_large_pages(loaded._memory["shared"]["calls"]) == LARGE_PAGES
    assert loaded.numbers == original.numbers == 8
