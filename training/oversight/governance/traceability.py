"""Traces requirements (`sources.toml`) to the code that meets them, to the tests that verify them, and to mutants.

A test names its requirements in a mark, `@pytest.mark.source("L12", by="training/oversight/governance/disclosure.py")`.
The marks are read from the text of the tests; no test runs. Each row and file that a mark names must exist, and the
test must not be skipped. A mutant (`mutants.py`) is a patch under which a test of the requirement must fail.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml

from .mutants import MUTANTS, Mutant, read_mutants

MARK = "source"
_UNRUN = {"skip", "skipif", "xfail"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A test, the requirement rows that it verifies, and the file that meets them."""

    test: str
    rows: tuple[str, ...]
    by: str


def sources() -> dict[str, dict[str, str]]:
    """Returns the requirements by id: `asks`, and either `does` or `out` (why it is out of scope)."""
    return read_toml(files(__package__).joinpath("sources.toml"))


def trace(root: Path) -> dict[str, Any]:
    """Returns every requirement with its files and tests.

    Args:
        root: the source tree, which holds `tests/`.
    Returns: `rows` (id, asks, does or out, files, tests, mutants), `open`: ids of rows without test or reason, and
        `toothless`: ids of rows with a test, but without a mutant.
    Raises:
        ValueError: if there are no tests, a mark or mutant names an unknown row or a missing file, or the text that a
            mutant replaces does not occur exactly once.
    """
    rows = sources()
    all_marks = marks(root)
    for mark in all_marks:
        unknown = [row for row in mark.rows if row not in rows]
        if unknown or not mark.rows:
            got = ", ".join(unknown) or "none"
            raise ValueError(f"{mark.test}: mark {MARK} expects rows of sources.toml, got {got}")
        if not (root / mark.by).is_file():
            raise ValueError(f"{mark.test}: mark {MARK} expects a file of the project, got {mark.by}")
    mutants = read_mutants(root)
    for mutant in mutants:
        _check_mutant(mutant, rows, root)
    result = [
        {"row": name, **row}
        | {
            "files": sorted({mark.by for mark in all_marks if name in mark.rows}),
            "tests": [mark.test for mark in all_marks if name in mark.rows],
            "mutants": [mutant.name for mutant in mutants if name in mutant.rows],
        }
        for name, row in rows.items()
    ]
    return {
        "rows": result,
        "open": [row["row"] for row in result if not row["tests"] and "out" not in row],
        "toothless": [row["row"] for row in result if row["tests"] and not row["mutants"]],
    }


def _check_mutant(mutant: Mutant, rows: Mapping[str, Mapping[str, str]], root: Path) -> None:
    unknown = [row for row in mutant.rows if row not in rows]
    if unknown:
        raise ValueError(f"{MUTANTS}, {mutant.name!r}: expected rows of sources.toml, got {', '.join(unknown)}")
    if not (root / mutant.file).is_file():
        raise ValueError(f"{MUTANTS}, {mutant.name!r}: expected a file of the project, got {mutant.file}")
    mutant.patched((root / mutant.file).read_text(encoding="utf-8"))


def marks(root: Path) -> list[Mark]:
    """Returns the marks of all tests, in the order of files and lines.

    Raises:
        ValueError: if there is no test, or a mark is malformed.
    """
    paths = sorted((root / "tests").rglob("test_*.py"))
    if not paths:
        raise ValueError(f"{root}: no tests/test_*.py; expected the project's source tree")
    return [mark for path in paths for mark in _marks_in(path, path.relative_to(root).as_posix())]


def _marks_in(path: Path, name: str) -> Iterator[Mark]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        decorators = [mark for mark in map(_pytest_mark, node.decorator_list) if mark]
        test = f"{name}::{node.name}"
        for mark, call in decorators:
            if mark != MARK:
                continue
            if not node.name.startswith("test_") or _UNRUN & {other for other, _ in decorators}:
                raise ValueError(f"{test}: mark {MARK} must be on a test that runs, not on a skipped test or a helper")
            yield _mark(test, call)


def _pytest_mark(node: ast.expr) -> tuple[str, ast.Call | None] | None:
    """Returns the name of `pytest.mark.NAME` or `pytest.mark.NAME(...)`, and the call; None for other decorators."""
    call = node if isinstance(node, ast.Call) else None
    target = call.func if call else node
    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "pytest.mark":
        return target.attr, call
    return None


def _mark(test: str, call: ast.Call | None) -> Mark:
    try:
        if call is None:
            raise ValueError
        rows = tuple(ast.literal_eval(argument) for argument in call.args)
        options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        by = options.pop("by")
        if options or not all(isinstance(text, str) for text in (*rows, by)):
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(f'{test}: mark {MARK} must be {MARK}("ROW", ..., by="FILE"), with string literals') from None
    return Mark(test, rows, by)
