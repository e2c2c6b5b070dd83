"""A tree of commands that are loaded when they are used.

A table names the module and the function of each command, so `callsieve serve` loads no module of training, and
`callsieve --help` loads neither pandas nor MLflow. A function is the whole declaration: its parameters are the options,
its docstring is the help and ends with an example. A parameter that has the name of a field of `SharedOptions` is an
option of the root, which may stand anywhere on the line. The tree prints the `Result` that a function returns.
"""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from importlib import import_module
from itertools import islice
from typing import Any, get_type_hints

import typer
from typer.core import TyperGroup

from . import console
from .configuration import add_variables, configuration, options, shared_values
from .options import SHARED, SharedOptions

INTERRUPTED = 130
PACKAGE = "callsieve"
CONTEXT = {"help_option_names": ["-h", "--help"]}
EXTRAS = {
    "anyio": "serve", "msgspec": "serve", "prometheus_client": "serve", "starlette": "serve", "uvicorn": "serve",
    "sqlalchemy": "cases", "pyspark": "spark", "onnx": "onnx", "onnxruntime": "onnx", "psycopg": "postgres",
    "confluent_kafka": "streams", "redis": "streams",
}  # fmt: skip
"""The extra that installs a module; every other module comes with the extra `train`."""


class CommandGroup(TyperGroup):
    """A group that builds a command on first access.

    Attributes:
        path: words of the group; "" for the root.
        table: for each command of the whole tree, such as `audit verify`, its `package.module:function`.
        groups: for each group of the whole tree one line of help.
        panels: for each command of this group the heading of the help above it.
    """

    path = ""
    table: Mapping[str, str] = {}
    groups: Mapping[str, str] = {}
    panels: Mapping[str, str] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the options of the group; the options of the root may stand anywhere on the line."""
        if not self.path:
            args = _root_first(args, options(self))
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names in the order of the table."""
        del ctx
        depth, within = len(self.path.split()), [path for path in self.table if f"{path} ".startswith(self._prefix)]
        return list(dict.fromkeys(path.split()[depth] for path in within))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns the command of this name, or None; loads its module the first time."""
        del ctx
        path = self._prefix + cmd_name
        if cmd_name not in self.commands and (path in self.table or path in self.groups):
            command: Any = self._group(path) if path in self.groups else _command(self.table[path], path)
            command.rich_help_panel = self.panels.get(cmd_name)
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    @property
    def _prefix(self) -> str:
        return f"{self.path} " if self.path else ""

    def _group(self, path: str) -> Any:
        name, help_line = path.rpartition(" ")[2], self.groups[path]
        app = typer.Typer(name=name, help=help_line, cls=CommandGroup, no_args_is_help=True, context_settings=CONTEXT)
        group: Any = typer.main.get_group(app)
        group.path, group.table, group.groups = path, self.table, self.groups
        return group


def tree(app: typer.Typer, panels: Mapping[str, Mapping[str, str]], groups: Mapping[str, str]) -> Any:
    """Returns the root of a tree, with the options that commands share."""
    app.callback()(_declared(lambda **_: None, list(_fields(SharedOptions))))
    root: Any = typer.main.get_command(app)
    root.table = {path: function for rows in panels.values() for path, function in rows.items()}
    root.panels = {path.partition(" ")[0]: panel for panel, rows in panels.items() for path in rows}
    root.groups = groups
    add_variables(root, "")
    return root


def _root_first(args: list[str], known: Mapping[str, Any]) -> list[str]:
    first: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for word in remaining:
        option = known.get(word.partition("=")[0].removeprefix("--")) if word.startswith("--") else None
        (rest if option is None else first).append(word)
        if option is not None and not option.is_flag and "=" not in word:
            first += islice(remaining, 1)
    return first + rest


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each command that is not a group, with its path; loads all commands."""
    if not isinstance(command, CommandGroup):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from commands(command.get_command(None, name), f"{path} {name}".strip())


def _command(row: str, path: str) -> Any:
    module, _, function = row.partition(":")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    name, (call, shared) = path.rpartition(" ")[2], expanded(getattr(import_module(f"{PACKAGE}.{module}"), function))
    epilog = f"Also reads these options of callsieve: {', '.join(SHARED[name] for name in shared)}." if shared else None
    app.command(name, context_settings=CONTEXT, epilog=epilog)(call)
    command = typer.main.get_command(app)
    add_variables(command, path)
    return command


def expanded(function: Callable[..., Any]) -> tuple[Callable[..., None], Mapping[str, Any]]:
    """Returns a function for Typer, and the defaults of the shared options that `function` reads, by name.

    In the parameters of the returned function, fields replace each dataclass, and shared options are left out.
    Commands share options in this way: a dataclass declares them once, and arrives at the function as one value. The
    returned function prints the `Result` of `function`, which declares `json` only to print lines while it works.
    """
    kinds = get_type_hints(function, include_extras=True)
    prints = kinds.pop("return", None) is console.Result
    groups = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and is_dataclass(kind)}
    declared = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            declared += _fields(groups[parameter.name])
        elif parameter.name != "context":
            declared.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kinds[parameter.name]))
    shared = {parameter.name: parameter.default for parameter in declared if parameter.name in SHARED}
    parameters = [parameter for parameter in declared if parameter.name not in SHARED]
    if prints:
        shared.setdefault("json", False)

    @wraps(function)
    def call(context: typer.Context, **values: Any) -> None:
        values |= shared_values(context, shared)
        json = values["json"] if "json" in kinds else values.pop("json", False)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        result = function(**values, **({"context": context} if "context" in kinds else {}))
        if prints:
            result.print(json=json)

    return _declared(call, parameters), shared


def _fields(kind: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )


def _declared(call: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def run(root: Any) -> None:
    """Runs the command line; a fault ends in one line and exit code 1, never in a traceback."""
    try:
        root(default_map=configuration(root))
    except ModuleNotFoundError as error:
        console.fail(_missing(error))
    except OSError as error:
        console.fail(os_fault(error))
    except (ValueError, ImportError) as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except SystemExit as end:  # Typer turns Ctrl-C into this exit code without a message
        if end.code == INTERRUPTED:
            _interrupted()
        raise


def os_fault(error: OSError) -> str:
    """Returns the fault of the operating system in one line: the path, and what is wrong with it.

    >>> os_fault(FileNotFoundError(2, "No such file or directory", "cdr.csv"))
    'cdr.csv: not found'
    """
    if not error.strerror or not isinstance(error.filename, str):
        return str(error)
    words = {
        errno.ENOENT: "not found",
        errno.EISDIR: "it is a folder, expected a file",
        errno.ENOTDIR: "a part of this path is a file, expected a folder",
        errno.EACCES: "this user may not read or write it",
    }
    return f"{error.filename}: {words.get(error.errno or 0, error.strerror)}"


def _missing(error: ModuleNotFoundError) -> str:
    module = (error.name or "").partition(".")[0]
    if module in ("", PACKAGE):
        return str(error)
    return f"the package {module} is not installed: pip install '{PACKAGE}[{EXTRAS.get(module, 'train')}]'"


def _interrupted() -> int:
    console.ERR.print("callsieve: interrupted")
    return INTERRUPTED
