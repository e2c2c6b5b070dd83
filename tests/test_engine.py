"""Kernels that are used together in one process must not be linked to each other's machine code."""

from callsieve.features.catalogue import FEATURES
from callsieve.features.engine import kernel
from callsieve.features.program import NUMBER


def test_no_function_of_two_kernels_has_the_same_name():
    """Numba names machine code by a function's qualified name and a count that starts anew in each process.

    Kernels that were compiled in two processes, kept on disk and loaded in a third one answered for each other.
    """
    choices = [tuple(feature for feature in FEATURES if feature.role == role) for role in ("caller", "callee")]
    names = []
    for features in choices:
        functions = [value for value in vars(kernel(NUMBER, features, compiled=True)).values() if callable(value)]
        names.append({value.py_func.__qualname__ for value in functions if hasattr(value, "py_func")})
    assert len(names[0]) > 10
    assert not names[0] & names[1]
