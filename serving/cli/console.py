"""Output of commands: text, tables and progress for a person, JSON for a program."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from callsieve.features.files.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")
LONGEST_WORD = 16
FILE_WIDTH = 160  # columns, where standard output is a file
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


PATIENCE = 60.0
"""Processor seconds after which a command without a terminal states how long it will take."""


class RateColumn(ProgressColumn):
    """The share done per minute, averaged over the elapsed time, because the steps of a run differ in size."""

    def render(self, task: Task) -> Text:
        """Returns the rate; empty before the first step is done."""
        if not task.elapsed or not task.completed:
            return Text()
        return Text(f"{60 * 100 * task.completed / task.elapsed:.0f} %/min", style="progress.data.speed")


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows a bar with rate and time left on standard error; yields its callback.

    If that is no terminal, a command that takes long states once how long it will take.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        ProgressBar(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as bar,
        remembered_interrupt() as interrupted,
    ):
        task, began, busy, stated = bar.add_task(title, total=1.0), time.monotonic(), time.process_time(), False

        def show_part(what: str, part: float) -> None:
            nonlocal stated
            if interrupted():
                raise KeyboardInterrupt
            if not (ERR.is_terminal or stated) and part > 0 and time.process_time() - busy > PATIENCE:
                minutes = (time.monotonic() - began) * (1 - part) / part / 60
                note(f"{title}: {part:.0%} done, about {max(1, round(minutes))} min more")
                stated = True
            bar.update(task, description=f"{title}: {what}", completed=part)

        try:
            yield show_part
        except Exception as error:
            if interrupted():  # Ctrl-C in the middle of an import becomes an ImportError
                raise KeyboardInterrupt from error
            raise


@contextmanager
def remembered_interrupt() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C was pressed, even if Python dropped the exception (`__del__`)."""
    pressed: list[int] = []

    def press(number: int, _frame: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a command.

    Attributes:
        value: printed as one JSON object with --json.
        text: printed without --json: a line, several lines, or a function that prints.
        failed: a check failed, so the exit code is 1.
        note: a line for the error stream; "" for none.
    """

    value: Mapping[str, object]
    text: str | Iterable[str] | Callable[[], None]
    failed: bool = False
    note: str = ""

    def print(self, *, json: bool) -> None:
        """Prints the result as JSON or as text, then the note; exits with code 1 if a check failed."""
        if json:
            emit_json(self.value)
        elif callable(self.text):
            self.text()
        else:
            for line in [self.text] if isinstance(self.text, str) else self.text:
                say(line)
        if self.note:
            note(self.note)
        if self.failed:
            sys.exit(1)


def emit_json(value: Mapping[str, object]) -> None:
    """Prints one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def say(text: str) -> None:
    """Prints one line."""
    OUT.print(text, markup=False)


def note(text: str) -> None:
    """Prints one line on the error stream, apart from results."""
    ERR.print(text, markup=False)


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """Prints a table."""
    if not rows:
        say(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    longest = max((len(word) for row in rows for word in row[0].split()), default=0)
    for i, name in enumerate(head):
        # On a narrow screen figures wrap and are never cut, and names wrap between words.
        least = min(longest, LONGEST_WORD) if i == 0 else None
        table.add_column(name, justify="left" if i < texts else "right", overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*row)
    OUT.print(table)


def show_facts(title: str, values: Mapping[str, object]) -> None:
    """Prints names and values, one pair a line."""
    words = {True: "yes", False: "no"}
    shown = [
        (name, words[value] if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in values.items()
    ]
    show_table(title, ("", ""), shown)


def quarantined(counts: Mapping[str, int]) -> list[str]:
    """Returns how many rows were quarantined, one line for each reason."""
    return [f"quarantined: {count:,} rows, {reason}" for reason, count in counts.items()]


def equality(equal: Sequence[str], differences: Sequence[str]) -> list[str]:
    """Returns what a replay reproduced and what differs, one line for each item."""
    return [*(f"equal    {name}" for name in equal), *(f"differs  {name}" for name in differences)]


def fail(message: str, code: int = 1) -> NoReturn:
    """Prints one line on standard error and exits: code 1 for a fault, 2 for wrong usage."""
    ERR.print(f"callsieve: {' '.join(message.split())}", markup=False, style="red")
    raise SystemExit(code)


def private(command: Callable[P, T]) -> Callable[P, T]:
    """Makes a command write files of mode 0600 and folders of mode 0700, because they have tokens of people."""

    @wraps(command)
    def run(*values: P.args, **options: P.kwargs) -> T:
        before = os.umask(0o077)
        try:
            return command(*values, **options)
        finally:
            os.umask(before)

    return run


def new_folder(path: Path) -> Path:
    """Creates a folder if it is missing, and returns it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: expected a new or empty folder; choose another, nothing is overwritten")
    path.mkdir(parents=True, exist_ok=True)
    return path
