"""Tables computed by the interpreted kernel: without Numba and without C."""

from contextlib import contextmanager

import numpy as np
import pytest


@contextmanager
def interpreted_kernel():
    """Patches `features.table` and `features.buckets` to run no machine code; call them on one thread."""
    from callsieve.features.codegen import assemble
    from callsieve.features.offline import packing, table

    interpreted = lambda kind, features, **_: assemble.kernel(kind, features, compiled=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table, "table_kernel", interpreted)
        patched.setattr(packing, "kernel", interpreted)
        patched.setattr(table, "scratch", widened(table.scratch))
        yield


def widened(scratch):
    """Returns scratch with 64-bit integers: Numba widens in every sum, NumPy arrays of 32 bits overflow."""
    return lambda *arguments: tuple(part.astype(np.int64) for part in scratch(*arguments))
