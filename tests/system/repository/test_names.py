"""Names are nouns that say what they hold, and a docstring can be read alone."""

import ast
import re
from collections import Counter

import pytest

from tests.support.paths import ROOT

SOURCES = sorted(path for top in ("features", "serving", "training", "tests") for path in (ROOT / top).rglob("*.py"))
# Verb forms and pronouns that fit any value.
VAGUE = {"told", "found", "kept", "held", "said", "met", "one", "asked", "given", "spoken", "gone", "looked", "each"}
DEPENDENT = re.compile(r"(The same|As [`a-z]|Those of|What |Of |Who |Whose )")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def faults(source):
    """Yields line and text of each vague name that a source binds, and of each docstring that needs another one."""
    tree = ast.parse(source)
    # A field of a record or of a typed dictionary has the name of its key in a file or in JSON.
    keys = {field.target for kind in ast.walk(tree) if isinstance(kind, ast.ClassDef) for field in kind.body
            if isinstance(field, ast.AnnAssign)}  # fmt: skip
    for node in ast.walk(tree):
        match node:
            case ast.Name() if node in keys:
                named = ""
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                named = name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                named = name
            case _:
                named = ""
        if named.strip("_").lower() in VAGUE:
            yield node.lineno, named
        if isinstance(node, DOCUMENTED) and DEPENDENT.match(ast.get_docstring(node) or ""):
            yield getattr(node, "lineno", 1), ast.get_docstring(node).splitlines()[0]


def test_no_name_is_vague_and_no_docstring_needs_another():
    assert len(SOURCES) > 300
    assert [
        f"{path.relative_to(ROOT)}:{line}: {text}" for path in SOURCES for line, text in faults(path.read_text())
    ] == []


@pytest.mark.parametrize("wing", ["features", "serving", "training"])
def test_no_two_modules_of_a_wing_share_a_name(wing):
    names = Counter(path.stem for path in (ROOT / wing).rglob("*.py") if path.name != "__init__.py")
    assert len(names) > 40
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("told = 1", (1, "told")),
        ("def write(_kept): ...", (1, "_kept")),
        ("x = [one for one in y]", (1, "one")),
        ('def f():\n    """The same as above, of a table."""', (1, "The same as above, of a table.")),
    ],
)
def test_each_kind_of_fault_is_seen(source, fault):
    assert list(faults(source)) == [fault]
