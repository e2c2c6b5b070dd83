"""Call histories to vectors."""

from .catalogue import FEATURES, catalogue_hash
from .catalogue.feature import Feature
from .complaints import REPORT_FEATURES, Report
from .intake.intake import Intake
from .keys.tokens import Key, key_from_environment, read_key
from .online.history import History
from .records import Call, KeyedCall

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
