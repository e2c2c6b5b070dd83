"""Runs tests of the C code with checked memory accesses: `python -m tests.tools.sanitize`, or with paths of tests.

The libraries of kernel and forest are built with AddressSanitizer and UndefinedBehaviorSanitizer and replace the usual
ones. Their arrays are allocated one by one, so that each has separate bounds. The first access out of bounds, or the
first undefined operation, ends the process with a C trace. Otherwise the exit code is that of pytest. Arrow's own code
is not checked: `test_null_indices.py` tests what readers hand to it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from tests.support.paths import ROOT

TESTS = (
    "features/stream/test_time_order.py", "features/online/test_driver.py", "features/codegen/test_compiled_library.py",
    "features/online/test_snapshot.py", "features/online/test_coverage.py", "features/kernel/test_windows.py",
    "features/offline/test_null_indices.py", "features/offline/test_packing.py", "serving/bundle/test_forest.py",
    "serving/bundle/test_forest_layout.py", "serving/bundle/test_contributions.py",
)  # fmt: skip
UNDEFINED = "alignment,bounds,float-cast-overflow,integer-divide-by-zero,null,shift"
NO_RECOVERY = "-fno-sanitize-recover=all"
SANITIZER_FLAGS = (f"-fsanitize=address,{UNDEFINED}", NO_RECOVERY, "-fno-omit-frame-pointer", "-O0", "-g1")
# As in setup.py: integers may wrap.
BUILD_FLAGS = ("-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")
GCC = shutil.which("gcc") or "gcc"
FOLDER = "CALLSIEVE_SANITIZED"
FOREST = "callsieve.serving.bundle.forest"


def build(folder: Path) -> None:
    """Builds the sanitized libraries in a folder."""
    kernel_source, forest_library = map(import_module, ("callsieve.features.codegen.c_source", FOREST + "_library"))
    kernel = folder / "kernel.c"
    kernel.write_text(kernel_source.source(), encoding="utf-8")
    version = f"-DFOREST_VERSION={forest_library.fingerprint()}ULL"
    for name, source in (("kernel", kernel), ("forest", ROOT / "serving/bundle/forest.c")):
        command = [GCC, *SANITIZER_FLAGS, *BUILD_FLAGS, version, "-o", folder / f"{name}.library", source, "-lm"]
        subprocess.run(command, check=True)


def environment(folder: Path) -> dict[str, str]:
    """Returns the environment in which Python loads that library, and the sanitizer first."""
    query = subprocess.run([GCC, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    # With malloc alone, small arrays have separate bounds; the interpreter itself leaks on purpose.
    settings = {"LD_PRELOAD": query.stdout.strip(), "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0"}
    settings["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    return os.environ | settings | {FOLDER: str(folder)}


def python() -> list[str]:
    """Returns the command for Python without address randomisation, with which old sanitizers may fail to start."""
    command = [shutil.which("setarch") or "setarch", "-R"]
    with suppress(OSError):
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return [*command, sys.executable]
    return [sys.executable]


def use_sanitized_libraries() -> None:
    """Makes this process use the sanitized libraries, and allocates arrays with separate bounds."""
    codegen = "callsieve.features.codegen"
    compiled_library, memory_layout = (import_module(f"{codegen}.{n}") for n in ("compiled_library", "memory_layout"))
    forest, forest_layout, forest_library = map(import_module, (FOREST, FOREST + "_layout", FOREST + "_library"))
    compiled_library.FOLDER = forest_library.FOLDER = Path(os.environ[FOLDER])
    if compiled_library.library() is None or forest_library.library() is None:
        sys.exit("a sanitized library was not loaded; its fingerprint differs from the sources")
    exact, address = [], forest.address  # copies without the spare room of arrays that grew; they live for ever
    forest.address = forest_layout.address = lambda values: exact.append(values[:]) or address(exact[-1])
    memory_layout.LARGE = sys.maxsize  # bytearrays cannot request large pages
    empty = lambda code, size: bytearray(max(size, 1) * memory_layout.BYTES[code])
    memory_layout.allocate = lambda code, size: memoryview(empty(code, size)).cast(code)


def run(paths: list[str]) -> int:
    """Runs the tests."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile("sanitized", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("sanitized")
    options = ("-x", "-q", "-s", "-W", "ignore:Module already", "--noconftest", "-p", "no:cacheprovider")
    return pytest.main([*options, *paths])


def main() -> int:
    """Builds the libraries, and runs the tests in another process."""
    paths = sys.argv[1:] or [str(ROOT / "tests" / name) for name in TESTS]
    if FOLDER in os.environ:
        use_sanitized_libraries()
        return run(paths)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        command = [*python(), "-m", "tests.tools.sanitize", *paths]
        return subprocess.run(command, env=environment(Path(folder)), cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
