"""The C code stays within its memory in tests and long histories, as sanitizers check at each access.

`python -m tests.tools.sanitize` does the same for more tests.
"""

import subprocess

import pytest

from tests.support.paths import ROOT
from tests.tools import sanitize

BUSY = """
from tests.tools import sanitize
sanitize.use_sanitized_libraries()
from callsieve.features.codegen import memory_layout
from callsieve.features.online.history import History
from callsieve.features.offline.table import vectors
from tests.support.calls.strategies import as_keyed_call, as_keyed_table, busy_calls
calls = busy_calls(10_000)
"""
LOOP = """
for room in ({"calls": 5, "numbers": 3}, {"calls": 700, "numbers": 4}, {"calls": 100_000, "numbers": 100}):
    history = History(**room)
    assert history.compiled
    for call in map(as_keyed_call, calls):
        history.vector(call)
        history.observe(call)
"""
TABLE = BUSY + "vectors(as_keyed_table(calls), threads=2)"
SHORTEN = """
whole = memory_layout.allocate
memory_layout.allocate = lambda code, size: whole(code, size - 1 if size > 64 else size)
"""


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanitized")
    sanitize.build(folder)
    environment = sanitize.environment(folder)

    def run(*arguments):
        command = [*sanitize.python(), *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "tests.tools.sanitize", "tests/serving/bundle/test_contributions.py", "-m", "not system"),
        (
            "-m",
            "tests.tools.sanitize",
            "tests/serving/bundle/test_forest.py",
            "-k",
            "not import and not leak and not fork and not numpy",
        ),
        ("-c", BUSY + LOOP),
        ("-c", TABLE),
    ],
    ids=["contributions", "scores", "stream", "table"],
)
def test_no_access_is_out_of_bounds(sanitized, arguments):
    process = sanitized(*arguments)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]


def test_the_sanitizer_detects_arrays_that_are_one_too_short(sanitized):
    process = sanitized("-c", BUSY + SHORTEN + LOOP)
    assert process.returncode != 0
    assert "AddressSanitizer" in process.stderr
