"""Tables and streams computed by the interpreted kernel."""

from contextlib import contextmanager

import pytest


@contextmanager
def interpreted_kernel():
    """Patches the loader, so that the kernel runs no machine code."""
    from callsieve.features.codegen import compiled_library

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compiled_library, "library", lambda: None)
        yield
