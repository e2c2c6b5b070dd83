"""Examples in docstrings run, and everything public has a docstring."""

import ast
import doctest
import importlib
import pkgutil
import shutil
from functools import cache
from pathlib import Path

import pytest

from tests.support import real_bundle

PACKAGES = ("callsieve.features", "callsieve.serving", "callsieve.training")
PUBLIC = ("callsieve.features", "callsieve.serving", "callsieve.training", "callsieve.training.world")


def module_names():
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield name
        yield from (module.name for module in pkgutil.walk_packages(package.__path__, f"{name}."))


MODULES = tuple(module_names())


def tree(name):
    return ast.parse(Path(importlib.import_module(name).__file__).read_text(encoding="utf-8"))


def undocumented(node, path):
    """Dotted names of public functions, classes and methods without a docstring."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        overload = any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in child.decorator_list)
        if not overload and not ast.get_docstring(child):
            yield f"{path}.{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{path}.{child.name}")


def test_all_folders_are_walked():
    assert {"callsieve.features.catalogue", "callsieve.serving.scorer.scorer", "callsieve.training.world.world"} <= set(
        MODULES
    )


@pytest.fixture(scope="module")
def example_files(world_folder, empty_store, tmp_path_factory):
    """A folder with the files that the examples read: a bundle, keys, a world, and an empty MLflow store."""
    folder = tmp_path_factory.mktemp("examples")
    real_bundle.write_signed(folder)
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    (folder / "world").symlink_to(world_folder)
    (folder / "run").mkdir()
    shutil.copyfile(empty_store, folder / "run" / "mlflow.db")
    return folder


@pytest.fixture
def folder(example_files, tmp_path):
    """A folder in which examples run and may write."""
    for path in example_files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, request, monkeypatch):
    """Examples of public names are left to the test below, which gives them only the names of their package."""
    doctests = doctest.DocTestFinder().find(importlib.import_module(name))
    tests = [test for test in doctests if test.examples and not f"{test.name}.".startswith(public_names())]
    if tests:
        monkeypatch.chdir(request.getfixturevalue("folder"))
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0, test.name


@cache
def public_names():
    """Returns the exported functions and classes as module.name, each with a dot at the end."""
    values = [getattr(package, word) for package in map(importlib.import_module, PUBLIC) for word in package.__all__]
    return tuple(f"{value.__module__}.{value.__qualname__}." for value in values if hasattr(value, "__qualname__"))


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    whole = tree(name)
    assert ast.get_docstring(whole), name
    assert not list(undocumented(whole, name))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example_that_runs(name, folder, monkeypatch):
    """The docstring has it; for a constant, that of its module. The example knows only the names of the package."""
    package = importlib.import_module(name)
    monkeypatch.chdir(folder)
    names = {word: getattr(package, word) for word in package.__all__}
    for word, value in names.items():
        assert examples(package, word), word
        for test in doctest.DocTestFinder().find(value, word, globs=names) if not word.isupper() else ():
            assert doctest.DocTestRunner().run(test).failed == 0, test.name


def examples(package, word):
    """Returns the example lines of the documentation of a name."""
    value = getattr(package, word)
    if word.isupper():
        (module,) = defining(package, word)
        text = "\n".join(line for line in module.__doc__.splitlines() if word in line)
    else:
        members = vars(value).values() if isinstance(value, type) else ()
        text = "\n".join(getattr(member, "__doc__", None) or "" for member in (value, *members))
    return [line for line in text.splitlines() if line.lstrip().startswith((">>>", "..."))]


def defining(package, word):
    """Yields the module that a constant is imported from."""
    for node in tree(package.__name__).body:
        if isinstance(node, ast.ImportFrom) and word in {alias.name for alias in node.names}:
            yield importlib.import_module(f"{package.__name__}.{node.module}")
