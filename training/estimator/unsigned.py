"""A scorer in memory for a model of an own estimator, which cannot be signed into a bundle."""

from __future__ import annotations

import hashlib
import json
from typing import cast

from callsieve.serving.bundle.bundle import Bundle
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.metadata import SECOND, BundleMetadata
from callsieve.serving.rules.policy import read_policy
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.model.train import Trained
from callsieve.training.own.own_estimator import OwnModel, predictor

UNSIGNED = "unsigned-"


def can_be_signed(trained: Trained) -> bool:
    """Returns whether all models of a training are forests of LightGBM."""
    return not any(isinstance(model, OwnModel) for model in trained.models.values())


def unsigned_scorer(trained: Trained) -> Scorer:
    """Returns a scorer of tables with the models of a training; it gives no reasons.

    The model's id begins with UNSIGNED, and is a hash of the estimator's name, the settings and the training rows.
    """
    inputs = [trained.settings.estimator, trained.card.training, list(trained.card.features)]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    # An own model scores tables as a forest does.
    models: dict[str, Forest] = {name: cast(Forest, predictor(model)) for name, model in trained.models.items()}
    bundle = Bundle(
        **{name: getattr(trained.card, name) for name in BundleMetadata.__struct_fields__},
        model_id=UNSIGNED + digest[:12],
        signed_by="",
        model=models["model"],
        second=models.get(SECOND),
        content=models.get("content"),
        mode=models.get("mode"),
    )
    return Scorer(bundle, read_policy())
