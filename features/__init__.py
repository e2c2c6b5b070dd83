"""Call histories to vectors.

`call_features` and `CallFeatures` need pandas and scikit-learn, and are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .catalogue import FEATURES, catalogue_hash
from .catalogue.feature import Feature
from .complaints import COMPLAINT_FEATURES, Complaint
from .intake.intake import Intake
from .keys.tokens import Key, key_from_environment, read_key
from .online.history import History
from .records import Call, KeyedCall

if TYPE_CHECKING:
    from .frame.frame_features import call_features
    from .frame.transformer import CallFeatures

__all__ = [
    "COMPLAINT_FEATURES",
    "FEATURES",
    "Call",
    "CallFeatures",
    "Complaint",
    "Feature",
    "History",
    "Intake",
    "Key",
    "KeyedCall",
    "call_features",
    "catalogue_hash",
    "key_from_environment",
    "read_key",
]

_FILES = {"CallFeatures": "frame.transformer", "call_features": "frame.frame_features"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(import_module(f".{_FILES[name]}", __name__), name)
    except ImportError as error:
        raise ImportError(f"{name} needs pandas and scikit-learn: pip install 'callsieve[train]'") from error
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
