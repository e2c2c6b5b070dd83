"""EVIDENCE.md: what was run, what came of it, and the same figures in the texts that state them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callsieve.features.files.folders import write_whole

from .claims import CLAIMS, WORK, Claim, Statement

PAGE = "EVIDENCE.md"
HEAD = """# Evidence

Every figure that the texts of this project state, with the command that gives it. `callsieve evidence` writes this page
and brings the texts up to date; `callsieve evidence --only NAME` runs one again. `OUT` is a folder for what a command
writes. Figures of the simulated world are of that world. `code` is the hash of what the command, or its short form on a
tiny world, gives apart from times: `callsieve evidence --quick` makes it anew and fails where the code has come to give
something else since, so that no figure here is older than the code that it speaks of.

"""
COLUMNS = ("claim", "what is stated", "interval or bound", "command", "machine", "date", "took", "code")
DIGITS = 6  # of a figure in the hash: another processor may round the last ones in another way


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page; all text."""

    claim: str
    said: str
    interval: str
    command: str
    machine: str
    date: str
    took: str
    code: str

    @property
    def line(self) -> str:
        """As it stands in the table."""
        cells = (
            self.claim, self.said, self.interval, f"`{self.command}`", self.machine, self.date, self.took, self.code,
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def run(claim: Claim, root: Path, work: Path, *, quick: bool) -> list[Row]:
    """Run the command of a claim and put its figures into words.

    Raises:
        ValueError: in one line, if the command fails or does not tell a figure.
    """
    words = claim.quick if quick and claim.quick else claim.command
    began = time.monotonic()
    told = output(claim.name, words, root, work)
    took = duration(time.monotonic() - began)
    code = mark(claim, output(claim.name, claim.quick, root, work) if claim.quick and not quick else told)
    shown = " ".join(words).replace(WORK, "OUT")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    rows = []
    for statement in claim.statements:
        try:
            said, interval = statement.said(told)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{claim.name}: no figure for {statement.text!r}: {error!r}") from error
        rows.append(Row(claim.name, said, interval, shown, machine(), date, took, code))
    return rows


def mark(claim: Claim, told: Mapping[str, Any]) -> str:
    """Hash of what follows from the code alone; "" where nothing does."""
    found = claim.of_code(told)
    return hashlib.sha256(json.dumps(rounded(found), sort_keys=True).encode()).hexdigest()[:8] if found else ""


def rounded(value: Any) -> Any:
    """The same with figures of few digits.

    >>> rounded({"rate": [1 / 3, 7, "text"]})
    {'rate': [0.333333, 7, 'text']}
    """
    if isinstance(value, Mapping):
        return {str(name): rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def outdated(rows: Sequence[Row], page: str) -> list[str]:
    """Claims whose figures on a page are of other code than these rows, or of code that nobody noted."""
    found = {name: line.strip("| ").rpartition(" | ")[2] for name, (line, *_) in kept(page).items()}
    marks = {row.claim: row.code for row in rows if row.code}
    return [name for name, code in marks.items() if name in found and found[name] != code]


def output(name: str, words: Sequence[str], root: Path, work: Path) -> Mapping[str, Any]:
    """What a command prints as JSON."""
    words = [word.replace(WORK, str(work)) for word in words]
    first = ["-m", "callsieve.training"] if words[0] == "callsieve" else []
    done = subprocess.run(  # noqa: S603 - commands of `claims.py`
        [sys.executable, *first, *words[1:]], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{name}: exit code {done.returncode}: {last}")
    try:
        told: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ValueError(f"{name}: expected JSON on standard output, got {done.stdout[:40]!r}") from None
    return told


def machine() -> str:
    """Cores, processor, memory, system and Python; never its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores {platform.machine()}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def duration(seconds: float) -> str:
    """A time that a command took, as people say it.

    >>> duration(0.4), duration(75), duration(4000)
    ('under 1 s', '75 s', '67 min')
    """
    if seconds < 1:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def kept(page: str) -> dict[str, list[str]]:
    """The lines of a page by claim."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        name = line.strip("| ").partition(" | ")[0]
        if line.startswith("| ") and name in {claim.name for claim in CLAIMS}:
            found.setdefault(name, []).append(line)
    return found


def write_page(rows: Sequence[Row], path: Path) -> None:
    """Write the page; the lines of claims that were not run now stay as they are."""
    lines = kept(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in {row.claim for row in rows}:
        lines[name] = [row.line for row in rows if row.claim == name]
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    table += [line for claim in CLAIMS for line in lines.get(claim.name, ())]
    missing = [claim.name for claim in CLAIMS if claim.name not in lines]
    end = f"\nNot run yet: {', '.join(missing)}.\n" if missing else ""
    write_whole(path, (HEAD + "\n".join(table) + "\n" + end).encode())


def update_texts(claims: Sequence[Claim], rows: Sequence[Row], root: Path) -> list[str]:
    """Put the figures into the texts that state them; the names of those that changed."""
    changed = []
    said = {(row.claim, row.said) for row in rows}
    texts = sorted({name for claim in claims for one in claim.statements for name in one.where})
    for name in texts:
        path = root / name
        text = before = path.read_text(encoding="utf-8")
        for claim in claims:
            for statement in claim.statements:
                now = next((one for who, one in said if who == claim.name and statement.pattern.fullmatch(one)), None)
                if name in statement.where and now is not None:
                    text = with_figures(text, statement, now)
        if text != before:
            write_whole(path, text.encode())
            changed.append(name)
    return changed


def with_figures(text: str, statement: Statement, said: str) -> str:
    """A text with the figures of one statement in the place of its own.

    >>> told = Statement("{a} of {b} calls", lambda told: told)
    >>> with_figures("so 1 of 2\\ncalls.", told, "0 of 1,000 calls")
    'so 0 of 1,000\\ncalls.'
    """
    now = statement.pattern.fullmatch(said)
    if now is None:
        raise ValueError(f"{said!r}: expected {statement.text!r}")
    figures = now.groups()

    def put(found: re.Match[str]) -> str:
        whole, at = found.group(), found.start()
        for place in range(len(figures), 0, -1):
            begin, end = found.span(place)
            whole = whole[: begin - at] + figures[place - 1] + whole[end - at :]
        return whole

    return statement.pattern.sub(put, text)
