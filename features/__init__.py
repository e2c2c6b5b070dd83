"""Call histories to vectors."""

from .catalogue import FEATURES, catalogue_hash
from .feature import Feature
from .history import History
from .intake import Intake
from .pseudonyms import Key, key_from_environment, read_key
from .records import Call, KeyedCall
from .reports import REPORT_FEATURES, Report

__all__ = [
    "FEATURES",
    "REPORT_FEATURES",
    "Call",
    "Feature",
    "History",
    "Intake",
    "Key",
    "KeyedCall",
    "Report",
    "catalogue_hash",
    "key_from_environment",
    "read_key",
]
