"""Progress of a long task, as the part done from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """A callback that receives what is being done and the part of the whole that is done, 0 to 1."""

    def __call__(self, what: str, part: float, /) -> None:
        """Shows the progress."""


def silent(_what: str, _part: float) -> None:
    """A progress callback that does nothing."""


def steps(progress: Progress, sizes: Mapping[str, float]) -> dict[str, Progress]:
    """Returns one progress callback per step, in order; each covers a share of the whole in proportion to its size.

    >>> callbacks = steps(lambda what, part: print(what, part), {"count": 1, "write": 3})
    >>> callbacks["count"]("calls", 1.0)
    calls 0.25
    >>> callbacks["write"]("calls", 0.5)
    calls 0.625
    """
    total, before, callbacks = sum(sizes.values()) or 1.0, 0.0, {}
    for name, size in sizes.items():
        callbacks[name] = _scaled(progress, before / total, size / total)
        before += size
    return callbacks


def by_size(progress: Progress, paths: Iterable[Path]) -> dict[Path, Progress]:
    """Returns one progress callback per file or folder, in proportion to its bytes."""
    sizes = {str(path): size_of(path) for path in paths}
    return {Path(name): callback for name, callback in steps(progress, sizes).items()}


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of the files directly in a folder; 0 for a path that does not exist."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _scaled(progress: Progress, begin: float, size: float) -> Progress:
    return lambda what, part: progress(what, begin + size * part)
