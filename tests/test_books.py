"""The memory of a history: arrays that take room only where they are written."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest
from callsieve.features.books import LARGE, room

MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flags(array):
    """What the kernel notes of the memory that an array begins in."""
    at, inside = ctypes.addressof(ctypes.c_char.from_buffer(array)), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            begin, end = (int(word, 16) for word in first.split("-"))
            inside = begin <= at < end
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError("no such memory")


def resident():
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told by Linux alone")
def test_large_arrays_ask_for_large_pages_and_take_no_memory_before_they_are_written():
    before = resident()
    large, small = room("q", LARGE), room("i", LARGE // 4 - 1)
    assert resident() - before < LARGE
    assert len(large) * large.itemsize == 8 * LARGE
    if MODES.exists() and "[never]" not in MODES.read_text():
        assert "hg" in flags(large)
    assert "hg" not in flags(small)
    large[LARGE - 1] = 7
    assert (large[0], large[LARGE - 1], small[0], len(small)) == (0, 7, 0, LARGE // 4 - 1)
