"""Where a table of open addressing looks first. A part of the kernel: compiled, or as it stands."""

from __future__ import annotations


def home(wanted: int, mask: int) -> int:
    """The slot of a table of `mask + 1` slots, a power of two, where 64 bits are looked for first."""
    return (wanted ^ wanted >> 29) * 0x9E3779B1 >> 11 & mask
