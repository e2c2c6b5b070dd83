"""The tool that runs mutants: it patches a copy, asks the tests of each requirement, and undoes the patch."""

from types import SimpleNamespace

import pytest

from tests.tools import teeth
from tests.tools.traceability import Mark, Mutant

MUTANT = Mutant("Nothing is made", ("L1", "L2", "P1"), "made.py", "return 7", "return 0")
MARKS = [
    Mark("test_a.py::test_one", ("L1", "L2"), "made.py"),
    Mark("test_a.py::test_two", ("L1",), "other.py"),
    Mark("test_a.py::test_three", ("P1",), "other.py"),
    Mark("test_a.py::test_four", ("P1",), "another.py"),
]


@pytest.fixture
def tree(tmp_path):
    """A tree whose tests fail by name; it keeps the text of the patched file at each run."""
    (tmp_path / "made.py").write_text("def made():\n    return 7\n")
    tree = SimpleNamespace(root=tmp_path, failing=set(), fault="", runs=[])

    def run(tests, *_options, **_limits):
        tree.runs.append((tuple(tests), (tmp_path / "made.py").read_text()))
        return [test for test in tests if test in tree.failing], tree.fault

    tree.run = run
    return tree


def test_tests_that_name_the_file_come_before_all_others():
    near = {row: teeth.tests_of(MUTANT, row, MARKS) for row in MUTANT.rows}
    assert near["L1"] == near["L2"] == ["test_a.py::test_one"]
    assert near["P1"] == ["test_a.py::test_four", "test_a.py::test_three"]


def test_a_mutant_is_killed_by_a_test_of_each_requirement(tree):
    tree.failing = {"test_a.py::test_one", "test_a.py::test_three"}
    verdict = teeth.judge(MUTANT, tree, MARKS)
    killers = ["test_a.py::test_one", "test_a.py::test_one", "test_a.py::test_three"]
    assert (verdict.name, verdict.fault, list(verdict.killers.values())) == (MUTANT.name, "", killers)
    patched = "def made():\n    return 0\n"
    assert tree.runs == [(("test_a.py::test_one",), patched), (tuple(teeth.tests_of(MUTANT, "P1", MARKS)), patched)]
    assert (tree.root / "made.py").read_text() == "def made():\n    return 7\n"


@pytest.mark.parametrize(("fault", "says"), [("", "SURVIVED the tests of P1"), ("no exit code", "no exit code")])
def test_a_mutant_survives_if_no_test_of_a_requirement_fails(tree, fault, says):
    tree.failing = {"test_a.py::test_one"}
    tree.fault = fault
    assert teeth.judge(MUTANT, tree, MARKS).fault == says


def test_a_test_that_always_fails_kills_no_mutant(tree):
    tree.failing = {"test_a.py::test_one", "test_a.py::test_three"}
    verdict = teeth.judge(MUTANT, tree, MARKS)
    assert [entry.fault for entry in teeth.verified([verdict], tree)] == [
        "test_a.py::test_one fails without the patch, too"
    ]
    tree.failing = set()
    assert teeth.verified([verdict], tree) == [verdict]
