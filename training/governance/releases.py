"""What was released before: the counts that others hold, kept so that a new release can be held against them.

A folder with one JSON file a release: which cells were shown, of which days, and their counts. No person is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from callsieve.features.files.folders import write_whole

from .disclosure import Cell, Count

KIND, FORMAT = "callsieve release", 1


@dataclass(frozen=True, slots=True)
class Release:
    """The cells that a release showed, and how many records each had."""

    name: str
    cells: Mapping[Cell, int]


def read_releases(folder: Path) -> list[Release]:
    """All releases of a folder, the oldest first.

    Raises:
        ValueError: if a file is not a release: what it showed is then not known, and nothing can be held against it.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def add_release(folder: Path, shown: Mapping[Cell, Count]) -> str:
    """Keep what is about to be shown; returns the name of the release."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()]
    name = f"{max(taken, default=0) + 1:04d}"
    cells = [[*cell, count.records] for cell, count in sorted(shown.items())]
    text = json.dumps({"kind": KIND, "format": FORMAT, "cells": cells}, ensure_ascii=False)
    write_whole(folder / f"{name}.json", text.encode())
    return name


def of_periods(releases: Iterable[Release], periods: set[str]) -> list[Release]:
    """What releases showed of these periods; those that showed nothing of them are left out."""
    kept = [Release(one.name, {cell: n for cell, n in one.cells.items() if cell.period in periods}) for one in releases]
    return [one for one in kept if one.cells]


def _read(path: Path) -> Release:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["kind"] != KIND or said["format"] != FORMAT:
            raise ValueError
        return Release(path.stem, {Cell(*map(str, row[:5])): int(row[5]) for row in said["cells"]})
    except (ValueError, KeyError, TypeError, IndexError):
        raise ValueError(
            f"{path}: expected a release that callsieve wrote; without it nothing can be checked"
        ) from None
