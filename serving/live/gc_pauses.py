"""Keeps pauses of the garbage collector short in a scoring process with a large memory."""

from __future__ import annotations

import gc
import sys
from itertools import count

# Thresholds of the three generations: a full collection never runs.
_THRESHOLDS = (50, 1, 1 << 30)
_SWITCH_INTERVAL = 0.001  # seconds
_ANSWERS = 64  # between two collections of young objects
_answered = count(1)


def shorten_pauses() -> None:
    """Disables full collections, and makes threads beside the calls yield sooner. Call this when everything is loaded.

    A full collection visits every number and call in memory: 50 to 90 ms with 100,000 calls, and it recurs while they
    grow. A request leaves no reference cycle that outlives two collections of young objects, so no full collection is
    needed (`tests/system/test_clients.py` checks it).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL)


def look_at_young_objects() -> None:
    """Collects young objects after every 64th answer.

    Python starts a collection when many more objects were made than freed. Once memory is full, each new object frees
    an old one: Python would collect rarely, 100,000 young objects at once, which takes 20 ms.
    """
    if next(_answered) % _ANSWERS == 0:
        gc.collect(1)
