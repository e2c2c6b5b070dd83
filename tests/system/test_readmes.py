"""The READMEs say the same, and of exit codes and variables what is so."""

import ast
import inspect
import re

import pytest

from callsieve.serving.cli.command_tree import commands as commands_of
from callsieve.training.cli.main import ROOT as COMMAND
from tests.support.paths import ROOT

ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(r"^!\[.*?(?=^## )", re.MULTILINE | re.DOTALL)  # the picture and what is said of it


def outline(text):
    """Levels of headings, and how many rows the tables have, in the order of the text."""
    lines = FIGURES.sub("", BLOCK.sub("", text)).splitlines()
    return [re.match("#+|[|]", line)[0] for line in lines if line.startswith(("#", "|"))]


def links(path):
    """Where links and pictures lead, but for those from one README to the other."""
    found = re.findall(r"\]\(([^)]+)\)", path.read_text())
    return sorted(one for one in found if one not in {ENGLISH.name, CHINESE.name})


def commands(path):
    """What stands as code in running text; names of arguments that only one language explains are words."""
    found = re.findall(r"`([^`]+)`", FIGURES.sub("", BLOCK.sub("", path.read_text())))
    return {" ".join(one.split()) for one in found if re.search(r"[\s./-]", one)}


def test_the_same_sections_and_rows():
    english = outline(ENGLISH.read_text())
    assert english == outline(CHINESE.read_text())
    assert "##" in english


def test_the_same_code():
    english = BLOCK.findall(ENGLISH.read_text())
    assert english == BLOCK.findall(CHINESE.read_text())
    assert len(english) >= 4
    assert commands(ENGLISH) == commands(CHINESE)


def test_the_same_links_which_lead_somewhere():
    assert links(ENGLISH) == links(CHINESE)
    for one in links(ENGLISH):
        assert (ROOT / one).exists(), one


@pytest.mark.parametrize(("path", "other"), [(ENGLISH, CHINESE), (CHINESE, ENGLISH)], ids=["en", "zh"])
def test_each_leads_to_the_other(path, other):
    assert f"]({other.name})" in path.read_text()


def test_figures_stand_in_one_place():
    """So that none is left behind in a translation when they change."""
    (said,), (figures,) = FIGURES.findall(CHINESE.read_text()), FIGURES.findall(ENGLISH.read_text())
    assert re.search(r"\d", figures)
    assert not re.search(r"\d", said)


def row(start):
    """The row of the English README's tables that begins so."""
    (line,) = (one for one in ENGLISH.read_text().splitlines() if one.startswith(f"| {start} |"))
    return line


def checks():
    """Names of the commands that exit with code 1 when a check fails."""
    return [name for name, command in commands_of(COMMAND) if "sys.exit(1)" in inspect.getsource(command.callback)]


def test_the_checks_that_say_no_by_exit_code_1_are_named():
    named = re.findall("`([^`]+)`", row("1").partition("says no")[2])
    named = [one.removesuffix(" --quick") for one in named]
    assert sorted(named) == sorted(checks())


def test_every_variable_of_ours_is_named():
    read = {
        node.value
        for folder in ("features", "serving", "training")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch("CALLSIEVE_[A-Z]+", str(node.value))
    }
    assert set(re.findall("`(CALLSIEVE_[A-Z]+)`", ENGLISH.read_text())) == read
