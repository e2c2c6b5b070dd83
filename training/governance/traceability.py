"""Traces requirements (`sources.toml`) to the code that meets them and to the tests that show it.

A test names its requirements by a mark, `@pytest.mark.source("L12", "P10", by="training/governance/disclosure.py")`.
The marks are read from the text of the tests; no test runs. Each row and file that a mark names must exist, and the
test must not be skipped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml

MARK = "source"
_UNRUN = {"skip", "skipif", "xfail"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A test, the requirement rows that it shows, and the file that meets them."""

    test: str
    rows: tuple[str, ...]
    by: str


def sources() -> dict[str, dict[str, str]]:
    """Returns the requirements by id: `asks`, and either `does` or `out`, the reason why software cannot meet it."""
    return read_toml(files(__package__).joinpath("sources.toml"))


def trace(root: Path) -> dict[str, Any]:
    """Returns every requirement with its files and tests.

    Args:
        root: the source tree, which holds `tests/`.
    Returns: `rows` (id, asks, does or out, files, tests), and `open`: ids of rows without test or reason.
    Raises:
        ValueError: if there are no tests, or a mark names a row or a file that is not there.
    """
    rows = sources()
    found = marks(root)
    for mark in found:
        strange = [row for row in mark.rows if row not in rows]
        if strange or not mark.rows:
            got = ", ".join(strange) or "none"
            raise ValueError(f"{mark.test}: mark {MARK} expects rows of sources.toml, got {got}")
        if not (root / mark.by).is_file():
            raise ValueError(f"{mark.test}: mark {MARK} expects a file of the project, got {mark.by}")
    told = [
        {"row": name, **row}
        | {
            "files": sorted({mark.by for mark in found if name in mark.rows}),
            "tests": [mark.test for mark in found if name in mark.rows],
        }
        for name, row in rows.items()
    ]
    return {"rows": told, "open": [one["row"] for one in told if not one["tests"] and "out" not in one]}


def marks(root: Path) -> list[Mark]:
    """Returns the marks of all tests, in the order of files and lines.

    Raises:
        ValueError: if there is no test, or a mark is not written as it must be.
    """
    paths = sorted((root / "tests").rglob("test_*.py"))
    if not paths:
        raise ValueError(f"{root}: no tests/test_*.py; expected the project's source tree")
    return [mark for path in paths for mark in _marks_in(path, path.relative_to(root).as_posix())]


def _marks_in(path: Path, name: str) -> Iterator[Mark]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = [one for one in map(_pytest_mark, node.decorator_list) if one]
        test = f"{name}::{node.name}"
        for mark, call in given:
            if mark != MARK:
                continue
            if not node.name.startswith("test_") or _UNRUN & {other for other, _ in given}:
                raise ValueError(f"{test}: mark {MARK} belongs on a test that runs")
            yield _mark(test, call)


def _pytest_mark(node: ast.expr) -> tuple[str, ast.Call | None] | None:
    """The name of `pytest.mark.NAME` or `pytest.mark.NAME(...)`, and the call."""
    call = node if isinstance(node, ast.Call) else None
    target = call.func if call else node
    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "pytest.mark":
        return target.attr, call
    return None


def _mark(test: str, call: ast.Call | None) -> Mark:
    try:
        if call is None:
            raise ValueError
        rows = tuple(ast.literal_eval(one) for one in call.args)
        named = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        (by,) = (named.pop("by"),)
        if named or not all(isinstance(one, str) for one in (*rows, by)):
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(f'{test}: mark {MARK} must be {MARK}("ROW", ..., by="FILE"), of plain texts') from None
    return Mark(test, rows, by)
