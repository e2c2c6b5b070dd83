"""Traceability: every row of the sources has a test and a mutant, or a reason, or is listed as open."""

import json
import tomllib

import pytest

from tests.support.errors import refused
from tests.support.paths import ROOT
from tests.tools import traceability
from tests.tools.traceability import MUTANTS, main, read_mutants, sources, trace

# Rows without a test yet. A row leaves the file when it gets a test; nothing else may change the file.
OPEN = (ROOT / "tests" / "system" / "open_rows.txt").read_text().split()

MARKED = """
import pytest

@pytest.mark.source("L12", "P3", by="made.py")
@pytest.mark.parametrize("x", [1])
def test_marked(x): ...

def test_unmarked(): ...
"""


MUTANT = """
["Nothing is made"]
rows = ["L12", "P3"]
file = "made.py"
old = "return 7"
new = "return 0"
"""


def tree(folder, text, mutants=MUTANT):
    (folder / "tests" / "tools").mkdir(parents=True)
    (folder / "tests" / "test_made.py").write_text(text)
    (folder / "tests" / "tools" / "mutants.toml").write_text(mutants)
    (folder / "made.py").write_text("def made():\n    return 7\n")
    return folder


@pytest.mark.source("L35", by="tests/tools/traceability.py")
def test_the_open_rows_are_those_of_the_file():
    answer = trace(ROOT)
    assert answer["open"] == OPEN
    assert answer["toothless"] == []
    assert [row["row"] for row in answer["rows"]] == [f"L{n}" for n in range(1, 46)] + [f"P{n}" for n in range(1, 15)]


def test_every_source_row_is_in_scope_or_has_a_reason():
    for name, row in sources().items():
        assert set(row) in ({"asks", "does"}, {"asks", "out"}), name
        assert row.get("out", "out of scope: legal").startswith(("out of scope: legal", "out of scope: administrative"))
        assert all(text and "\n" not in text for text in row.values())


@pytest.mark.system
def test_the_marks_are_those_that_pytest_collects(request):
    """Compares the marks read from the source text with the marks of the tests that this run collected."""
    items = [(item.nodeid.partition("[")[0], item) for item in request.session.items]
    collected_marks = {(test, row) for test, item in items for mark in item.iter_markers("source") for row in mark.args}
    collected = {test for test, _ in items}
    text_marks = {(test, entry["row"]) for entry in trace(ROOT)["rows"] for test in entry["tests"] if test in collected}
    assert collected_marks == text_marks and collected_marks


@pytest.mark.source("L35", by="tests/tools/traceability.py")
def test_marks_are_read_from_the_text(tmp_path):
    answer = trace(tree(tmp_path, MARKED))
    tested = {row["row"]: row for row in answer["rows"] if row["tests"]}
    assert set(tested) == {"L12", "P3"}
    assert tested["P3"]["tests"] == ["tests/test_made.py::test_marked"]
    assert tested["P3"]["files"] == ["made.py"]
    assert tested["P3"]["mutants"] == ["Nothing is made"] and answer["toothless"] == []
    assert "L12" not in answer["open"] and "L13" in answer["open"] and "L31" not in answer["open"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"L12"', '"L99"', "expects rows of sources.toml, got L99"),
        ('"L12", "P3", ', "", "got none"),
        ("made.py", "gone.py", "expects a file of the project, got gone.py"),
        (', by="made.py"', "", "with string literals"),
        ('("L12", "P3", by="made.py")', "", "with string literals"),
        ('by="made.py"', 'by="made.py", of="made.py"', "with string literals"),
        ('"L12"', "ROW", "with string literals"),
        ('@pytest.mark.parametrize("x", [1])', "@pytest.mark.skip", "must be on a test that runs"),
        ("def test_marked", "def marked", "must be on a test that runs"),
    ],
)
def test_an_invalid_mark_is_refused(tmp_path, old, new, match):
    with refused(match):
        trace(tree(tmp_path, MARKED.replace(old, new)))


def test_a_row_with_a_test_and_without_a_mutant_is_toothless(tmp_path):
    root = tree(tmp_path, MARKED, MUTANT.replace('"L12", ', ""))
    assert trace(root)["toothless"] == ["L12"]
    (root / MUTANTS).unlink()
    assert trace(root)["toothless"] == ["L12", "P3"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"L12"', '"L99"', "expected rows of sources.toml, got L99"),
        ("made.py", "gone.py", "expected a file of the project, got gone.py"),
        ("return 7", "return 8", "`old` must occur exactly once in made.py, got 0"),
        ('old = "return 7"', 'old = "e"', "`old` must occur exactly once in made.py, got 3"),
        ('"L12", "P3"', "", "expected rows"),
        ('new = "return 0"', "", "expected rows"),
        ('new = "return 0"', "new = 0", "expected rows"),
        ('new = "return 0"', 'new = ""\nwhy = ""', "expected rows"),
        ('["Nothing is made"]', "", "expected rows"),
        ("rows = [", "rows = ", "expected a TOML file"),
    ],
)
def test_an_invalid_mutant_is_refused(tmp_path, old, new, match):
    with refused(f"^tests/tools/mutants.toml.*{match}"):
        trace(tree(tmp_path, MARKED, MUTANT.replace(old, new)))


def test_every_mutant_is_another_valid_text_of_its_file():
    for mutant in read_mutants(ROOT):
        patched = mutant.patched((ROOT / mutant.file).read_text(encoding="utf-8"))
        assert mutant.new != mutant.old
        if mutant.file.endswith(".py"):
            compile(patched, mutant.file, "exec")
        else:
            assert tomllib.loads(patched)


def test_the_command_fails_while_a_row_is_open(run_tool, monkeypatch, tmp_path):
    code, out, _ = run_tool(main, "--root", ROOT, "--json")
    assert json.loads(out)["open"] == OPEN
    assert code == (1 if OPEN else 0)
    rows = ", ".join(f'"{name}"' for name, row in sources().items() if "out" not in row)
    texts = (text.replace('"L12", "P3"', rows) for text in (MARKED, MUTANT))
    code, out, _ = run_tool(main, "--root", tree(tmp_path, *texts))
    assert code == 0 and "     mutant: Nothing is made\n" in out
    assert out.endswith("0 open: none; 0 without a mutant: none\n")
    (tmp_path / MUTANTS).unlink()
    code, out, _ = run_tool(main, "--root", tmp_path, "--json")
    assert code == 1 and len(json.loads(out)["toothless"]) == 55
    row = {"row": "L1", "asks": "a", "files": [], "tests": [], "mutants": []}
    open_rows = {"rows": [row], "open": ["L1"], "toothless": []}
    monkeypatch.setattr(traceability, "trace", lambda _root: open_rows)
    code, out, _ = run_tool(main)
    assert (code, out) == (1, "L1   a\n     OPEN\n1 rows, 1 open: L1; 0 without a mutant: none\n")
    monkeypatch.undo()
    code, _, error = run_tool(main, "--root", tmp_path / "tests")
    assert code == 1 and error.count("\n") == 1
