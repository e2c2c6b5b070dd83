"""Examples in docstrings run, and everything public has a docstring."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

PACKAGES = ("callsieve.features", "callsieve.serving", "callsieve.training")


def module_names():
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield name
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{name}."))


MODULES = tuple(module_names())


def tree(name):
    return ast.parse(Path(importlib.import_module(name).__file__).read_text(encoding="utf-8"))


def undocumented(node, path):
    """Dotted names of public functions, classes and methods without a docstring."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        if not ast.get_docstring(child):
            yield f"{path}.{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{path}.{child.name}")


def test_all_folders_are_walked():
    assert {"callsieve.features.catalogue", "callsieve.serving.scorer", "callsieve.training.world.world"} <= set(
        MODULES
    )


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = {
        name for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples
    }  # fmt: skip
    assert len(found) >= 5


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    whole = tree(name)
    assert ast.get_docstring(whole), name
    assert not list(undocumented(whole, name))


# Public names whose use needs a signed bundle or a file that something else writes, or that only hold what others give:
# the text of their package shows them at work, and so do the notebooks.
WITHOUT_EXAMPLE = {
    "callsieve.features": {"FEATURES", "REPORT_FEATURES", "Feature", "KeyedCall", "Report"},
    "callsieve.serving": {
        "Bundle", "Cleared", "Fact", "Policy", "Reason", "Refused", "Scorer", "Scores", "Swap", "Unlisted", "Verdict",
    },
    "callsieve.training.world": {"Scenario", "World", "keyed_world", "read_world", "write_world"},
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_EXAMPLE)
def test_every_public_name_has_an_example_or_is_listed(name):
    package = importlib.import_module(name)
    lacking = {word for word in package.__all__ if ">>>" not in (getattr(package, word).__doc__ or "")}
    assert lacking == WITHOUT_EXAMPLE[name]
