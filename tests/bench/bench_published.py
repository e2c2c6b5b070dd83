"""A command on published data that nobody declared: copied to a folder declared for one purpose, and read there.

python tests/bench/bench_published.py PURPOSE FILE COMMAND ...   # {} among its words is the copied file

FILE may be a folder. COMMAND is one of `callsieve`, or the path of a script.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CALLSIEVE = (sys.executable, "-m", "callsieve.training")
DECLARED = ("--source", "published sample", "--basis", "published", "--until", "2100-01-01")


def main() -> int:
    """Declare and run; the exit code of the one that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("purpose")
    parser.add_argument("data", type=Path, metavar="FILE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / given.data.name
        (shutil.copytree if given.data.is_dir() else shutil.copy)(given.data, copied)
        copied.chmod(0o700)  # what is copied may be nobody's to write
        place = copied if copied.is_dir() else folder
        declare = (*CALLSIEVE, "privacy", "declare", place, "--purpose", given.purpose, *DECLARED)
        subprocess.run(declare, check=True, stdout=subprocess.DEVNULL)
        words = [word.format(copied) for word in given.command]
        first = (sys.executable,) if words[0].endswith(".py") else CALLSIEVE
        return subprocess.run([*first, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
