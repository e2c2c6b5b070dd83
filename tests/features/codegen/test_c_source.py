"""Python translated to C has the same results in C, or the translation is refused."""

import ctypes
import math
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.codegen import c_source, compiled_library
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from tests.support.calls.strategies import as_keyed_call, as_keyed_table, histories

# The flags of `setup.py`, without optimisation: results must not depend on the optimiser.
COMPILER = ("cc", "-shared", "-fPIC", "-std=c11", "-O0", "-fwrapv", "-ffp-contract=off")
SOURCE = '''
def divided(a, b):
    return a // b * 3 + a % b if b != 0 else -1

def shifted(a, b):
    left = a << (b & 7)
    left -= a >> (b & 15)
    return left

def bits(a, b):
    return (a & b | ~a) ^ -b

def between(a, b):
    return min(a, b) * 3 - max(a, b)

def larger(a, b):
    return max(float(a), b / 2)

def chosen(a, b):
    if not (a < b <= 7 or a == 3):
        return int(a > 0 and b > 0)
    elif a == 3:
        return math.nan
    return a if bool(a) else b / 4

def counted(a, b):
    """Loops that end early, pass over, and start anew."""
    total = 0
    for i in range(3, 40):
        if i == a:
            break
        if i % 3 == 0:
            continue
        while total < b & 63:
            total += WHOLE[i % 3] + i
        nothing(a)
        pass
    for i in range(b & 3):
        total *= 2
    return total

def nothing(a):
    """Calls to it are left out."""
    return

def looked_up(a, b):
    value = 0
    if a % 2 == 0:
        value = FLOATS[b % 3]
    return value + ONE

def measured(a, b):
    return math.frexp(float(a))[1] + math.sqrt(float(a * a)) + math.floor(b / 3) + math.log2(a * a + 1)
'''
CONSTANTS = {"WHOLE": (1, -2, 9), "FLOATS": (0.5, -2.25, math.nan), "ONE": 1.1}
PART = c_source.part("odd", (), CONSTANTS, SOURCE)
NAMES = [name for name in PART.functions if name != "nothing"]


def compiled(folder, text):
    (folder / "written.c").write_text(text, encoding="utf-8")
    subprocess.run([*COMPILER, "-o", folder / "library", folder / "written.c", "-lm"], check=True)
    return folder / "library"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Returns each function as Python and as C, by name."""
    writer = c_source.Writer()
    for name in NAMES:
        label, kind = writer.function(PART, name, (c_source.INT, c_source.INT))
        writer.lines.append(f"{kind} {name}({c_source.INT} a, {c_source.INT} b) {{ return {label}(a, b); }}")
    library = ctypes.CDLL(str(compiled(tmp_path_factory.mktemp("odd"), "\n".join(writer.lines))))
    in_python = {"math": math, **CONSTANTS}
    exec(SOURCE, in_python)  # noqa: S102 - the text above
    pairs = {}
    for name in NAMES:
        function = library[name]
        function.argtypes = [ctypes.c_int64] * 2
        is_integer = writer.function(PART, name, (c_source.INT, c_source.INT))[1] == c_source.INT
        function.restype = ctypes.c_int64 if is_integer else ctypes.c_double
        pairs[name] = in_python[name], function
    return pairs


@pytest.mark.system
@pytest.mark.parametrize("name", NAMES)
@given(a=st.integers(-9, 9) | st.integers(-(2**26), 2**26), b=st.integers(-9, 9) | st.integers(-(2**26), 2**26))
def test_a_function_returns_the_same_in_c_and_in_python(both, name, a, b):
    in_python, in_c = both[name]
    np.testing.assert_array_equal(in_c(a, b), in_python(a, b))


def test_an_empty_function_is_omitted():
    assert c_source.Writer().function(PART, "nothing", (c_source.INT,)) == ("", c_source.NOTHING)


@pytest.mark.parametrize(
    "line",
    ["x = [1]", "y = lambda: 1", "for i in range(1, 9, 2):\n    pass", "z = abs(n)", "del n", "x = unknown",
     "x = min(n, 1.5)"],
)  # fmt: skip
def test_an_untranslatable_line_is_named_in_the_error(line):
    source = "def odd(n):\n" + "\n".join(f"    {part}" for part in line.split("\n")) + "\n    return n\n"
    part = c_source.part("kernel", (), {}, source)
    with pytest.raises(c_source.Untranslatable, match=r"^kernel\.odd, .* cannot be written in C$"):
        c_source.Writer().function(part, "odd", (c_source.INT,))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The whole kernel as unoptimised C."""
    return compiled_library.Library(compiled(tmp_path_factory.mktemp("kernel"), c_source.source()))


@pytest.mark.system
def test_the_library_has_the_fingerprint_of_the_sources(library):
    assert library.version == compiled_library.fingerprint()


@pytest.mark.system
@given(calls=histories(max_calls=40))
@settings(max_examples=6)
def test_the_unoptimised_kernel_is_bit_equal(library, calls):
    expected = vectors(as_keyed_table(calls), threads=1)
    streams = [History(calls=100, numbers=10)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compiled_library, "library", lambda: library)
        assert vectors(as_keyed_table(calls), threads=1).tobytes() == expected.tobytes()
        streams.append(History(calls=100, numbers=10))
    for call in calls:
        rows = [history.vector(as_keyed_call(call)) for history in streams]
        np.testing.assert_array_equal(*rows)
        for history in streams:
            history.observe(as_keyed_call(call))
