"""Call histories to vectors."""

from .catalogue import FEATURES, catalogue_hash
from .catalogue.feature import Feature
from .complaints import COMPLAINT_FEATURES, Complaint
from .intake.intake import Intake
from .keys.tokens import Key, key_from_environment, read_key
from .online.history import History
from .records import Call, KeyedCall

__all__ = [
    "COMPLAINT_FEATURES",
    "FEATURES",
    "Call",
    "Complaint",
    "Feature",
    "History",
    "Intake",
    "Key",
    "KeyedCall",
    "catalogue_hash",
    "key_from_environment",
    "read_key",
]
