"""Imports flow one way, and the thin install is thin."""

import ast
import importlib
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support import real_bundle
from tests.support.paths import ROOT

FOLDERS = ("features", "serving", "training")
ALLOWED = {"features": {"features"}, "serving": {"features", "serving"}, "training": set(FOLDERS)}
HEAVY = {
    "lightgbm", "matplotlib", "mlflow", "numba", "onnx", "onnxruntime", "pandas", "pandera", "pyarrow", "pyspark",
    "rich", "scipy", "sklearn", "sqlalchemy", "typer",
}  # fmt: skip
# What the service over HTTP is made of, and its files.
WEB = {"anyio", "msgspec", "prometheus_client", "starlette", "uvicorn"}
SERVICE = {"app.py", "case_app.py", "endpoint.py", "measured.py", "protocol.py", "schema.py", "server.py"}
# The files of the store of cases, which no process that judges calls imports.
STORE = {"case_erasure.py", "case_feed.py", "case_queue.py", "case_tables.py", "cases.py"}
# Which file alone may import a package.
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

# Packages with an `__all__`; `callsieve.training` imports a name of it when it is first asked for.
PUBLIC = ("callsieve.features", "callsieve.serving", "callsieve.training", "callsieve.training.world")

SCORE_ONE_CALL = """
import sys
from pathlib import Path
from callsieve.features import Call, History, Intake, Key
from callsieve.serving import Scorer, read_public_key
folder = Path(sys.argv[1])
intake, history = Intake(Key("e1", bytes(32))), History()
scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / "signer.pub")])
call = intake(Call(1772500000.0, "13800138000", "13900139000", 5.0, 7.0, "answered"))
history.observe(call)
next_call = intake(Call(1772500100.0, "13800138000", "13900139001"))
verdict = scorer.score(history, next_call)
assert verdict.status == "filling", verdict  # of a history that has just begun
"""
EXPLAIN_IT = """
verdict = scorer.explain(history, next_call)
assert verdict.status == "filling" and verdict.reasons, verdict
"""


def files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


FILES = [path for folder in FOLDERS for path in files(folder)]


def name_of(path):
    """Dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("callsieve", *parts)).removesuffix(".__init__")


MODULES = {name_of(path) for path in FILES}


def imported(path, nodes):
    """Dotted names that these import statements ask for, relative ones resolved."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


def everywhere(path):
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def at_import(path):
    """Statements that run when the module is imported: not those in functions, nor for type checkers alone."""
    waiting = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def folder_of(name):
    """The folder of ours that a dotted name lies in, or None."""
    parts = name.split(".")
    return parts[1] if parts[0] == "callsieve" and len(parts) > 1 else None


def loaded_by(code, *arguments):
    """Top-level packages in memory after a fresh interpreter ran the code."""
    code += "\nimport sys\nprint('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize("package", ["callsieve.features", "callsieve.serving", "callsieve.training"])
def test_importing_is_light(package):
    loaded = loaded_by(f"import {package}")
    assert "callsieve" in loaded
    assert not (HEAVY | WEB) & loaded


def test_scoring_is_light(tmp_path):
    from callsieve.serving.bundle.signing import write_public_key
    from tests.support import small_bundle as small

    real_bundle.write(tmp_path / "bundle")
    write_public_key(small.KEY.public_key(), tmp_path / "signer.pub")
    loaded = loaded_by(SCORE_ONE_CALL, str(tmp_path))
    assert "callsieve" in loaded
    # NumPy takes as long to import as all else together: only reasons and tables may ask for it.
    assert not (HEAVY | WEB | {"numpy"}) & loaded
    loaded = loaded_by(SCORE_ONE_CALL + EXPLAIN_IT, str(tmp_path))
    assert "numpy" in loaded
    assert not (HEAVY | WEB) & loaded


def test_the_service_is_light():
    loaded = loaded_by("import callsieve.serving.http.server")
    assert loaded >= WEB
    assert not HEAVY & loaded


MISSING = """
import importlib, sys
for name, package in (one.split("=") for one in sys.argv[1:]):
    sys.modules[package] = None
    try:
        importlib.import_module(f"callsieve.{name}")
    except (ImportError, SystemExit) as error:
        print(name, error)
    del sys.modules[package]
"""
EXTRAS = {
    "serving.schema=msgspec": "serve", "serving.measured=prometheus_client": "serve",
    "serving.endpoint=msgspec": "serve",
    "serving.protocol=uvicorn": "serve", "serving.server=uvicorn": "serve", "serving.app=starlette": "serve",
    "serving.cases=sqlalchemy": "cases", "training.track=mlflow": "train",
    "training.tracked=mlflow": "train", "training.search=optuna": "train",
    "training.handset=onnxruntime": "onnx", "training.__main__=typer": "train",
}  # fmt: skip


def test_without_its_package_a_file_names_the_extra_that_brings_it():
    done = subprocess.run([sys.executable, "-c", MISSING, *EXTRAS], capture_output=True, text=True, check=True)
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told.keys() == {name.partition("=")[0] for name in EXTRAS}
    for name, extra in EXTRAS.items():
        assert f"pip install 'callsieve[{extra}]'" in told[name.partition("=")[0]], name


def test_the_light_modules_name_nothing_heavy_at_import():
    for path in files("features") + files("serving"):
        asked = {name.partition(".")[0] for name in imported(path, at_import(path))}
        allowed = set(sys.stdlib_module_names) | {"callsieve", "numpy"}
        if path.parts[-2] == "serving":
            allowed |= {"cryptography"} | (WEB if path.name in SERVICE else set())
            allowed |= {"sqlalchemy"} if path.name in STORE else set()
        if path.name == "numbers.py":
            allowed.add("phonenumbers")
        assert asked <= allowed, path


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_flow_one_way(path):
    own = folder_of(name_of(path))
    for name in imported(path, everywhere(path)):
        assert name.partition(".")[0] not in FOLDERS, f"flat import of {name}"
        assert folder_of(name) in {None, *ALLOWED[own]}, name
        only = ONLY.get(name.partition(".")[0])
        where = path.relative_to(ROOT).as_posix()
        assert only is None or where in only, f"{name} belongs in {', '.join(sorted(only))}"


@pytest.mark.parametrize("package", ONLY)
def test_it_is_imported_there(package):
    """Otherwise the rule above would hold of nothing."""
    for name in ONLY[package]:
        path = ROOT / name
        assert package in {asked.partition(".")[0] for asked in imported(path, everywhere(path))}, name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_cycles(folder):
    graph = {
        name_of(path): {name for name in imported(path, at_import(path)) if folder_of(name) == folder} - {name_of(path)}
        for path in files(folder)
    }
    assert any(graph.values()) or len(graph) == 1
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_exist_and_are_sorted(package):
    module = importlib.import_module(package)
    # Constants, then classes, then functions, each by the alphabet: as ruff's RUF022 sorts them.
    names = module.__all__
    kinds = [(0 if name.isupper() else 1 if name[0].isupper() else 2, name) for name in names]
    assert kinds == sorted(kinds)
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(module, name), name
    bound = {name for name, value in vars(module).items() if not name.startswith("_") and not is_module(value)}
    assert bound - {"annotations", "Any", "TYPE_CHECKING", "import_module"} == set(names)


def test_a_name_asked_for_late_comes_from_the_file_that_type_checkers_read():
    training = importlib.import_module("callsieve.training")
    asked = ast.walk(ast.parse(Path(training.__file__).read_text(encoding="utf-8")))
    told = {alias.name: node.module for node in asked if isinstance(node, ast.ImportFrom) for alias in node.names}
    for name in training.__all__:
        assert getattr(training, name) is getattr(importlib.import_module(f"callsieve.training.{told[name]}"), name)
    assert set(training.__all__) <= set(dir(training))
    with pytest.raises(AttributeError, match="has no attribute 'train_all'"):
        training.train_all  # noqa: B018


def is_module(value):
    return type(value) is type(sys)


@pytest.mark.parametrize(("given", "kept"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_of_training_sleep_while_they_wait_unless_somebody_wants_otherwise(given, kept):
    code = "import os, sys, callsieve.training; print(os.environ['OMP_WAIT_POLICY'], 'lightgbm' in sys.modules)"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=others | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [kept, "False"]  # LightGBM reads it as it is loaded
