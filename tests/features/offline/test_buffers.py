"""Buffers: an array is lent to one task at a time, and to the next one after it."""

import numpy as np
import pytest

from callsieve.features.offline.buffers import Buffers


def test_an_array_is_reused_after_its_block_only():
    buffers = Buffers()
    with buffers.lend("vectors", 3, 2) as first, buffers.lend("vectors", 3, 2) as second:
        assert first.shape == second.shape == (3, 2)
        assert not np.shares_memory(first, second)
    with buffers.lend("columns", 2, 2) as other, buffers.lend("vectors", 2, 3) as again:
        assert again.shape == (2, 3)
        assert np.shares_memory(again, first) != np.shares_memory(again, second)
        assert not np.shares_memory(again, other)


def test_a_larger_array_is_new_and_a_failed_task_leaves_none():
    buffers = Buffers()
    with buffers.lend("vectors", 1, 1) as small:
        pass
    with buffers.lend("vectors", 100, 2) as large:
        assert large.shape == (100, 2)
        assert not np.shares_memory(small, large)
    with pytest.raises(ValueError, match="broken"), buffers.lend("vectors", 100, 2) as failed:
        raise ValueError("broken")
    with buffers.lend("vectors", 100, 2) as fresh:
        assert not np.shares_memory(failed, fresh)


def test_no_array_is_reused_after_clear():
    buffers = Buffers()
    with buffers.lend("vectors", 4, 4) as before:
        pass
    buffers.clear()
    with buffers.lend("vectors", 4, 4) as after:
        assert not np.shares_memory(before, after)
