"""A fault: a difference between the audit log and the data that it describes."""

from __future__ import annotations

from dataclasses import dataclass

from callsieve.training.language import gettext


@dataclass(frozen=True, slots=True)
class Fault:
    """The place of a fault, such as an entry, a run or an artifact, and its description, in the language in force."""

    where: str
    what: str

    def __str__(self) -> str:
        return gettext("%(where)s: %(what)s", where=self.where, what=self.what)


def entry_place(index: int) -> str:
    """Returns the place of a fault in an entry of the log."""
    return gettext("entry %(index)s", index=index)
