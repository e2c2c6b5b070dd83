"""Training: from calls and labels to a judged, recorded and signed bundle.

Imports `features` and `serving`. Start with `run`. Names are imported on first use, so that a command without a model
does not load LightGBM and pandas. Simulated worlds are in `callsieve.training.world`; doctests run beside a folder with
one, `world`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# LightGBM's threads wait for each other many times a tree. By default they spin while they wait, and so occupy cores
# that the other threads need: beside busy processes, a fit took several times as long. OpenMP reads this variable
# once, when LightGBM is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .adapt.adapting import Adaptation
    from .adapt.base import read_base
    from .data.dataset import Dataset, read_dataset
    from .estimator.classifier import NuisanceClassifier
    from .estimator.forward_split import ForwardGroupSplit, out_of_fold_probabilities
    from .model.settings import Settings
    from .run import record_training
    from .studies.demo import of_world

__all__ = [
    "Adaptation",
    "Dataset",
    "ForwardGroupSplit",
    "NuisanceClassifier",
    "Settings",
    "of_world",
    "out_of_fold_probabilities",
    "read_base",
    "read_dataset",
    "record_training",
]

_FILES = {
    "Adaptation": "adapt.adapting",
    "Dataset": "data.dataset",
    "ForwardGroupSplit": "estimator.forward_split",
    "NuisanceClassifier": "estimator.classifier",
    "Settings": "model.settings",
    "of_world": "studies.demo",
    "out_of_fold_probabilities": "estimator.forward_split",
    "read_base": "adapt.base",
    "read_dataset": "data.dataset",
    "record_training": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_FILES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
