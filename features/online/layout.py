"""The layout of the state in a snapshot: a declared number, and a converter from each earlier one.

The number changes with the state: with an array, an offset, or the meaning of a stored value. A comment, a formula or a
new feature of stored sums needs no new number. `tests/features/online/test_layout.py` fails when the state changes and
the number does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

LAYOUT = 1
# Before layouts had numbers, a snapshot had the hash of all kernel sources. Hashes that begin so have the arrays of 1.
KERNELS_OF_0 = (
    "d91515b6cea2b41b", "b5ffd0b2f005202f", "4b2402f1295c9716", "d6f23dbbf51769d6", "a438099bc6c71a30",
    "468022db3be4b49e", "ddf390c143e9d7e9", "faf7c6914e38ac57", "aeeb4376d6c34944", "76a47f8fe345f2b5",
    "d6a35eae2b0844d8",
)  # fmt: skip
CATALOGUE_OF_0 = 153  # features


class LayoutError(ValueError):
    """A snapshot has a layout that this version does not read."""


class Content(NamedTuple):
    """Facts and tokens of a snapshot, and its arrays one after another, as a file that is read from its position."""

    facts: Any
    tokens: dict[str, list[str]]
    arrays: BinaryIO


def _from_0(content: Content) -> Content:
    facts = {name: value for name, value in content.facts.items() if name not in ("kernel", "catalogue")}
    whole = len(facts["features"]) == CATALOGUE_OF_0
    return content._replace(facts=facts | {"features": None if whole else facts["features"]})


CONVERTERS: dict[int, Callable[[Content], Content]] = {0: _from_0}  # from each earlier layout to the next one


def converted(content: Content, path: Path) -> Content:
    """Returns the content of a snapshot in the layout of this version.

    Raises:
        LayoutError: if this version has no converter for the snapshot's layout.
    """
    layout = content.facts["layout"] if "layout" in content.facts else _layout_of(content.facts["kernel"])
    while layout in CONVERTERS and layout != LAYOUT:
        content, layout = CONVERTERS[layout](content), layout + 1
    if layout != LAYOUT:
        raise LayoutError(
            f"{path}: state of layout {layout!r:.20}; expected {min(CONVERTERS)} to {LAYOUT}; start the version that "
            "wrote it, or fill a new folder with `callsieve live fill`"
        )
    return content


def _layout_of(kernel: object) -> int | None:
    return 0 if str(kernel)[:16] in KERNELS_OF_0 else None
