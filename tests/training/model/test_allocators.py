"""Free memory is released where the C library supports it; elsewhere nothing fails."""

from types import SimpleNamespace

import pytest

from callsieve.training.model import allocators


@pytest.mark.parametrize(("platform", "can", "trimmed"), [("linux", True, 1), ("linux", False, 0), ("darwin", True, 0)])
def test_memory_is_trimmed_where_malloc_trim_exists(monkeypatch, platform, can, trimmed):
    asked = []
    library = SimpleNamespace(malloc_trim=asked.append) if can else SimpleNamespace()
    monkeypatch.setattr(allocators.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(allocators.sys, "platform", platform)
    allocators.give_back()
    assert asked == [0] * trimmed
