"""Runs the command of every stated figure again, and writes EVIDENCE.md with figures, machine, date and code hash.

`python -m tests.tools.evidence` runs all claims of `claims.py`, `... --only demo` one of them. `... --quick` runs each
command on a tiny world and writes nothing; the exit code is 1 if EVIDENCE.md is older than the code.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import write_atomic
from callsieve.training.oversight.log.key_folder import VARIABLE
from tests.tools.claims import CLAIMS, WORK, Claim, Figures, Output

PAGE = "EVIDENCE.md"
COMMAND = "python -m tests.tools.evidence"
HEAD = """# Evidence

Every figure that the texts of this project state, with the command that gives it. `python -m tests.tools.evidence`
writes this page; with `--only NAME` it runs one claim again. `OUT` is a folder for the output of a command. Figures of
the simulated world are of that world. `code` is the hash of what the command, or its short form on a tiny world,
prints, without times. With `--quick` the hash is computed again, and the run fails where the code now gives something
else, unless the row says `older`: its figures are of an earlier state of the code, and it must run again before a
release.

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
    done = completed(command, root, work)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{name}: exit code {done.returncode}: {last}")
    try:
        output: Output = json.loads(done.stdout)
    except ValueError:
        raise ValueError(f"{name}: expected JSON on standard output, got {done.stdout[:40]!r}") from None
    return output


@functools.cache
def completed(command: str, root: Path, work: Path) -> subprocess.CompletedProcess[str]:
    """Returns the completed process of a command. Claims with the same quick command share it."""
    words = [word.replace(WORK, str(work)) for word in command.split()]
    module = ["-m", "callsieve.training"] if words[0] == "callsieve" else []
    return subprocess.run(
        [sys.executable, *module, *words[1:]],
        cwd=root,
        env=os.environ | {VARIABLE: str(work / "keys")},
        capture_output=True,
        text=True,
        check=False,
    )


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the chosen claims and prints their figures.

    Raises:
        SystemExit: 1 if a command fails or a quick run finds an outdated row; 2 for an unknown claim.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder, with its README")
    parser.add_argument("--only", action="append", metavar="NAME", help="claim to run; by default all claims")
    parser.add_argument("--quick", action="store_true", help="run each command on a tiny world, and write nothing")
    parser.add_argument("--work", type=Path, help="folder for the output of commands; by default deleted afterwards")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - {claim.name for claim in CLAIMS}
    if unknown:
        expected = ", ".join(repr(claim.name) for claim in CLAIMS)
        parser.error(f"--only: expected one of {expected}, got {', '.join(sorted(unknown))}")
    if not (options.root / "README.md").exists():
        sys.exit(f"evidence: {options.root / 'README.md'}: expected the folder of the project")
    chosen = [claim for claim in CLAIMS if not options.only or claim.name in options.only]
    if options.quick:
        chosen = [claim for claim in chosen if claim.hashed or claim.quick]  # the others only measure
    runnable = [claim for claim in chosen if not claim.needs or (options.root / claim.needs).exists()]
    try:
        rows = run_claims(runnable, options.root, options.work, quick=options.quick)
    except ValueError as error:
        sys.exit(f"evidence: {error}")
    skipped = [claim.name for claim in chosen if claim not in runnable]
    old = outdated(rows, (options.root / PAGE).read_text(encoding="utf-8")) if options.quick else []
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "skipped": skipped, "outdated": old}, indent=1))
    else:
        for row in rows:
            for label, value in row.figures.items():
                print(f"{row.claim}: {label}: {value}")
        for name in skipped:
            print(f"{name}: not run, its data set is missing")
        for name in old:
            print(f"{name}: {PAGE} is older than the code; run {COMMAND} --only {name!r}")
    if old:
        sys.exit(1)


def run_claims(claims: Sequence[Claim], root: Path, work: Path | None, *, quick: bool) -> list[Row]:
    """Runs the commands of claims one after the other, in a folder that is deleted afterwards unless one is given.

    The page is written after each claim unless the run is quick: a complete run takes hours, and an interrupted one
    keeps its finished claims.

    Raises:
        ValueError: in one line, if a command fails or its output lacks a figure.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        outputs = (work or Path(temporary)).absolute()
        outputs.mkdir(parents=True, exist_ok=True)
        for place, claim in enumerate(claims, 1):
            print(f"{place}/{len(claims)} {claim.name}", file=sys.stderr, flush=True)
            rows.append(run(claim, root, outputs, quick=quick))
            if not quick:
                write_page(rows, root / PAGE)
    return rows


if __name__ == "__main__":
    main()
