"""The folders of a training: where their calls come from, and what each folder is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .dataset import Dataset, check_folder, read_dataset

# "both": some groups are learnt from, the others certify, later. "learn": all groups are learnt from. "certify": the
# folder is used for the certificate alone.
Role = Literal["both", "learn", "certify"]


@dataclass(frozen=True, slots=True)
class Source:
    """Calls that a training reads when their turn comes, so that only one folder is in memory.

    Attributes:
        name: where the calls come from, for the record.
        role: what the calls are for.
        read: returns the data set.
    """

    name: str
    role: Role
    read: Callable[[], Dataset]


def sources_of(data: Dataset | Sequence[Source]) -> Sequence[Source]:
    """Returns a data set as the only source of a training; sources are returned as they are."""
    return [Source("", "both", lambda: data)] if isinstance(data, Dataset) else data


def read_once(sources: Sequence[Source]) -> Sequence[Source]:
    """Returns the sources; a single one is read now and stays in memory. Several are read each time, one at a time."""
    if len(sources) != 1:
        return sources
    dataset = sources[0].read()
    return [replace(sources[0], read=lambda: dataset)]


def folder_sources(learn: Sequence[Path], certify: Sequence[Path] = ()) -> list[Source]:
    """Returns the sources of a training on folders, those to certify on last.

    Without `certify`, each folder is both learnt from and certified on.
    """
    role: Role = "learn" if certify else "both"
    by_role: list[tuple[Role, Path]] = [(role, folder) for path in learn for folder in _folders_of(path)]
    by_role += [("certify", folder) for path in certify for folder in _folders_of(path)]
    for _, folder in by_role:
        check_folder(folder)
    resolved = [folder.resolve() for _, folder in by_role]
    for place, (_, folder) in enumerate(by_role):
        if resolved[place] in resolved[:place]:
            raise ValueError(f"{folder}: the folder is listed twice; a group must not be in two folders")
    return [folder_source(folder, role) for role, folder in by_role]


def folder_source(folder: Path, role: Role) -> Source:
    """Returns a folder of calls as a source of a training or an adaptation; `folder_sources` checks its labels."""
    return Source(str(folder), role, lambda: read_dataset(folder, labels=False))


def _folders_of(path: Path) -> list[Path]:
    if (path / "calls.parquet").exists() or not path.is_dir():
        return [path]
    folders = [file.parent for file in path.glob("*/calls.parquet")]
    if not folders:
        raise ValueError(f"{path}: expected calls.parquet, in this folder or in its sub-folders")
    return sorted(
        folders, key=lambda folder: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", folder.name)]
    )
