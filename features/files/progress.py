"""Progress of a work of several steps, each of which tells only of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    pass


def silent(_what: str, _part: float) -> None:
    """Nobody wants to know."""


def steps(tell: Tell, sizes: Mapping[str, float]) -> dict[str, Tell]:
    """For each step, in order, whom it tells which part of itself is done; each takes as long as it is large.

    >>> inside = steps(lambda what, part: print(what, part), {"count": 1, "write": 3})
    >>> inside["count"]("calls", 1.0)
    calls 0.25
    >>> inside["write"]("calls", 0.5)
    calls 0.625
    """
    whole, before, found = sum(sizes.values()) or 1.0, 0.0, {}
    for name, size in sizes.items():
        found[name] = _within(tell, before / whole, size / whole)
        before += size
    return found


def by_size(tell: Tell, paths: Iterable[Path]) -> dict[Path, Tell]:
    """The same of files and folders, by their bytes."""
    sizes = {str(path): size_of(path) for path in paths}
    return {Path(name): told for name, told in steps(tell, sizes).items()}


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; 0 of what is not there."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _within(tell: Tell, begin: float, size: float) -> Tell:
    return lambda what, part: tell(what, begin + size * part)


class Tell(Protocol):
    """Told what is being done and which part of the whole is done, 0 to 1."""

    def __call__(self, what: str, part: float, /) -> None:
        """Show it."""
