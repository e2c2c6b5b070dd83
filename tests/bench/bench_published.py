"""Runs a command on a copy of published data, in a folder that is declared for one purpose.

python -m tests.bench.bench_published PURPOSE FILE COMMAND ...   # {} in COMMAND is the copied file

FILE may be a folder. COMMAND is a command of `callsieve`, or the name of a module of `tests`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from callsieve.training.oversight.log.key_folder import VARIABLE

CALLSIEVE = (sys.executable, "-m", "callsieve.training")
DECLARED = ("--source", "published sample", "--basis", "published", "--until", "2100-01-01", "--person", "bench")


def main() -> int:
    """Declares and runs; returns the exit code of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("purpose")
    parser.add_argument("data", type=Path, metavar="FILE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / options.data.name
        (shutil.copytree if options.data.is_dir() else shutil.copy)(options.data, copied)
        copied.chmod(0o700)  # the original may be read-only
        place = copied if copied.is_dir() else folder
        declare = (*CALLSIEVE, "privacy", "declare", place, "--purpose", options.purpose, *DECLARED)
        own_keys = os.environ | {VARIABLE: f"{folder}/keys"}
        subprocess.run(declare, check=True, stdout=subprocess.DEVNULL, env=own_keys)
        words = [word.format(copied) for word in options.command]
        if words[0].startswith("tests."):
            return subprocess.run([sys.executable, "-m", *words], check=False).returncode
        return subprocess.run([*CALLSIEVE, *words], check=False, cwd=folder).returncode  # its outputs are temporary


if __name__ == "__main__":
    sys.exit(main())
