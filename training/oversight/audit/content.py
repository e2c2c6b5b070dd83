"""The content of an audit log as a verification reads it: sound entries, the payloads that still exist, and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callsieve.training.language import gettext, words
from callsieve.training.oversight.log.audit_log import ERASABLE, MOVES, PAYLOADS, read_payload
from callsieve.training.oversight.log.entry import Entry
from callsieve.training.oversight.log.folder_log import COMPLAINT, DECLARATION
from callsieve.training.oversight.log.payload_types import GatesPayload, Move, Payload, RunPayload, TouchPayload

COMPARED = ("run", "version", "registered", "record")  # fields of a run's entry that a verification reads


@dataclass(frozen=True, slots=True)
class Fault:
    """The place of a fault, such as an entry, a run or an artifact, and its description, in the language in force.

    A fault is a difference between the audit log and the data that it describes.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return gettext("%(where)s: %(what)s", where=self.where, what=self.what)


def entry_place(index: int) -> str:
    """Returns the place of a fault in an entry of the log."""
    return gettext("entry %(index)s", index=index)


@dataclass(frozen=True, slots=True)
class Content:
    """The sound entries of a log, and the payloads that still exist, by kind and index.

    Attributes:
        entries: entries that are as signed.
        runs: without incomplete ones.
        moves: promotions and rollbacks.
        declarations: of the folder that the log is in.
        steps: of complaints.
        erased: the entry that records the erasure of a payload, by the entry whose payload was erased.
    """

    entries: Sequence[Entry]
    gates: dict[int, GatesPayload] = field(default_factory=dict)
    touches: dict[int, TouchPayload] = field(default_factory=dict)
    runs: dict[int, RunPayload] = field(default_factory=dict)
    moves: dict[int, Move] = field(default_factory=dict)
    declarations: dict[int, Payload] = field(default_factory=dict)
    steps: dict[int, Payload] = field(default_factory=dict)
    erased: dict[int, int] = field(default_factory=dict)

    @property
    def log_id(self) -> str:
        """The hash of the first entry, which tells a log from other logs; "" without entries."""
        return self.entries[0].leaf() if self.entries else ""

    @property
    def unnamed(self) -> int:
        """Number of entries that do not name their run: their payload is erased or incomplete."""
        return sum(entry.kind == "run" for entry in self.entries) - len(self.runs)

    def add(self, entry: Entry, payload: Payload) -> Sequence[Fault]:
        """Adds a payload; returns a fault if it is of a run and incomplete."""
        if entry.kind == "run" and (absent := [name for name in COMPARED if name not in payload]):
            what = gettext("has no %(names)s: its run is not compared", names=", ".join(absent))
            return [Fault(entry_place(entry.index), what)]
        by_kind: dict[str, dict[int, Any]] = {"gates": self.gates, "touch": self.touches, "run": self.runs}
        by_kind |= {**dict.fromkeys(MOVES, self.moves), DECLARATION: self.declarations, COMPLAINT: self.steps}
        if entry.kind in by_kind:
            by_kind[entry.kind][entry.index] = payload
        return []


def read_content(folder: Path, entries: Sequence[Entry], faulty_places: set[str]) -> tuple[Content, list[Fault]]:
    """Returns the entries with their payloads, and the faults of payloads."""
    content, faults, absent, present = Content(entries), list[Fault](), list[Entry](), list[Entry]()
    erasures: dict[int, int] = {}
    for entry in entries:
        try:
            payload = read_payload(folder, entry)
        except ValueError as error:
            faults.append(Fault(entry_place(entry.index), str(error)))
            continue
        if payload is None:
            absent.append(entry)
            continue
        present.append(entry)
        faults += content.add(entry, payload)
        if entry.kind == "erasure":
            erasures[entry.index] = int(payload["entry"])
    kinds = {entry.index: entry.kind for entry in entries}
    content.erased.update({index: by for by, index in erasures.items()})
    faults += [
        Fault(
            entry_place(by),
            gettext("erases entry %(index)s, a %(kind)s, which must stay", index=index, kind=words(kinds[index])),
        )
        for by, index in erasures.items()
        if index in kinds and kinds[index] not in ERASABLE
    ]
    faults += [
        Fault(entry_place(entry.index), gettext("its payload is missing, and no entry records its erasure"))
        for entry in absent
        if entry.index not in content.erased
    ]
    faults += [
        Fault(entry_place(entry.index), gettext("its payload exists, though an entry records its erasure"))
        for entry in present
        if entry.index in content.erased
    ]
    places = {entry_place(entry.index) for entry in entries} | faulty_places
    faults += [
        Fault(f"{PAYLOADS}/{path.name}", gettext("belongs to no entry"))
        for path in sorted((folder / PAYLOADS).glob("*"))  # no paths if the whole folder was removed
        if not path.stem.isdecimal() or entry_place(int(path.stem)) not in places
    ]
    return content, faults
