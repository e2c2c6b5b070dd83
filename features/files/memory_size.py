"""Parses sizes of memory such as 4GiB."""

from __future__ import annotations

import re


def parse_bytes(text: str | None) -> int | None:
    """Returns the number of bytes in a size such as 4GiB or 800MiB; None for None.

    Raises:
        ValueError: in one line, if the text is not a size.

    >>> parse_bytes("1.5GiB")
    1610612736
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) ?([KMGT])iB", text)
    if not match:
        raise ValueError(f"memory: expected a size such as 4GiB or 800MiB, got {text!r}")
    return int(float(match[1]) * 1024 ** (1 + "KMGT".index(match[2])))
