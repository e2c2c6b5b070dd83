"""The MLflow model gives the verdicts of the scorer and opens only trusted bundles; for Spark see `test_spark`."""

import json
import math
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from callsieve.features.catalogue import NAMES
from callsieve.serving import BundleError, Scorer
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.rules.policy import ACTIONS
from callsieve.training.tracking.mlflow_model import POLICY, TRUST, _load_pyfunc, inputs, save_model
from tests.support import how_to, lite_bundle, own_bundle
from tests.support import small_bundle as small
from tests.support.debian import program
from tests.support.errors import raising, refused
from tests.support.http_service import free_port

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the lite bundle, its signer's key, and the MLflow model."""
    path = tmp_path_factory.mktemp("flavour")
    lite_bundle.write_bundle(path)
    save_model(path / "bundle", path / "served", signer=path / "signer.pub")
    return path


@pytest.fixture(scope="module")
def lite_rows():
    """Vectors by feature name, in alphabetical order, unlike in the bundle."""
    frame = pd.DataFrame(lite_bundle.rows(400, seed=5), columns=list(lite_bundle.LITE))
    frame["out_calls_count_7d"] = np.arange(len(frame)) % 30.0
    return frame[sorted(frame.columns)]


@pytest.fixture(scope="module")
def scores(folder, lite_rows):
    """The verdicts of the scorer on these vectors, row by row."""
    scorer = Scorer.load(folder / "bundle", trusted=small.TRUSTED)
    rows = []
    for row in lite_rows.to_dict("records"):
        verdict = scorer.explain_row([row.get(name, math.nan) for name in NAMES])
        rows.append((verdict.raw, verdict.score, verdict.action))
    return pd.DataFrame(rows, columns=["raw", "score", "action"])


@pytest.fixture
def trusted(folder, monkeypatch):
    monkeypatch.setenv(TRUST, str(folder / "signer.pub"))


def load_model(folder):
    """The model as MLflow opens it, by its `MLmodel` file."""
    flavour = yaml.safe_load((folder / "served" / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavour["loader_module"] == "callsieve.training.tracking.mlflow_model"
    return _load_pyfunc(str(folder / "served" / flavour["data"]))


def assert_same(results, expected):
    np.testing.assert_array_equal(results["raw"], expected["raw"])
    np.testing.assert_array_equal(results["score"], expected["score"])
    assert results["action"].tolist() == expected["action"].tolist()


@pytest.mark.usefixtures("trusted")
def test_results_equal_the_verdicts_of_the_scorer(folder, lite_rows, scores):
    results = load_model(folder).predict(lite_rows)
    assert set(scores["action"]) > {"pass"}
    assert set(scores["action"]) <= set(ACTIONS)
    assert_same(results, scores)
    assert_same(load_model(folder).predict(lite_rows.assign(another="x").iloc[::-1]), scores.iloc[::-1])


@pytest.mark.usefixtures("trusted")
def test_invalid_input_is_refused(folder, lite_rows):
    model = load_model(folder)
    with pytest.raises(ValueError, match="missing: call_hour"):
        model.predict(lite_rows.drop(columns="call_hour"))
    with pytest.raises(ValueError, match="expected a DataFrame"):
        model.predict(lite_rows.to_numpy())
    with refused("expected numbers"):
        model.predict(lite_rows.assign(call_hour="tel:13800138000"))
    odd = model.predict(lite_rows.assign(call_hour=math.inf))
    assert odd["raw"].isna().all()
    assert set(odd["action"]) == {"pass"}


@pytest.mark.usefixtures("trusted")
def test_a_model_with_own_columns_takes_them_as_inputs(tmp_path):
    own_bundle.write_bundle(tmp_path)
    save_model(tmp_path / "bundle", tmp_path / "served", signer=tmp_path / "signer.pub")
    rows = pd.DataFrame(own_bundle.rows(50, seed=5), columns=list(own_bundle.FEATURES))
    rows["out_calls_count_7d"] = 1.0
    scorer = Scorer.load(tmp_path / "bundle", trusted=small.TRUSTED)
    vectors = rows.reindex(columns=list(scorer.features)).to_numpy()
    np.testing.assert_array_equal(load_model(tmp_path).predict(rows)["raw"], scorer.score_table(vectors).raw)
    example = json.loads((tmp_path / "served" / "input_example.json").read_text())
    assert {row[example["columns"].index("own_tariff")] for row in example["data"]} == {None}
    with pytest.raises(ValueError, match="missing: own_tariff"):
        load_model(tmp_path).predict(rows.drop(columns="own_tariff"))


def test_without_a_trusted_key_the_key_of_the_model_is_used_and_a_warning_says_so(
    folder, lite_rows, scores, monkeypatch, caplog
):
    monkeypatch.delenv(TRUST, raising=False)
    assert_same(load_model(folder).predict(lite_rows), scores)
    assert f"{TRUST} is not set" in caplog.text


def test_another_key_than_the_trusted_one_is_refused(folder, tmp_path, monkeypatch):
    write_public_key(small.OTHER_KEY.public_key(), tmp_path / "other.pub")
    monkeypatch.setenv(TRUST, str(tmp_path / "other.pub"))
    with pytest.raises(BundleError, match="not trusted"):
        load_model(folder)


@pytest.mark.usefixtures("trusted")
def test_another_policy_file_is_used(folder, lite_rows, scores, tmp_path, monkeypatch):
    (tmp_path / "policy.toml").write_text('version = "test"\n[bands]\nwatch = "label"\n')
    monkeypatch.setenv(POLICY, str(tmp_path / "policy.toml"))
    results = load_model(folder).predict(lite_rows)
    np.testing.assert_array_equal(results["raw"], scores["raw"])
    assert set(results["action"]) == {"pass", "label"}


@pytest.mark.usefixtures("trusted")
def test_a_changed_model_is_refused(tmp_path):
    lite_bundle.write_bundle(tmp_path)
    save_model(tmp_path / "bundle", tmp_path / "served", signer=tmp_path / "signer.pub")
    with (tmp_path / "served" / "bundle" / "model.txt").open("a") as model:
        model.write("\n")
    with pytest.raises(BundleError):
        load_model(tmp_path)


def test_the_folder_has_the_bundle_its_key_and_an_example(folder, tmp_path):
    files = {path.relative_to(folder / "served").as_posix() for path in (folder / "served").rglob("*")}
    parts = {"bundle.json", "model.forest", "model.txt", "MANIFEST.json", "MANIFEST.sig"}
    beside = {"MLmodel", "requirements.txt", "signer.pub", "input_example.json", "serving_input_example.json"}
    assert files == beside | {"bundle"} | {f"bundle/{name}" for name in parts}
    mlmodel = yaml.safe_load((folder / "served" / "MLmodel").read_text())
    columns = [column["name"] for column in json.loads(mlmodel["signature"]["inputs"])]
    assert columns == [*lite_bundle.LITE, "out_calls_count_7d"]
    with pytest.raises(FileExistsError):
        save_model(folder / "bundle", folder / "served", signer=folder / "signer.pub")
    write_public_key(small.OTHER_KEY.public_key(), tmp_path / "other.pub")
    with pytest.raises(BundleError):
        save_model(folder / "bundle", tmp_path / "new", signer=tmp_path / "other.pub")
    assert {path.name for path in tmp_path.iterdir()} == {"other.pub"}


def test_the_inputs_include_the_features_that_choose_the_threshold():
    class Card:
        features = ("call_hour",)

    assert inputs(Card) == ("call_hour", "call_caller_class", "out_calls_count_7d")


def test_mlflow_serves_the_model_over_http(folder, lite_rows, scores):
    curl, port = program("curl"), free_port()
    command = [word.replace("5001", str(port)) for word in how_to.words("mlflow", "mlflow")]
    command[0] = Path(sys.executable).with_name("mlflow")
    log = folder / "serve.log"
    trust = {"MLFLOW_DISABLE_TELEMETRY": "true", TRUST: str(folder / "signer.pub")}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # MLflow starts uvicorn by name
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*map(str, command)], env=os.environ | trust | {"PATH": path}, stdout=out, stderr=out, cwd=folder
        )
    try:
        _wait(port, server, log)
        data = lite_rows.astype(object).where(lite_rows.notna(), None).to_dict("split")
        code, body = _post(port, {"dataframe_split": {"columns": data["columns"], "data": data["data"]}})
        assert code == 200, body
        assert_same(pd.DataFrame(body["predictions"]), scores)
        assert _post(port, {"dataframe_records": [{"call_hour": 3.0}]})[0] == 400
        request = [word.replace("5001", str(port)) for word in how_to.words("mlflow", "curl")]
        answer = json.loads(subprocess.run([curl, *request[1:]], capture_output=True, check=True, cwd=folder).stdout)
        assert list(answer["predictions"][0]) == ["raw", "score", "action"]
    finally:
        server.terminate()
        server.wait(20)


def _wait(port, server, log):
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping"):
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def _post(port, body):
    url, headers = f"http://127.0.0.1:{port}/invocations", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - a local address
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.filterwarnings("ignore:::mlflow")
def test_mlflow_reads_the_signature_and_predicts_its_example(folder, tmp_path, monkeypatch):
    """`mlflow.models.predict` starts a process, as for a model of any other flavour."""
    import mlflow.models

    monkeypatch.setenv(TRUST, str(folder / "signer.pub"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    uri = str(folder / "served")
    names = how_to.run_python("mlflow", folder)
    assert list(names["model"].predict(names["example"])) == ["raw", "score", "action"]
    model = mlflow.models.Model.load(uri)
    example = model.load_input_example(uri)
    assert list(example.columns) == model.signature.inputs.input_names()
    assert example["call_hour"].notna().all()
    mlflow.models.predict(uri, example, env_manager="local", output_path=str(tmp_path / "answers.json"))
    answers = pd.DataFrame(json.loads((tmp_path / "answers.json").read_text())["predictions"])
    assert_same(answers, load_model(folder).predict(example))


def test_a_failed_save_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("callsieve.training.tracking.mlflow_model.shutil.copytree", raising(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        save_model(folder / "bundle", tmp_path / "served", signer=folder / "signer.pub")
    assert not list(tmp_path.iterdir())


def test_without_mlflow_the_error_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.models", None)
    with pytest.raises(ImportError, match=r"pip install 'callsieve\[train\]'"):
        save_model(folder / "bundle", tmp_path / "served", signer=folder / "signer.pub")
