"""A fault: a difference between the audit log and the data that it describes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """The place of a fault, such as an entry, a run or an artifact, and its description."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
