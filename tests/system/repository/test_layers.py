"""Packages import only lower layers, and names are nouns that say what they hold."""

import ast
import re
from collections import Counter
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.imports import FILES, FOLDERS, MODULES, everywhere, file_of, imported, name_of
from tests.support.paths import ROOT

# Each imports only itself and those before it, whether at import time, in a function, or for type checkers alone.
LAYERS = [
    "features/files", "features/arrays.py", "features/records.py", "features/kernel", "features/stream",
    "features/catalogue", "features/codegen", "features/keys", "features/intake", "features/reading", "features/online",
    "features/offline", "features/frame", "features/__init__.py", "serving/custody", "serving/bundle", "serving/rules",
    "serving/scorer", "serving/live", "serving/__init__.py", "serving/batch", "serving/telephony", "serving/http",
    "serving/streams", "serving/cases", "serving/lists", "serving/cli", "training/world/basis",
    "training/world/callers", "training/world/tables", "training/world", "training/language.py",
    "training/oversight/log", "training/data", "training/evidence", "training/model", "training/adapt",
    "training/estimator", "training/judging", "training/drift", "training/reports", "training/tracking",
    "training/oversight/audit", "training/preflight.py", "training/run.py", "training/studies",
    "training/oversight/privacy", "training/oversight/governance", "training/oversight/__init__.py",
    "training/__init__.py", "training/cli", "training/__main__.py",
]  # fmt: skip

# The scorer that a host embeds: it may import nothing of serving besides these packages.
THIN = ("serving/custody", "serving/bundle", "serving/rules", "serving/scorer")

# The only files that may import a package.
ONLY = {
    "mlflow": {
        "training/tracking/mlflow_write.py",
        "training/tracking/mlflow_read.py",
        "training/tracking/mlflow_model.py",
    },
    "onnx": {"training/tracking/onnx_export.py"},
    "onnxruntime": {"training/tracking/onnx_export.py"},
    "pyspark": {"features/offline/spark.py"},
}


def layer_of(path, root=ROOT):
    """Returns the layer that a file belongs to."""
    here = path.relative_to(root)
    rows = [row for row in (here, *here.parents) if row.as_posix() in LAYERS]
    assert rows, f"{here}: no row of LAYERS holds it"
    return rows[0].as_posix()


def upward(path, modules=frozenset(MODULES), root=ROOT):
    """Returns the modules that a file imports from a later row than its own."""
    own = LAYERS.index(layer_of(path, root))
    ours = {name for name in imported(path, everywhere(path), modules, root) if name in modules}
    return sorted(name for name in ours if LAYERS.index(layer_of(root / file_of(name).relative_to(ROOT), root)) > own)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_layers(path):
    assert upward(path) == []
    for name in imported(path, everywhere(path)):
        assert name.partition(".")[0] not in FOLDERS, f"flat import of {name}"
        only = ONLY.get(name.partition(".")[0])
        file = path.relative_to(ROOT).as_posix()
        assert only is None or file in only, f"{name} belongs in {', '.join(sorted(only))}"


@pytest.mark.parametrize(
    "text",
    [
        "from callsieve.serving.http import app",
        "def later():\n    from callsieve.serving.http.app import application",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from callsieve.serving.http import app",
        "from ..http import app",
    ],
)
def test_an_upward_import_is_detected_in_every_position(text, tmp_path):
    path = tmp_path / "serving" / "scorer" / "scorer.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert upward(path, frozenset(MODULES), tmp_path) == ["callsieve.serving.http.app"]


def test_the_thin_scorer_imports_only_itself_and_features():
    allowed = {row for row in LAYERS if row.startswith("features/")} | set(THIN)
    for path in FILES:
        if layer_of(path) in THIN:
            ours = {name for name in imported(path, everywhere(path)) if name in MODULES}
            assert {layer_of(file_of(name)) for name in ours} <= allowed, path


def test_every_layer_has_files():
    assert {layer_of(path) for path in FILES} == set(LAYERS)


def test_imports_have_no_cycles():
    graph = {name_of(path): {*imported(path, everywhere(path))} & MODULES - {name_of(path)} for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", ONLY)
def test_the_files_of_a_restricted_package_import_it(package):
    """Otherwise the rule above would check nothing."""
    for name in ONLY[package]:
        path = ROOT / name
        assert package in {module.partition(".")[0] for module in imported(path, everywhere(path))}, name


# Names


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
