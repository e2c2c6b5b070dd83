"""A signed bundle as an MLflow model: `mlflow models serve` and `mlflow.pyfunc.spark_udf` open it as the scorer does.

save_model(Path("callsieve-run/bundle"), Path("served"), signer=Path("callsieve-run/signer.pub"))
# CALLSIEVE_TRUST=signer.pub mlflow models serve -m served --env-manager local

The folder holds the bundle as it is, and `MLmodel`, which names this file as the loader. Nothing is pickled. Whose
bundles are trusted is said where the model is opened, for a key that travels with the model proves nothing: the
environment variable CALLSIEVE_TRUST names a public key's file, and CALLSIEVE_POLICY, if set, a policy file in place of
the shipped one (on Spark: `spark_udf(..., extra_env={...})`). `MLmodel` itself is not signed: whoever may write it can
name a loader of his own, as with every model of MLflow.

Columns are found by name. On Spark that is `judge(struct("call_hour", ...))` or `judge()`; columns that are given one
by one MLflow takes in the order of the model's signature, whatever they are called.
"""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
import pandas as pd

from callsieve.features.catalogue import catalogue_hash
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.strata import FEATURES
from callsieve.serving.scorer.scorer import Scorer

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

NAME, BUNDLE = "callsieve", "bundle"
TRUST, POLICY = "CALLSIEVE_TRUST", "CALLSIEVE_POLICY"


class ScoringModel:
    """What MLflow calls: vectors by feature name -> raw score, calibrated score, and the policy's action."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._inputs = inputs(scorer.bundle)
        self._places = [scorer.features.index(name) for name in self._inputs]

    def predict(self, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow's
        """Scores of n calls.

        Args:
            model_input: a column for each of `inputs`, in any order; NaN where a value is unknown. Others are ignored.

        Returns: columns raw, score (float64, NaN where a value is infinite) and action, n rows.

        Raises:
            ValueError: in one line, if it is no DataFrame, or a column is missing or holds no numbers.
        """
        if not isinstance(model_input, pd.DataFrame):
            raise ValueError(f"expected a DataFrame with a column for each feature, got {type(model_input).__name__}")
        missing = [name for name in self._inputs if name not in model_input.columns]
        if missing:
            raise ValueError(f"expected a column for each of {len(self._inputs)} features, missing: {missing[0]}")
        rows = np.full((len(model_input), len(self._scorer.features)), np.nan)
        try:
            rows[:, self._places] = model_input[list(self._inputs)].to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            # The library's message quotes the value.
            raise ValueError("expected numbers in every column of a feature") from None
        found = self._scorer.score_table(rows)
        actions = np.array(ACTIONS, dtype=object)[found.action]
        return pd.DataFrame({"raw": found.raw, "score": found.score, "action": actions}, index=model_input.index)


def inputs(bundle: Bundle) -> tuple[str, ...]:
    """The columns that are asked for: the model's features, and those that tell which threshold holds for a call."""
    return (*bundle.features, *(name for name in FEATURES if name not in bundle.features))


def save_model(bundle: Path, folder: Path, *, signer: Path) -> None:
    """Write a bundle as an MLflow model into a new folder, whole or not at all.

    Args:
        signer: public key (PEM) that must have signed it; it is not written.

    Raises:
        Refused: for whatever the scorer refuses.
        FileExistsError: if the folder exists.
        ImportError: if MLflow is not installed.
    """
    try:
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, DataType, Schema
    except ImportError as error:
        raise ImportError("the MLflow flavour needs MLflow: pip install 'callsieve[train]'") from error

    if folder.exists():
        raise FileExistsError(f"{folder}: exists already; nothing is overwritten")
    trusted = [read_public_key(signer)]
    found = load(bundle, trusted, expected_catalogue=catalogue_hash())
    taken = Schema([ColSpec(DataType.double, name) for name in inputs(found)])
    given = Schema([ColSpec(DataType.double, "raw"), ColSpec(DataType.double, "score"), ColSpec("string", "action")])
    made = f"{NAME}=={version(NAME)}"
    model = Model(signature=ModelSignature(taken, given))
    model.add_flavor(NAME, data=BUNDLE, model=found.model_id, signed_by=found.signed_by, epoch=found.epoch)
    # As `mlflow.pyfunc.add_to_model` does, without the two seconds that its import takes.
    model.add_flavor("python_function", loader_module=__name__, data=BUNDLE, python_version=python_version())
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        shutil.copytree(bundle, temporary / BUNDLE)
        (temporary / "requirements.txt").write_text(f"{made}\n", encoding="utf-8")
        model.save(str(temporary / "MLmodel"))
        # What was copied is what was checked, or it is not there.
        load(temporary / BUNDLE, trusted, minimum_epoch=found.epoch)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _load_pyfunc(path: str) -> ScoringModel:
    """What MLflow calls to open the model. Raises: Refused, or ValueError if nothing says whom to trust."""
    trust = os.environ.get(TRUST)
    if not trust:
        raise ValueError(f"whose bundles are trusted is not said: expected {TRUST} to name a public key's file")
    policy = read_policy(os.environ.get(POLICY))
    return ScoringModel(Scorer.load(path, trusted=[read_public_key(trust)], policy=policy))
