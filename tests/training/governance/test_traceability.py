"""Traceability: every row of the sources has a test or a reason, or is listed as open."""

import json

import pytest

from callsieve.training.governance.traceability import sources, trace
from tests.support.paths import ROOT

# Rows without a test yet. A row leaves the file when it gets a test; nothing else may change the file.
OPEN = (ROOT / "tests" / "system" / "open_rows.txt").read_text().split()

MARKED = """
import pytest

@pytest.mark.source("L12", "P3", by="made.py")
@pytest.mark.parametrize("x", [1])
def test_marked(x): ...

def test_unmarked(): ...
"""


def tree(folder, text):
    (folder / "tests").mkdir()
    (folder / "tests" / "test_made.py").write_text(text)
    (folder / "made.py").touch()
    return folder


@pytest.mark.source("L35", by="training/governance/traceability.py")
def test_the_open_rows_are_those_of_the_file():
    answer = trace(ROOT)
    assert answer["open"] == OPEN
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


def test_marks_are_read_from_the_text(tmp_path):
    answer = trace(tree(tmp_path, MARKED))
    tested = {row["row"]: row for row in answer["rows"] if row["tests"]}
    assert set(tested) == {"L12", "P3"}
    assert tested["P3"]["tests"] == ["tests/test_made.py::test_marked"]
    assert tested["P3"]["files"] == ["made.py"]
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
    with pytest.raises(ValueError, match=match) as error:
        trace(tree(tmp_path, MARKED.replace(old, new)))
    assert "\n" not in str(error.value)


def test_the_command_fails_while_a_row_is_open(run_command, monkeypatch, tmp_path):
    code, out, _ = run_command("govern", "traceability", "--root", ROOT, "--json")
    assert json.loads(out)["open"] == OPEN
    assert code == (1 if OPEN else 0)
    rows = ", ".join(f'"{name}"' for name, row in sources().items() if "out" not in row)
    code, out, _ = run_command("govern", "traceability", "--root", tree(tmp_path, MARKED.replace('"L12", "P3"', rows)))
    assert code == 0 and "0 open: none" in out
    open_rows = {"rows": [{"row": "L1", "asks": "a", "files": [], "tests": []}], "open": ["L1"]}
    monkeypatch.setattr("callsieve.training.governance.traceability.trace", lambda _root: open_rows)
    code, out, _ = run_command("govern", "traceability")
    assert (code, out) == (1, "L1   a\n     OPEN\n1 rows, 1 open: L1\n")
    monkeypatch.undo()
    code, _, error = run_command("govern", "traceability", "--root", tmp_path / "tests")
    assert code == 1 and error.count("\n") == 1
