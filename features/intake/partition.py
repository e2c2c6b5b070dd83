"""The partition of a number: which of several processes or topic partitions has its history."""

from __future__ import annotations

import hashlib
import re

_OTHER = re.compile("[^0-9A-Za-z]")
_DIGITS = 8  # at the end of a number, which all written forms of it have in common


def partition(number: str, count: int) -> int:
    """Returns the partition of a number, from 0 to `count` - 1, the same for every written form of the number.

    A call goes to the partition of its caller and to the partition of its callee. The process of a partition scores
    the calls of its own callers, and records all calls that reach it: a caller's incoming calls belong to its history.
    The message of a stream carries the partition in place of the number, so no number is in the key of a message.

    >>> [partition(number, 16) for number in ("+86 138 0013 8000", "0086-13800138000", "13800138000")]
    [11, 11, 11]
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    end = _OTHER.sub("", number)[-_DIGITS:]
    return int.from_bytes(hashlib.sha256(end.encode()).digest()[:8], "big") % count
