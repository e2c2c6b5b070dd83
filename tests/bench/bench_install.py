"""Installs the wheel in a new environment, where the shipped bundle judges a call; measures its size and time.

python -m tests.bench.bench_install [--quick] [--json]

The wheel is built from the sdist, as a packager does. The environment has the packages of `pip install callsieve`.
`--quick` compiles without optimisation: times and the size of the wheel are then of other code.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.harness import parser_of, show
from tests.support.paths import ROOT

IMPORTS = 5
TIMED = """
import time; began = time.perf_counter()
from callsieve.features import Call, History, Intake, Key
from callsieve.serving import Scorer, read_public_key
print(1000 * (time.perf_counter() - began))
"""
JUDGED = """
import json, sys
from callsieve.features import Call, History, Intake, Key
from callsieve.serving import Scorer
scorer = Scorer.load()
call = Intake(Key("e1", bytes(32)))(Call(start=1775001600.0, caller="+86 138 0000 0000", callee="010 1234 5678"))
verdict = scorer.explain(History(), call)
heavy = {"numpy", "pandas", "mlflow", "pyarrow", "scipy", "sklearn", "typer", "anyio"} & set(sys.modules)
print(json.dumps({"action": verdict.action, "status": verdict.status, "reasons": len(verdict.reasons),
                  "heavy": sorted(heavy)}))
"""


def main() -> None:
    """Prints the figures."""
    options = parser_of(__doc__, quick=False, json=False).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), quick=options.quick)
    show(figures, as_json=options.json)


def measured(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Builds and installs the wheel, judges a call, and measures."""
    flags = {"CFLAGS": "-O0"} if quick else {}
    run(sys.executable, "-P", "-m", "build", "--outdir", str(folder / "dist"), str(ROOT), **flags)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    run(sys.executable, "-P", "-m", "venv", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    before = weight(packages)
    run(str(python), "-I", "-m", "pip", "install", "-q", "-c", str(ROOT / "pins.txt"), str(wheel))
    verdict = json.loads(run(str(python), "-I", "-c", JUDGED))
    if verdict["status"] != "filling" or verdict["heavy"]:
        raise SystemExit(f"the base install does not judge a call as it should: {verdict}")
    times = [float(run(str(python), "-I", "-c", TIMED)) for _ in range(IMPORTS)]
    return {
        "megabytes": (weight(packages) - before) / 1e6, "import_milliseconds": statistics.median(times),
        "import_least": min(times), "import_most": max(times), "wheel_kilobytes": wheel.stat().st_size / 1e3,
        "sdist_kilobytes": sdist.stat().st_size / 1e3, "verdict": verdict["action"],
    }  # fmt: skip


def weight(folder: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def run(*words: str, **variables: str) -> str:
    """Runs a command elsewhere and returns its output; exits with the last lines of a failed command.

    Args:
        variables: added to the environment.
    """
    environment = os.environ | variables
    done = subprocess.run(
        words, cwd=tempfile.gettempdir(), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:4])}: {done.stderr[-800:]}")
    return done.stdout


if __name__ == "__main__":
    main()
