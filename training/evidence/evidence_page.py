"""EVIDENCE.md: runs the commands of claims and writes their figures, with machine, date and code hash."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import write_atomic
from callsieve.training.oversight.log.key_folder import VARIABLE

from .claim_figures import Figures, Output
from .claims import CLAIMS, WORK, Claim

PAGE = "EVIDENCE.md"
HEAD = """# Evidence

Every figure that the texts of this project state, with the command that gives it. `callsieve evidence` writes this
page; `callsieve evidence --only NAME` runs one claim again. `OUT` is a folder for the output of a command. Figures of
the simulated world are of that world. `code` is the hash of what the command, or its short form on a tiny world,
prints, without times. `callsieve evidence --quick` computes it again and fails where the code now gives something else,
unless the row says `older`: its figures are of an earlier state of the code, and it must run again before a release.

"""
COLUMNS = ("claim", "figures", "command", "machine", "date", "took", "code")
OLDER = "older"  # in place of a code hash: the row awaits its next run
DIGITS = 6  # of a figure in the hash: another processor may round the last ones differently


@dataclass(frozen=True, slots=True)
class Row:
    """One claim of the page: its figures by label, and how, where and when they came about."""

    claim: str
    figures: Figures
    command: str
    machine: str
    date: str
    took: str
    code: str

    @property
    def line(self) -> str:
        """The row in Markdown."""
        figures = "; ".join(f"{label}: {value}" for label, value in self.figures.items())
        cells = (self.claim, figures, f"`{self.command}`", self.machine, self.date, self.took, self.code)
        return f"| {' | '.join(cells)} |"


def run(claim: Claim, root: Path, work: Path, *, quick: bool) -> Row:
    """Runs the command of a claim and returns its row.

    Args:
        root: the project's folder, where the command runs.
        work: folder for the output of commands.
        quick: runs the quick command only.
    Raises:
        ValueError: in one line, if the command fails or its output lacks a figure.
    """
    quick_command = claim.quick or claim.command
    command = quick_command if quick else claim.command
    began = time.monotonic()
    output = run_command(claim.name, command, root, work)
    took = duration(time.monotonic() - began)
    code = ""
    if claim.hashed is not None:
        same = command == quick_command
        code = code_hash(claim.hashed(output if same else run_command(claim.name, quick_command, root, work)))
    shown, date = command.replace(WORK, "OUT"), f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        return Row(claim.name, claim.figures(output), shown, machine(), date, took, code)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{claim.name}: the output lacks a figure: {error!r}") from error


def code_hash(part: Any) -> str:
    """Returns the hash of a part of a command's output."""
    return hashlib.sha256(json.dumps(rounded(part), sort_keys=True).encode()).hexdigest()[:8]


def rounded(value: Any) -> Any:
    """Returns a JSON value with its floats rounded to DIGITS digits.

    >>> rounded({"rate": [1 / 3, 7, "text"]})
    {'rate': [0.333333, 7, 'text']}
    """
    if isinstance(value, Mapping):
        return {str(name): rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def run_command(name: str, command: str, root: Path, work: Path) -> Output:
    """Runs a command with this Python and returns the JSON that it prints."""
    words = [word.replace(WORK, str(work)) for word in command.split()]
    module = ["-m", "callsieve.training"] if words[0] == "callsieve" else []
    keys = {VARIABLE: str(work / "keys")}
    done = subprocess.run(  # noqa: S603 - commands of `claims.py`
        [sys.executable, *module, *words[1:]],
        cwd=root,
        env=os.environ | keys,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{name}: exit code {done.returncode}: {last}")
    try:
        output: Output = json.loads(done.stdout)
    except ValueError:
        raise ValueError(f"{name}: expected JSON on standard output, got {done.stdout[:40]!r}") from None
    return output


def machine() -> str:
    """Returns cores, processor, memory, system and Python version; never the machine's name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores {platform.machine()}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def duration(seconds: float) -> str:
    """Returns the run time of a command in words.

    >>> duration(0.4), duration(75), duration(4000)
    ('under 1 s', '75 s', '67 min')
    """
    if seconds < 1:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def lines_by_claim(page: str) -> dict[str, str]:
    """Returns the table line of each claim on a page."""
    names = {claim.name for claim in CLAIMS}
    lines = {line.strip("| ").partition(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    return {name: line for name, line in lines.items() if name in names}


def outdated(rows: Sequence[Row], page: str) -> list[str]:
    """Returns the claims whose code hash on a page differs from the hash of these rows; rows that say OLDER do not."""
    codes = {name: line.strip("| ").rpartition(" | ")[2] for name, line in lines_by_claim(page).items()}
    return [row.claim for row in rows if row.code and codes.get(row.claim, row.code) not in (row.code, OLDER)]


def write_page(rows: Sequence[Row], path: Path) -> None:
    """Writes the page; lines of claims without new rows stay as they are."""
    lines = lines_by_claim(path.read_text(encoding="utf-8")) if path.exists() else {}
    lines |= {row.claim: row.line for row in rows}
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    table += [lines[claim.name] for claim in CLAIMS if claim.name in lines]
    missing = [claim.name for claim in CLAIMS if claim.name not in lines]
    end = f"\nNot run yet: {', '.join(missing)}.\n" if missing else ""
    write_atomic(path, (HEAD + "\n".join(table) + "\n" + end).encode())
