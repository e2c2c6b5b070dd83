"""A signed bundle as an MLflow model, for `mlflow.pyfunc.load_model`, `mlflow models serve` and `spark_udf`.

save_model(Path("callsieve-run/bundle"), Path("served"), signer=Path("callsieve-run/signer.pub"))
# CALLSIEVE_TRUST=signer.pub mlflow models serve -m served --env-manager local

The folder holds the bundle unchanged and its provenance, the signer's public key, an example of invented calls, and
`MLmodel`, which names this file as the loader. Nothing is pickled.

A key that travels with a model proves only that the bundle is whole. So the opening side can name the trusted key: the
environment variable CALLSIEVE_TRUST is the path of a public key. CALLSIEVE_POLICY, if set, is the path of a policy file
that replaces the shipped one. On Spark, use `spark_udf(..., extra_env={...})`. `MLmodel` itself is not signed: as with
every MLflow model, anyone with write access can name another loader.

Columns are matched by name. On Spark, use `judge(struct("call_hour", ...))` or `judge()`. If columns are passed one by
one, MLflow takes them in the order of the model's signature and ignores their names.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
import pandas as pd

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.online.history import History
from callsieve.features.records import Call
from callsieve.serving.bundle.attestation import attestation_path
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.signing import SIGNER, read_public_key
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.strata import FEATURES
from callsieve.serving.scorer.scorer import Scorer

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

NAME, BUNDLE = "callsieve", "bundle"
TRUST, POLICY = "CALLSIEVE_TRUST", "CALLSIEVE_POLICY"
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"


class ScoringModel:
    """The model that MLflow calls: feature columns -> raw score, calibrated score and the policy's action."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._inputs = inputs(scorer.bundle)
        self._columns = [scorer.features.index(name) for name in self._inputs]

    def predict(self, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow's
        """Returns the scores of n calls.

        Returns: columns raw, score (float64, NaN where a value is infinite) and action, n rows.
        """
        values = feature_values(model_input, self._inputs)
        rows = np.full((len(values), len(self._scorer.features)), np.nan)
        rows[:, self._columns] = values
        scores = self._scorer.score_table(rows, shift=self._scorer.shift_of(rows))
        actions = np.array(ACTIONS, dtype=object)[scores.action]
        return pd.DataFrame({"raw": scores.raw, "score": scores.score, "action": actions}, index=model_input.index)


def feature_values(table: pd.DataFrame, columns: Sequence[str]) -> Array:
    """Returns some columns of a table as numbers, shape (rows, columns)."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"expected a DataFrame with a column for each feature, got {type(table).__name__}")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"expected a column for each of {len(columns)} features, missing: {missing[0]}")
    try:
        return np.ascontiguousarray(table[list(columns)].to_numpy(np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        # The message of pandas quotes the value, so it is dropped.
        raise ValueError("expected numbers in every column of a feature") from None


def inputs(bundle: Bundle) -> tuple[str, ...]:
    """Returns the required columns: the model's features, and the features that choose the threshold of a call."""
    return (*bundle.features, *(name for name in FEATURES if name not in bundle.features))


def example_rows(columns: tuple[str, ...]) -> pd.DataFrame:
    """Returns the features of three invented calls of one number: columns as `columns`, float64.

    Nothing is known of their own columns and complaints: these are NaN.
    """
    intake, history, rows = Intake(Key("example", bytes(32))), History(calls=10, numbers=10), []
    for minute, callee in enumerate(("13900139000", "13900139001", "13900139002")):
        call = intake(Call(1772500000.0 + 60 * minute, "13800138000", callee, 5.0, 7.0, "answered"))
        rows.append(history.vector(call))
        history.observe(call)
    return pd.DataFrame(rows, columns=list(NAMES)).reindex(columns=list(columns))


def write_example(folder: Path, columns: tuple[str, ...]) -> dict[str, str]:
    """Writes the example in the two files that MLflow reads, and returns what `MLmodel` says of them."""
    rows = example_rows(columns)
    split = {"columns": list(columns), "data": rows.astype(object).where(rows.notna(), None).to_numpy().tolist()}
    for name, value in ((EXAMPLE, split), (SERVING_EXAMPLE, {"dataframe_split": split})):
        (folder / name).write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    files = {"artifact_path": EXAMPLE, "serving_input_path": SERVING_EXAMPLE}
    return {**files, "type": "dataframe", "pandas_orient": "split"}


def save_model(bundle: Path, folder: Path, *, signer: Path) -> None:
    """Writes a bundle as an MLflow model into a new folder, whole or not at all."""
    try:
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, DataType, Schema
    except ImportError as error:
        raise ImportError("the MLflow flavour needs MLflow: pip install 'callsieve[train]'") from error

    if folder.exists():
        raise FileExistsError(f"{folder}: exists already; nothing is overwritten")
    trusted = [read_public_key(signer)]
    opened = load(bundle, trusted, expected_catalogue=catalogue_hash())
    columns = Schema([ColSpec(DataType.double, name) for name in inputs(opened)])
    results = Schema([ColSpec(DataType.double, "raw"), ColSpec(DataType.double, "score"), ColSpec("string", "action")])
    model = Model(signature=ModelSignature(columns, results))
    model.add_flavor(NAME, data=BUNDLE, model=opened.model_id, signed_by=opened.signed_by, epoch=opened.epoch)
    # `mlflow.pyfunc.add_to_model` does the same, but its import takes two seconds.
    model.add_flavor("python_function", loader_module=__name__, data=BUNDLE, python_version=python_version())
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        shutil.copytree(bundle, temporary / BUNDLE)
        shutil.copyfile(signer, temporary / SIGNER)
        if (statement := attestation_path(bundle)).is_file():
            shutil.copyfile(statement, attestation_path(temporary / BUNDLE))
        (temporary / "requirements.txt").write_text(f"{NAME}=={version(NAME)}\n", encoding="utf-8")
        model.saved_input_example_info = write_example(temporary, inputs(opened))
        model.save(str(temporary / "MLmodel"))
        # Check the copy, too: the bundle may have changed since it was checked.
        load(temporary / BUNDLE, trusted, minimum_epoch=opened.epoch)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _load_pyfunc(path: str) -> ScoringModel:
    """Returns the function by which MLflow opens the model."""
    trust = os.environ.get(TRUST)
    if not trust:
        message = "%s is not set: the key that came with the model shows that the bundle is whole, not who signed it"
        logging.getLogger(__name__).warning(message, TRUST)
    policy = read_policy(os.environ.get(POLICY))
    keys = [read_public_key(trust or Path(path).with_name(SIGNER))]
    return ScoringModel(Scorer.load(path, trusted=keys, policy=policy))
