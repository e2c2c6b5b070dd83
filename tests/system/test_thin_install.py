"""The thin install loads few packages for import, scoring and serving, and names the extra of a missing one."""

import os
import subprocess
import sys

import pytest

from tests.support import real_bundle
from tests.support.imports import FILES, at_import, imported, name_of
from tests.support.paths import ROOT

HEAVY = {
    "lightgbm", "matplotlib", "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pandera", "pyarrow", "pyspark",
    "rich", "scipy", "sklearn", "sqlalchemy", "typer",
}  # fmt: skip
# Packages of the HTTP service.
WEB = {"anyio", "httptools", "msgspec", "prometheus_client", "starlette", "uvicorn"}
TABLES = ("intake_table", "keyed_table", "number_cache", "text_columns")
READERS = ("call_files", "checked_cells", "delimited", "quarantine")
# Packages that a file or folder outside training may import at import time, besides the standard library.
MAY_IMPORT = {
    "features/arrays.py": {"numpy"},
    "features/intake/numbers.py": {"phonenumbers"},
    **{f"features/intake/{name}.py": {"numpy", "pyarrow"} for name in TABLES},
    "features/frame": {"numpy", "pandas", "phonenumbers", "pyarrow", "sklearn"},
    "features/offline": {"joblib", "numpy", "pyarrow"},
    "features/offline/keyed_file.py": {"cryptography"},
    **{f"features/reading/{name}.py": {"numpy", "pyarrow"} for name in READERS},
    "features/files/parquet_file.py": {"pyarrow"},
    "features/files/decode.py": {"msgspec"},
    "serving": {"cryptography", "msgspec"},
    "serving/custody/expiry.py": {"pyarrow"},
    "serving/http": WEB,
    "serving/cases": WEB | {"sqlalchemy"},
    "serving/streams/kafka_source.py": {"confluent_kafka"},
    "serving/streams/redis_source.py": {"redis"},
    "serving/batch": {"numpy", "pandas", "pyarrow"},
    **{f"serving/bundle/forest_{name}.py": {"numpy"} for name in ("check", "python")},
    "serving/rules/register_join.py": {"numpy", "pandas", "pyarrow"},
    "serving/rules/rule_bits.py": {"numpy"},
    "serving/cli": {"rich", "typer"},
}

LIGHT = [path for path in FILES if path.relative_to(ROOT).parts[0] != "training"]

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


def loaded_by(code, *arguments):
    """Returns the top-level packages in memory after a new interpreter ran the code."""
    code += "\nimport sys\nprint('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize("package", ["callsieve.features", "callsieve.serving", "callsieve.training"])
def test_importing_a_package_loads_no_heavy_package(package):
    loaded = loaded_by(f"import {package}")
    assert "callsieve" in loaded
    assert not (HEAVY | WEB) & loaded


def test_importing_the_scorer_loads_what_only_a_bundle_needs_later():
    names = "from callsieve.features import Call, History, Intake, Key\nfrom callsieve.serving import Scorer"
    assert not {"cryptography", "msgspec"} & loaded_by(names)


def test_scoring_loads_no_heavy_package(tmp_path):

    real_bundle.write_signed(tmp_path)
    loaded = loaded_by(SCORE_ONE_CALL, str(tmp_path))
    assert "callsieve" in loaded
    assert not (HEAVY | WEB - {"msgspec"}) & loaded
    assert not (HEAVY | WEB - {"msgspec"}) & loaded_by(SCORE_ONE_CALL + EXPLAIN_IT, str(tmp_path))


def test_the_service_loads_no_heavy_package():
    loaded = loaded_by("import callsieve.serving.http.server")
    assert loaded >= WEB
    assert not HEAVY & loaded


MISSING = """
import importlib, sys
for name, package in (argument.split("=") for argument in sys.argv[1:]):
    sys.modules[package] = None
    try:
        importlib.import_module(f"callsieve.{name}")
    except (ImportError, SystemExit) as error:
        print(name, error)
    del sys.modules[package]
"""
EXTRAS = {
    "serving.http.metrics=prometheus_client": "serve",
    "serving.http.server=uvicorn": "serve",
    "serving.http.app=starlette": "serve",
    "serving.cases.store=sqlalchemy": "cases",
    "training.tracking.mlflow_write=mlflow": "train",
    "training.tracking.mlflow_read=mlflow": "train",
    "training.tracking.onnx_export=onnxruntime": "onnx",
    "training.cli.command_table=typer": "train",
}


def test_the_error_about_a_missing_package_names_its_extra():
    done = subprocess.run([sys.executable, "-c", MISSING, *EXTRAS], capture_output=True, text=True, check=True)
    messages = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert messages.keys() == {name.partition("=")[0] for name in EXTRAS}
    for name, extra in EXTRAS.items():
        assert f"pip install 'callsieve[{extra}]'" in messages[name.partition("=")[0]], name


@pytest.mark.parametrize("path", LIGHT, ids=name_of)
def test_a_light_module_imports_only_permitted_packages(path):
    here = path.relative_to(ROOT)
    allowed = {"callsieve", *sys.stdlib_module_names}
    for place in (here, *here.parents):
        allowed |= MAY_IMPORT.get(place.as_posix(), set())
    assert {name.partition(".")[0] for name in imported(path, at_import(path))} <= allowed


@pytest.mark.parametrize(("variable", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_of_training_sleep_unless_the_user_sets_a_policy(variable, policy):
    code = "import os, sys, callsieve.training; print(os.environ['OMP_WAIT_POLICY'], 'lightgbm' in sys.modules)"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | variable, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [policy, "False"]  # LightGBM reads it as it is loaded
