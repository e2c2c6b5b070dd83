"""Tests of the kernel as C with each of its accesses watched: `python tests/tools/sanitize.py`, or with paths of tests.

The library is built for the compiler's AddressSanitizer and UndefinedBehaviorSanitizer and stands in for the usual one.
What a stream remembers is allocated array by array, so that each has bounds of its own. The first access outside them,
and the first undefined step, end the process with a trace of C; the exit code is otherwise that of pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

OF_THE_KERNEL = (
    "features/stream/test_time_order.py",
    "features/online/test_token_book.py",
    "features/codegen/test_compiled_library.py",
    "features/online/test_snapshot.py",
    "features/online/test_coverage.py",
    "features/kernel/test_windows.py",
)
UNDEFINED = "alignment,bounds,float-cast-overflow,integer-divide-by-zero,null,shift"
WATCHED = (f"-fsanitize=address,{UNDEFINED}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1")
# As in setup.py: integers may wrap.
MEANT = ("-std=c11", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fPIC", "-shared")
GCC = shutil.which("gcc") or "gcc"
FOLDER = "CALLSIEVE_SANITIZED"


def build(folder: Path) -> None:
    """The kernel as C, watched, beside the sources that it is of."""
    as_c = import_module("callsieve.features.codegen.c_source")
    written = folder / "kernel.c"
    written.write_text(as_c.source(), encoding="utf-8")
    subprocess.run([GCC, *WATCHED, *MEANT, "-o", folder / "kernel.library", written, "-lm"], check=True)


def environment(folder: Path) -> dict[str, str]:
    """In which Python loads that library, and the sanitizer before everything else."""
    asked = subprocess.run([GCC, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    # Small arrays have bounds only if Python does not gather them; the interpreter keeps what it has.
    told = {"LD_PRELOAD": asked.stdout.strip(), "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0"}
    return os.environ | told | {FOLDER: str(folder)}


def python() -> list[str]:
    """The command, with memory in the same places each time: sanitizers of some years ago may not start otherwise."""
    fixed = [shutil.which("setarch") or "setarch", "-R"]
    with suppress(OSError):
        if subprocess.run([*fixed, "true"], check=False, capture_output=True).returncode == 0:
            return [*fixed, sys.executable]
    return [sys.executable]


def stand_in() -> None:
    """Have this process run the watched library, on arrays with bounds of their own."""
    native, books = (
        import_module("callsieve.features.codegen.compiled_library"),
        import_module("callsieve.features.codegen.memory_layout"),
    )
    native.FOLDER = Path(os.environ[FOLDER])
    if native.library() is None:
        sys.exit("the library that was built is not taken")
    books.LARGE = sys.maxsize  # what is no page cannot be asked for large ones
    books.allocate = lambda code, size: memoryview(bytearray(max(size, 1) * books.BYTES[code])).cast(code)


def run(paths: list[str]) -> int:
    """The tests."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile("watched", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("watched")
    return pytest.main(
        ["-x", "-q", "-s", "-W", "ignore:Module already", "--noconftest", "-p", "no:cacheprovider", *paths]
    )


def main() -> int:
    """Build, and run the tests in another process."""
    paths = sys.argv[1:] or [str(ROOT / "tests" / name) for name in OF_THE_KERNEL]
    if FOLDER in os.environ:
        stand_in()
        return run(paths)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        command = [*python(), __file__, *paths]
        return subprocess.run(command, env=environment(Path(folder)), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
