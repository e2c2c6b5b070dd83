"""What the command says to a person, and what to a machine."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

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
from rich.progress import (
    Progress as ProgressBar,
)
from rich.table import Table
from rich.text import Text

from callsieve.features.files.progress import Progress

LONGEST_WORD = 16
FILE_WIDTH = 160  # what goes into a file has no width of its own
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """How much of the whole is done a minute, over all the time so far: steps of a run are of unlike sizes."""

    def render(self, task: Task) -> Text:
        """Nothing before the first step is done."""
        if not task.elapsed or not task.completed:
            return Text()
        return Text(f"{60 * 100 * task.completed / task.elapsed:.0f} %/min", style="progress.data.speed")


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A bar with rate and time left on the error stream while it is a terminal; nothing otherwise."""
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
        task = bar.add_task(title, total=1.0)

        def tell(what: str, part: float) -> None:
            if interrupted():
                raise KeyboardInterrupt
            bar.update(task, description=f"{title}: {what}", completed=part)

        try:
            yield tell
        except Exception as error:
            if interrupted():  # in the middle of an import, say, it becomes a fault of what was imported
                raise KeyboardInterrupt from error
            raise


@contextmanager
def remembered_interrupt() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, also where Python throws the exception away, as in `__del__`."""
    pressed: list[int] = []

    def press(number: int, _frame: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def emit_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def say(text: str) -> None:
    """One line for a person."""
    OUT.print(text, markup=False)


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """A small table for a person; the first columns are `texts`, the others figures."""
    if not rows:
        say(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    longest = max((len(word) for row in rows for word in row[0].split()), default=0)
    for i, name in enumerate(head):
        # On a narrow screen figures go on in another line, none is cut off, and no name is broken within a word.
        least = min(longest, LONGEST_WORD) if i == 0 else None
        table.add_column(name, justify="left" if i < texts else "right", overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*row)
    OUT.print(table)


def show_facts(title: str, values: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    shown = ((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in values.items())
    show_table(title, ("", ""), list(shown))


def fail(message: str, code: int = 1) -> NoReturn:
    """One line on the error stream, then an exit code: 1 for a fault, 2 for words that say too little or too much."""
    ERR.print(f"callsieve: {' '.join(message.split())}", markup=False, style="red")
    raise SystemExit(code)


def new_folder(path: Path) -> Path:
    """A folder that this run may fill.

    Raises:
        ValueError: if there is something in it already; a run never overwrites another one's files.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: expected a new or empty folder; nothing is overwritten")
    path.mkdir(parents=True, exist_ok=True)
    return path
