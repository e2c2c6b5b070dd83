"""What a bundle makes of the calls of four real subscribers: a copy of the file is declared, and scored.

python tests/bench/bench_subscribers.py CALLS.csv BUNDLE [--json]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CALLSIEVE = (sys.executable, "-m", "callsieve.training")
DECLARED = ("--source", "published sample", "--basis", "published", "--purpose", "scoring", "--until", "2100-01-01")


def main() -> int:
    """Declare and score; the exit code of the one that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copy(given.calls, folder)
        subprocess.run([*CALLSIEVE, "dataset", "declare", folder, *DECLARED], check=True, stdout=subprocess.DEVNULL)
        score = [*CALLSIEVE, "score", "--layout", "sichuan", "--calls", copied, "--bundle", str(given.bundle)]
        return subprocess.run([*score, *(["--json"] if given.json else [])], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
