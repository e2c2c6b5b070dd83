"""Pauses of a process that answers calls, kept from growing with what it remembers."""

from __future__ import annotations

import gc
import sys
from itertools import count

# Objects until young ones are looked at, young looks until an older one, older ones until all: that never comes.
_LOOKS = (50, 1, 1 << 30)
_TURN = 0.001  # seconds
_ANSWERS = 64  # between two looks at young objects
_answered = count(1)


def shorten_pauses() -> None:
    """Once all is loaded: no look at all objects any more, and threads beside the calls give way to them soon.

    A full collection looks at every number and call in memory: 50 to 90 ms with 100,000 calls, again and again while
    they grow, and every call that waits is late. What a request leaves is freed without one, for it is in no circle
    that outlives two looks at young objects (`tests/system/test_clients.py` holds it).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_LOOKS)
    sys.setswitchinterval(_TURN)


def look_at_young_objects() -> None:
    """After an answer: a look at young objects every so many of them, however few more objects there are by then.

    Looks come by how many more objects were made than freed. Once memory is full, as many old ones are freed as new
    ones are made: no look came any more, and after a while one at 100,000 young objects, which takes 20 ms.
    """
    if next(_answered) % _ANSWERS == 0:
        gc.collect(1)
