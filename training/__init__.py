"""Calls and labels to a judged, recorded, signed bundle.

A name is imported when it is first asked for, so that no command loads LightGBM and pandas that needs neither.
Simulated worlds are in `callsieve.training.world`; examples are run in a folder with one of them, `world`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# LightGBM's threads wait for one another many times a tree. By default they spin meanwhile, and so take the cores that
# they wait for from others and from themselves: beside other busy processes a fit took several times as long. OpenMP
# reads this once, when LightGBM is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .data.dataset import Dataset, read_dataset
    from .model.settings import Settings
    from .run import study
    from .studies.demo import of_world

__all__ = ["Dataset", "Settings", "of_world", "read_dataset", "study"]

_FILES = {
    "Dataset": "data.dataset",
    "Settings": "model.settings",
    "of_world": "studies.demo",
    "read_dataset": "data.dataset",
    "study": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_FILES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
