"""Traces requirements (`sources.toml`) to the code that meets them, to the tests that verify them, and to mutants.

A test names its requirements in a mark, `@pytest.mark.source("L12", by="training/oversight/governance/disclosure.py")`.
The marks are read from the text of the tests; no test runs. Each row and file that a mark names must exist, and the
test must not be skipped. A mutant (`mutants.toml`) is a small patch that takes away a capability that a requirement
asks for: a test of the requirement must fail under it. `teeth.py` runs the mutants.

`python -m tests.tools.traceability` lists each requirement with its files, tests and mutants; the exit code is 1 if a
requirement has none.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml

MUTANTS = Path("tests/tools/mutants.toml")
MARK = "source"
_UNRUN = {"skip", "skipif", "xfail"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A test, the requirement rows that it verifies, and the file that meets them."""

    test: str
    rows: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A patch that replaces one text of a file.

    Attributes:
        name: the capability that is lost, as a sentence.
        rows: the requirements (of `sources.toml`) that the code no longer meets.
        file: the patched file, relative to the source tree.
        old: a text that occurs exactly once in the file.
        new: the text in its place.
    """

    name: str
    rows: tuple[str, ...]
    file: str
    old: str
    new: str

    def patched(self, text: str) -> str:
        """Returns the text of the file with the patch.

        Raises:
            ValueError: if `old` does not occur exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{MUTANTS}, {self.name!r}: `old` must occur exactly once in {self.file}, got {count}")
        return text.replace(self.old, self.new)


def sources() -> dict[str, dict[str, str]]:
    """Returns the requirements by id: `asks`, and either `does` or `out` (why it is out of scope)."""
    return read_toml(Path(__file__).with_name("sources.toml"))


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


def read_mutants(root: Path) -> list[Mutant]:
    """Returns the mutants of a source tree, in the order of the file; none without the file.

    Raises:
        ValueError: if the file is not valid TOML, or an entry lacks a key, has an unknown one or one of another type.
    """
    path = root / MUTANTS
    return [_mutant(name, table) for name, table in read_toml(path, MUTANTS).items()] if path.exists() else []


def _mutant(name: str, table: Any) -> Mutant:
    try:
        rows, file, old, new = (table.pop(key) for key in ("rows", "file", "old", "new"))
        if table or not rows or not all(isinstance(text, str) for text in (*rows, file, old, new)):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{MUTANTS}, {name!r}: expected rows (a list of requirements), file, old and new") from None
    return Mutant(name, tuple(rows), file, old, new)


def main(arguments: Sequence[str] | None = None) -> None:
    """Lists the requirements.

    Raises:
        SystemExit: 1 if a requirement has no test or no mutant, or a mark or mutant is invalid.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="the project's source tree, with its tests")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args(arguments)
    try:
        result = trace(options.root)
    except ValueError as error:
        sys.exit(f"traceability: {error}")
    if options.json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        for row in result["rows"]:
            print(f"{row['row']:<4} {row['asks']}")
            for line in (row.get("out") or ", ".join(row["files"]) or "OPEN", *row["tests"]):
                print(f"     {line}")
            for line in row["mutants"]:
                print(f"     mutant: {line}")
        print(
            f"{len(result['rows'])} rows, {len(result['open'])} open: {', '.join(result['open']) or 'none'}; "
            f"{len(result['toothless'])} without a mutant: {', '.join(result['toothless']) or 'none'}"
        )
    if result["open"] or result["toothless"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
