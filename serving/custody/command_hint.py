"""The `callsieve` command that a message names as the next step."""

from __future__ import annotations

from importlib.util import find_spec


def command(words: str) -> str:
    """Returns `callsieve WORDS`. The base install has no command: there the text also says what installs it.

    >>> command("privacy declare calls")
    'callsieve privacy declare calls'
    """
    text = f"callsieve {words}"
    return text if find_spec("typer") else f"{text} (a command of pip install 'callsieve[train]')"
