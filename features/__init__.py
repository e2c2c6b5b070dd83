"""Call histories to vectors.

Each name is imported on first use. `call_features` and `CallFeatures` need pandas and scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import FEATURES, catalogue_hash
    from .catalogue.feature import Feature
    from .frame.frame_features import call_features
    from .frame.transformer import CallFeatures
    from .intake.intake import Intake
    from .keys.tokens import Key, key_from_environment, read_key
    from .online.history import History
    from .records import Call, KeyedCall

__all__ = [
    "FEATURES",
    "Call",
    "CallFeatures",
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

_FILES = {
    "FEATURES": "catalogue",
    "Call": "records",
    "CallFeatures": "frame.transformer",
    "Feature": "catalogue.feature",
    "History": "online.history",
    "Intake": "intake.intake",
    "Key": "keys.tokens",
    "KeyedCall": "records",
    "call_features": "frame.frame_features",
    "catalogue_hash": "catalogue",
    "key_from_environment": "keys.tokens",
    "read_key": "keys.tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(import_module(f".{_FILES[name]}", __name__), name)
    except ImportError as error:
        if not _FILES[name].startswith("frame."):
            raise
        raise ImportError(f"{name} needs pandas and scikit-learn: pip install 'callsieve[train]'") from error
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
