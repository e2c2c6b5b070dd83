"""What holds for every command: its example, its variables, and what a configuration file says of it.

An option goes before its variable, a variable before the file, the file before the default. The variable of
`callsieve score --bundle` is CALLSIEVE_SCORE_BUNDLE; in the file, which is callsieve.toml of the present folder or what
CALLSIEVE_CONFIG names, the same is `bundle` in the table `[score]`; for `audit verify` the table is `[audit.verify]`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from callsieve.features.files.toml_file import read_toml
from callsieve.serving.cli.console import fail
from callsieve.training.cli.examples import EXAMPLES, PANELS

FILE, VARIABLE = "callsieve.toml", "CALLSIEVE_CONFIG"


def whole(app: typer.Typer) -> Any:
    """The command with headings and examples in its helps, and a variable for each option."""
    command: Any = typer.main.get_command(app)
    for panel, names in PANELS.items():
        for name in names:
            command.commands[name].rich_help_panel = panel
    for name, one in commands(command):
        one.epilog = f"Example: callsieve {name} {EXAMPLES[name]}"
        for option in options(one).values():
            variable = "_".join(("callsieve", *name.split(), long_name(option))).replace("-", "_").upper()
            known = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
            option.show_envvar = bool(known)
            option.envvar = [variable, *known]
    return command


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The commands that do something, by their names of one or more words."""
    for word, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {word}".strip())
    if not getattr(command, "commands", None):
        yield name, command


def options(command: Any) -> dict[str, Any]:
    """The options of a command, by their long names without dashes; without --help, which is nobody's setting."""
    return {long_name(one): one for one in command.params if one.param_type_name == "option" and one.name != "help"}


def long_name(option: Any) -> str:
    """The name of an option without dashes."""
    return str(max(option.opts, key=len)).lstrip("-")


def refuse_unused(context: typer.Context, names: Iterable[str], source: str) -> None:
    """End with exit code 2 if one of these options stands on the command line, where it would change nothing.

    Variables and files may name it: they speak of many runs.

    Args:
        names: of options in the code.
        source: the option with which they are not used.
    """
    known = {one.name: f"--{long_name(one)}" for one in options(context.command).values()}
    sources = {name: context.get_parameter_source(name) for name in names}
    typed = [known[name] for name, of in sources.items() if of is not None and of.name == "COMMANDLINE"]
    if typed:
        fail(f"{context.command.name}: {', '.join(typed)}: not used with {source}; expected none of it", code=2)


def configuration(command: Any) -> dict[str, Any]:
    """What the file says, as the command takes its defaults; empty without a file.

    Raises:
        ValueError: in one line, for a file that is no TOML, or a command or option that there is not.
        OSError: if the file that the variable names cannot be read.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or FILE)
    if not named and not path.is_file():
        return {}
    return defaults(command, read_toml(path), str(path), "")


def defaults(command: Any, told: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
    """A table of the file, with options by the names that their values have in the code."""
    known = getattr(command, "commands", None) or options(command)
    found: dict[str, Any] = {}
    for word, value in told.items():
        place = f"{name}.{word}".lstrip(".")
        if word not in known:
            raise ValueError(f"{path}: {place}: expected one of {', '.join(sorted(known))}")
        if getattr(command, "commands", None):
            if not isinstance(value, dict):
                raise ValueError(f"{path}: {place}: expected a table of options")
            found[word] = defaults(known[word], value, path, place)
        elif isinstance(value, dict):
            raise ValueError(f"{path}: {place}: expected a value, got a table")
        else:
            found[known[word].name] = value
    return found
