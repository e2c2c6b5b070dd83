"""Examples in docstrings run, everything public has a docstring, and both READMEs have the same content."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from callsieve.serving.cli.command_tree import commands as commands_of
from callsieve.training.cli.command_table import ROOT as COMMAND
from tests.support import real_bundle
from tests.support.paths import ROOT

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
    for node in ast.walk(tree(package.__name__)):
        if isinstance(node, ast.ImportFrom) and word in {alias.name for alias in node.names}:
            yield importlib.import_module(f"{package.__name__}.{node.module}")


# READMEs and site


ENGLISH, CHINESE, SETTINGS = (ROOT / name for name in ("README.md", "README.zh.md", "docs/reference/settings.md"))
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(r"^!\[.*?(?=^## )", re.MULTILINE | re.DOTALL)  # the picture and its text


def outline(text):
    """Returns the marks of headings and table rows, in the order of the text."""
    lines = FIGURES.sub("", BLOCK.sub("", text)).splitlines()
    return [re.match("#+|[|]", line)[0] for line in lines if line.startswith(("#", "|"))]


def links(path):
    """Returns the targets of links and pictures, without those from one README to the other."""
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text())
    return sorted(target for target in targets if target not in {ENGLISH.name, CHINESE.name})


def commands(path):
    """Returns the inline code of the running text; single words are left out, as each language explains its own."""
    spans = re.findall(r"`([^`]+)`", FIGURES.sub("", BLOCK.sub("", path.read_text())))
    return {" ".join(span.split()) for span in spans if re.search(r"[\s./-]", span)}


def test_both_readmes_have_the_same_sections_and_rows():
    english = outline(ENGLISH.read_text())
    assert english == outline(CHINESE.read_text())
    assert "##" in english


def test_both_readmes_have_the_same_code():
    english = BLOCK.findall(ENGLISH.read_text())
    assert english == BLOCK.findall(CHINESE.read_text())
    assert len(english) >= 4
    assert commands(ENGLISH) == commands(CHINESE)


def test_both_readmes_have_the_same_links_to_existing_files():
    assert links(ENGLISH) == links(CHINESE)
    for target in links(ENGLISH):
        assert (ROOT / target).exists(), target


def test_both_readmes_have_the_same_numbers():
    """A changed figure cannot be forgotten in a translation."""
    english, chinese = (set(re.findall(r"\d[\d,.]*\d|\d", path.read_text())) for path in (ENGLISH, CHINESE))
    assert english == chinese


def test_the_links_of_a_page_lead_to_files_of_a_checkout():
    """A link to a page that the site generates has `project:`, which a checkout shows as plain text."""
    words = ("git", "-C", ROOT, "ls-files", "-z")
    tracked = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0"))
    pages = [ROOT / name for name in tracked if re.fullmatch(r"(docs/.*|README.*|CONTRIBUTING|SECURITY)\.md", name)]
    relative = [(page, link) for page in pages for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text())]
    assert len(pages) > 40 and len(relative) > 60
    places = {f"{page.relative_to(ROOT)}: {link}": (page.parent / link).resolve() for page, link in relative}
    assert [at for at, path in places.items() if path.relative_to(ROOT.resolve()).as_posix() not in tracked] == []


def row(start):
    """Returns the row of a table of the settings page whose first cell is `start`."""
    (line,) = (line for line in SETTINGS.read_text().splitlines() if line.startswith(f"| {start} |"))
    return line


FAILS = re.compile(r"sys\.exit\(1\)|failed=")


def checks():
    """Returns the names of the commands that exit with code 1 when a check fails."""
    return [name for name, command in commands_of(COMMAND) if FAILS.search(inspect.getsource(command.callback))]


def test_all_checks_that_exit_with_code_1_are_listed():
    named = re.findall("`([^`]+)`", row("1").partition("failed check")[2])
    assert sorted(name.removesuffix(" --quick") for name in named) == sorted(checks())


def test_all_environment_variables_are_listed():
    read = {
        node.value
        for folder in ("features", "serving", "training")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch("CALLSIEVE_[A-Z]+", str(node.value))
    }
    assert set(re.findall("`(CALLSIEVE_[A-Z]+)`", SETTINGS.read_text())) == read
