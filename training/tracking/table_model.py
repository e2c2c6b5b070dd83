"""A model of a feature table as a signed folder, and as an MLflow model that `mlflow.pyfunc.load_model` opens.

The folder has LightGBM's text, `table.json`, which names the columns and the SHA-256 of that text, and the signature of
`table.json`. The signer's public key is beside the folder. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from scipy.special import expit

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.bundle.forest import Forest, read_forest
from callsieve.serving.bundle.signing import SIGNER, read_public_key, sign, verify_signature, write_public_key

from .mlflow_model import feature_values

MODEL, COLUMNS, SIGNATURE = "model.txt", "table.json", "table.sig"
NAME = "callsieve-table"  # of the registered model
PROBABILITY = "probability"


class TableModel:
    """A model of a feature table, with the names of its columns."""

    def __init__(self, forest: Forest, columns: tuple[str, ...]) -> None:
        self._forest, self.columns = forest, columns

    def predict(self, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow's
        """Returns the column `probability` of the label 1, with the index of the table.

        Args:
            model_input: a column for each of `columns`, in any order; NaN where a value is unknown. Other columns are
                ignored.
        Raises:
            ValueError: in one line, if it is no DataFrame, or a column is missing or not numeric.
        """
        values = feature_values(model_input, self.columns)
        return pd.DataFrame({PROBABILITY: expit(self._forest.predict_raw(values))}, index=model_input.index)


def write_table_model(text: str, columns: tuple[str, ...], folder: Path, key: Ed25519PrivateKey) -> None:
    """Writes and signs a model.

    Args:
        text: LightGBM's text of the model.
        columns: names of its columns, in their order.
        folder: new; `signer.pub` is written beside it.
    """
    folder.mkdir()
    facts = {"columns": list(columns), "model_sha256": hashlib.sha256(text.encode()).hexdigest()}
    signed = (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode()
    for name, data in ((MODEL, text.encode()), (COLUMNS, signed), (SIGNATURE, sign(signed, key))):
        write_atomic(folder / name, data)
    write_public_key(key.public_key(), folder.parent / SIGNER)


def read_table_model(folder: Path, trusted: Ed25519PublicKey) -> TableModel:
    """Opens a model that the trusted key signed.

    Raises:
        ValueError: in one line, if a file is missing, or the model is not as it was signed.
    """
    try:
        signed, line, text = ((folder / name).read_bytes() for name in (COLUMNS, SIGNATURE, MODEL))
    except OSError:
        raise ValueError(f"{folder}: expected the folder `model` of a training on a feature table") from None
    try:
        verify_signature(signed, line, [trusted])
    except ValueError as error:
        raise ValueError(f"{folder / COLUMNS}: {error}") from None
    facts = json.loads(signed)
    if hashlib.sha256(text).hexdigest() != facts["model_sha256"]:
        raise ValueError(f"{folder / MODEL}: changed since it was signed")
    return TableModel(read_forest(text.decode()), tuple(facts["columns"]))


def save_table_model(model: Path, folder: Path) -> None:
    """Writes a signed model of a table as an MLflow model into a new folder."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    opened = read_table_model(model, read_public_key(model.parent / SIGNER))
    columns = Schema([ColSpec(DataType.double, name) for name in opened.columns])
    described = Model(signature=ModelSignature(columns, Schema([ColSpec(DataType.double, PROBABILITY)])))
    described.add_flavor("python_function", loader_module=__name__, data=model.name, python_version=python_version())
    shutil.copytree(model, folder / model.name)
    shutil.copyfile(model.parent / SIGNER, folder / SIGNER)
    (folder / "requirements.txt").write_text(f"callsieve=={version('callsieve')}\n", encoding="utf-8")
    described.save(str(folder / "MLmodel"))


def _load_pyfunc(path: str) -> TableModel:
    """Returns the model that MLflow opens; the key beside it shows that it is whole, not who signed it."""
    return read_table_model(Path(path), read_public_key(Path(path).with_name(SIGNER)))
