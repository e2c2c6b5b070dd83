"""Resident memory of an array that maps a file, as Linux reports it."""

import re
import sys
from pathlib import Path

import pytest

linux_alone = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports this")


def resident_bytes_of(mapped):
    """Returns the resident bytes of the mapping in which a mapped array begins."""
    address, inside = mapped.ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(bound, 16) for bound in bounds.groups())
            inside = begin <= address < end
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("expected a mapping at the address of the array")
