"""Defaults of options from environment variables and from a configuration file.

An option overrides its variable, a variable overrides the file, and the file overrides the default. The variable of
`callsieve score --bundle` is CALLSIEVE_SCORE_BUNDLE. The file is callsieve.toml in the current folder, or the file that
CALLSIEVE_CONFIG names; there the same option is `bundle` in the table `[score]`. For `audit verify` the table is
`[audit.verify]`. An option of the root, such as `threads`, is in no table; its variable is CALLSIEVE_THREADS.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from callsieve.features.files.toml_file import read_toml

from .console import fail
from .options import SHARED

FILE, VARIABLE = "callsieve.toml", "CALLSIEVE_CONFIG"


def options(command: Any) -> dict[str, Any]:
    """Returns the options of a command by their long names without dashes, but for those that print and exit."""
    listed = [option for option in command.params if option.param_type_name == "option" and not option.is_eager]
    return {long_name(option): option for option in listed}


def long_name(option: Any) -> str:
    """Returns the long name of an option without dashes."""
    return str(max(option.opts, key=len)).lstrip("-")


def add_variables(command: Any, path: str) -> None:
    """Gives each option of a command its environment variable, after the variable that it declares itself."""
    for option in options(command).values():
        variable = "_".join(("callsieve", *path.split(), long_name(option))).replace("-", "_").upper()
        declared = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        option.show_envvar = bool(declared)
        option.envvar = [variable, *declared]


def refuse_unused(context: typer.Context, names: Iterable[str], condition: str) -> None:
    """Ends with exit code 2 if the command line has one of these options, which would have no effect.

    Environment variables and the file may set them, because they serve many commands.
    """
    scopes = (context.find_root(), context)
    written = {option.name: f"--{word}" for scope in scopes for word, option in options(scope.command).items()}
    sources = ((name, scope.get_parameter_source(name)) for name in names for scope in scopes)
    typed = [written[name] for name, source in sources if source is not None and source.name == "COMMANDLINE"]
    if typed:
        fail(f"{context.command.name}: {', '.join(typed)}: not used with {condition}; leave it out", code=2)


def shared_values(context: typer.Context, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the options of the root that a command reads.

    Ends with exit code 2 if the line has another option of the root, or lacks one that has no default.
    """
    shared = context.find_root().params
    refuse_unused(context, (name for name in SHARED if name not in defaults), "this command")
    values = {name: default if shared[name] is None else shared[name] for name, default in defaults.items()}
    for name, value in values.items():
        if value is inspect.Parameter.empty:
            context.fail(f"Missing option '{SHARED[name]}'.")
    return values


def configuration(root: Any) -> dict[str, object]:
    """Returns the defaults that the configuration file sets, in the form of click's `default_map`.

    Without a file it returns an empty dict.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or FILE)
    if not named and not path.is_file():
        return {}
    return _defaults(root, read_toml(path), str(path), "")


def _defaults(command: Any, table: Mapping[str, object], path: str, place: str) -> dict[str, object]:
    """Returns the defaults of one table of the file, under the names that parameters have in the code."""
    listed = options(command)
    groups = command.list_commands(None) if hasattr(command, "list_commands") else []
    defaults: dict[str, object] = {}
    for word, value in table.items():
        here = f"{place}.{word}".lstrip(".")
        if word not in (*groups, *listed):
            raise ValueError(f"{path}: {here}: expected one of {', '.join(sorted({*groups, *listed}))}")
        if word in groups and isinstance(value, dict):
            defaults[word] = _defaults(command.get_command(None, word), value, path, here)
        elif word not in listed:
            raise ValueError(f"{path}: {here}: expected a table of options")
        elif isinstance(value, dict):
            raise ValueError(f"{path}: {here}: expected a value, got a table")
        else:
            defaults[listed[word].name] = value
    return defaults
