"""Tables by the kernel's own functions as they stand, in Python: neither Numba's machine code nor C."""

from contextlib import contextmanager

import numpy as np
import pytest


@contextmanager
def interpreted_kernel():
    """Until it ends, `features.table` and `features.buckets` run no machine code; so call them on one thread."""
    from callsieve.features.codegen import assemble
    from callsieve.features.offline import packing, table

    as_it_stands = lambda kind, features, **_: assemble.kernel(kind, features, compiled=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table, "table_kernel", as_it_stands)
        patched.setattr(packing, "kernel", as_it_stands)
        patched.setattr(table, "scratch", widened(table.scratch))
        yield


def widened(scratch):
    """Numba's integers grow to 64 bits in any sum; those of a NumPy array of 32 bits do not, so its room is wider."""
    return lambda *given: tuple(part.astype(np.int64) for part in scratch(*given))
