"""The code that made a model: versions of packages, and the hash of this package's own source."""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import phonenumbers  # of the distribution phonenumbers or phonenumberslite

PACKAGES = ("callsieve", "lightgbm", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy")
ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Returns the versions that decide a model's bytes besides data and seed."""
    own = {"phonenumbers": phonenumbers.__version__, "python": platform.python_version(), "source": source_hash()}
    return {name: version(name) for name in PACKAGES} | own


@cache
def source_hash() -> str:
    """Returns the SHA-256 of the names and bytes of the package's Python and data files, computed at the first call.

    A long training calls it first: the files on disk may change before it ends.
    """
    digest = hashlib.sha256()
    for folder in ("features", "serving", "training"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".csv", ".html"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def commit() -> dict[str, str]:
    """Returns the commit and whether the work tree differs from it; empty outside a checkout of callsieve itself.

    An installed package may lie in the checkout of another project, whose commit says nothing about this code.
    """
    try:
        git = ["git", "-C", str(ROOT)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)  # noqa: S603
        if Path(top.stdout.rstrip("\n")).resolve() != ROOT:
            return {}
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": head.stdout.strip(), "dirty": str(bool(dirty.stdout.strip())).lower()}


def command_line(caller: str) -> str:
    """Returns the command that this process runs, if it is `callsieve`; otherwise the caller's name of itself."""
    program, *words = sys.argv
    return without_password(shlex.join(["callsieve", *words])) if Path(program).name == "callsieve" else caller


def without_password(text: str) -> str:
    """Returns a text with user and password taken out of each address.

    >>> without_password("callsieve train --tracking-uri postgresql://me:secret@db/runs")
    'callsieve train --tracking-uri postgresql://db/runs'
    """
    return re.sub(r"://[^/@\s]*@", "://", text)
