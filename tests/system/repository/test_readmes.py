"""Both READMEs have the same content; the site lists the exit codes and variables of the source."""

import ast
import inspect
import re

import pytest

from callsieve.serving.cli.command_tree import commands as commands_of
from callsieve.training.cli.command_table import ROOT as COMMAND
from tests.support.paths import ROOT

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


@pytest.mark.parametrize(("path", "other"), [(ENGLISH, CHINESE), (CHINESE, ENGLISH)], ids=["en", "zh"])
def test_the_readmes_link_to_each_other(path, other):
    assert f"]({other.name})" in path.read_text()


def test_both_readmes_have_the_same_numbers():
    """A changed figure cannot be forgotten in a translation."""
    english, chinese = (set(re.findall(r"\d[\d,.]*\d|\d", path.read_text())) for path in (ENGLISH, CHINESE))
    assert english == chinese


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
