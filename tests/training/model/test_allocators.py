"""Free memory is released where the C library supports it; elsewhere nothing fails."""

from types import SimpleNamespace

import pytest

from callsieve.training.model import allocators


@pytest.mark.parametrize(("platform", "has", "trimmed"), [("linux", True, 1), ("linux", False, 0), ("darwin", True, 0)])
def test_memory_is_trimmed_where_malloc_trim_exists(monkeypatch, platform, has, trimmed):
    calls = []
    library = SimpleNamespace(malloc_trim=calls.append) if has else SimpleNamespace()
    monkeypatch.setattr(allocators.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(allocators.sys, "platform", platform)
    allocators.give_back()
    assert calls == [0] * trimmed
