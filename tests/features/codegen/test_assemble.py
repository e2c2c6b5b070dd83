"""Kernels in one process must not be linked to each other's machine code."""

import sys

import numba
import numpy as np
import pytest

from callsieve.features.catalogue import FEATURES
from callsieve.features.codegen import assemble
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.feature_program import NUMBER


def test_functions_of_two_kernels_have_different_names():
    """Numba names machine code by a function's qualified name and a counter that starts at zero in each process.

    Regression: kernels compiled in two processes, cached and loaded in a third, called each other's functions.
    """
    choices = [tuple(feature for feature in FEATURES if feature.role == role) for role in ("caller", "callee")]
    names = []
    for features in choices:
        functions = [value for value in vars(kernel(NUMBER, features, compiled=True)).values() if callable(value)]
        names.append({value.py_func.__qualname__ for value in functions if hasattr(value, "py_func")})
    assert len(names[0]) > 10
    assert not names[0] & names[1]


def test_missing_numba_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"pip install 'callsieve\[train\]'"):
        kernel(NUMBER, FEATURES[:3], compiled=True)


def test_prefetch_compiles_to_a_prefetch_instruction():
    fetch = kernel(NUMBER, FEATURES[:3], compiled=True).prefetch
    fetched = numba.njit(lambda array: fetch(array, 3))
    assert fetched(np.arange(8)) is None
    assert "llvm.prefetch" in fetched.inspect_llvm(fetched.signatures[0])


def test_machine_code_is_cached_only_in_a_folder_of_the_user(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert assemble._cache_folder("a") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = assemble._cache_folder("a")
    assert folder.is_dir() and folder.is_relative_to(tmp_path)
    folder.chmod(0o777)
    assert assemble._cache_folder("a") is None
