"""What the project answers to has a test, a reason, or is open, and nobody can say otherwise than it is."""

import json

import pytest

from callsieve.training.governance.traceability import sources, trace
from tests.support.paths import ROOT

# Rows that no test shows yet. Whoever closes one takes it out there; nothing else may change that list.
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
def test_what_is_open_is_what_is_said_to_be():
    told = trace(ROOT)
    assert told["open"] == OPEN
    assert [one["row"] for one in told["rows"]] == [f"L{n}" for n in range(1, 46)] + [f"P{n}" for n in range(1, 15)]


def test_a_row_is_answered_or_has_a_reason():
    for name, row in sources().items():
        assert set(row) in ({"asks", "does"}, {"asks", "out"}), name
        assert row.get("out", "out of scope: legal").startswith(("out of scope: legal", "out of scope: administrative"))
        assert all(text and "\n" not in text for text in row.values())


def test_the_marks_are_those_that_pytest_knows(request):
    """The marks as read from the text, against those of the tests that this run collected."""
    known = {
        (i.nodeid.partition("[")[0], row)
        for i in request.session.items
        for m in i.iter_markers("source")
        for row in m.args
    }
    collected = {item.nodeid.partition("[")[0] for item in request.session.items}
    ours = {(test, one["row"]) for one in trace(ROOT)["rows"] for test in one["tests"] if test in collected}
    assert known == ours and known


def test_marks_are_read_from_the_text(tmp_path):
    told = trace(tree(tmp_path, MARKED))
    shown = {one["row"]: one for one in told["rows"] if one["tests"]}
    assert set(shown) == {"L12", "P3"}
    assert shown["P3"]["tests"] == ["tests/test_made.py::test_marked"]
    assert shown["P3"]["files"] == ["made.py"]
    assert "L12" not in told["open"] and "L13" in told["open"] and "L31" not in told["open"]


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
def test_a_mark_that_says_what_is_not_so_is_refused(tmp_path, old, new, match):
    with pytest.raises(ValueError, match=match) as told:
        trace(tree(tmp_path, MARKED.replace(old, new)))
    assert "\n" not in str(told.value)


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
    code, _, said = run_command("govern", "traceability", "--root", tmp_path / "tests")
    assert code == 1 and said.count("\n") == 1
