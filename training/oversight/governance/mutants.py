"""Mutants: small patches of the code, each of which takes away a capability that a requirement asks for.

`tests/tools/mutants.toml` lists them. A test that verifies a requirement must fail on the requirement's mutants;
`tests/tools/teeth.py` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml

MUTANTS = Path("tests/tools/mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A patch that replaces one text of a file.

    Attributes:
        name: the capability that is lost, as a sentence.
        rows: the requirements (of `sources.toml`) that the code no longer meets.
        file: the patched file, relative to the source tree.
        old: a text that occurs exactly once in the file.
        new: the text in its place.
    """

    name: str
    rows: tuple[str, ...]
    file: str
    old: str
    new: str

    def patched(self, text: str) -> str:
        """Returns the text of the file with the patch.

        Raises:
            ValueError: if `old` does not occur exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{MUTANTS}, {self.name!r}: `old` must occur exactly once in {self.file}, got {count}")
        return text.replace(self.old, self.new)


def read_mutants(root: Path) -> list[Mutant]:
    """Returns the mutants of a source tree, in the order of the file; none without the file.

    Raises:
        ValueError: if the file is not valid TOML, or an entry lacks a key, has an unknown one or one of another type.
    """
    path = root / MUTANTS
    return [_mutant(name, table) for name, table in read_toml(path, MUTANTS).items()] if path.exists() else []


def _mutant(name: str, table: Any) -> Mutant:
    try:
        rows, file, old, new = (table.pop(key) for key in ("rows", "file", "old", "new"))
        if table or not rows or not all(isinstance(text, str) for text in (*rows, file, old, new)):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{MUTANTS}, {name!r}: expected rows (a list of requirements), file, old and new") from None
    return Mutant(name, tuple(rows), file, old, new)
