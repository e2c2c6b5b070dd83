"""Kernels that are used together in one process must not be linked to each other's machine code."""

import sys

import numba
import numpy as np
import pytest

from callsieve.features.catalogue import FEATURES
from callsieve.features.codegen import assemble
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.feature_program import NUMBER


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


def test_a_compiled_kernel_without_numba_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"pip install 'callsieve\[train\]'"):
        kernel(NUMBER, FEATURES[:3], compiled=True)


def test_what_will_be_read_is_fetched_ahead():
    fetch = kernel(NUMBER, FEATURES[:3], compiled=True).prefetch
    fetched = numba.njit(lambda array: fetch(array, 3))
    assert fetched(np.arange(8)) is None
    assert "llvm.prefetch" in fetched.inspect_llvm(fetched.signatures[0])


def test_machine_code_is_kept_in_a_folder_of_ones_own_alone(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert assemble._cache_folder("a") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = assemble._cache_folder("a")
    assert found.is_dir() and found.is_relative_to(tmp_path)
    found.chmod(0o777)
    assert assemble._cache_folder("a") is None
