"""Verifies the audit log, and MLflow and a run's folder against it; reports every fault with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.progress import silent, steps
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.log import audit_log
from callsieve.training.log.audit_log import (
    HEAD,
    PAYLOADS,
    PUBLIC_KEY,
    Entry,
    Head,
    read_line,
    read_payload,
    whole_lines,
)
from callsieve.training.log.merkle import roots

from .fault import Fault
from .mlflow_check import poor, store_faults
from .run_folder_check import copy_faults

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log: which entry it is, what is wrong with it if anything, and whether its head is signed."""

    index: int
    entry: Entry
    wrong: str
    signed: bool

    @property
    def name(self) -> str:
        """The place for a fault."""
        return f"entry {self.index}"


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome: entries, those whose payload was erased, runs compared with MLflow, copies in the run's folder that
    were compared with the log, touches of folds, faults."""

    entries: int
    root: str
    erased: tuple[int, ...]
    runs: int
    copies: int
    touches: Mapping[str, int]
    faults: tuple[Fault, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sound": not self.faults,
            "entries": self.entries,
            "root": self.root,
            "erased": list(self.erased),
            "runs": self.runs,
            "copies": self.copies,
            "touches": dict(self.touches),
            "faults": [{"where": fault.where, "what": fault.what} for fault in self.faults],
        }


def verify(
    folder: Path,
    *,
    uri: str | None = None,
    trust: Path | None = None,
    heads: Sequence[Path] = (),
    run_folder: Path | None = None,
    tell: Progress = silent,
) -> Verified:
    """Check the log of a folder and, with `uri`, the MLflow store whose runs it tells of; with `run_folder` the copies
    in the folder of one of them, too.

    Args:
        trust: file of the key that must have signed; by default the log's own, which its keeper could replace.
        heads: signed heads that were kept elsewhere.
    Raises:
        ValueError: if there is no log or no key.
    """
    audit_log.require(folder)
    inside = steps(tell, {"log": 1, "store": 0 if uri is None else 9})
    inside["log"]("log", 0.0)
    key = read_public_key(trust or folder / PUBLIC_KEY)
    with audit_log.read_locked(folder):
        lines, faults = read_lines(folder, key)
        faults += order_faults(lines)
        faults += root_faults(lines)
        seen, unreadable = read_heads([folder / HEAD, *heads], key)
        faults += unreadable + [fault for name, head in seen for fault in head_faults(name, head, lines)]
        faults += missing(lines, faults, max((head.size for _, head in seen), default=0))
        entries = [line.entry for line in lines if not line.wrong]
        told, erased, payload_faults = read_payloads(folder, entries, {fault.where for fault in faults})
        faults += payload_faults
    if uri is not None:
        faults += store_faults(uri, entries, told, inside["store"])
    copies = 0
    if run_folder is not None:
        runs = [payload for entry, payload in told if entry.kind == "run" and not poor(entry, payload)]
        copies, differing = copy_faults(run_folder, runs)
        faults += differing
    tell("verified", 1.0)
    return Verified(
        entries=len(lines),
        root=lines[-1].entry.head.root if lines else "",
        erased=tuple(sorted(erased)),
        runs=sum(entry.kind == "run" for entry, _ in told) if uri is not None else 0,
        copies=copies,
        touches=touches(payload for entry, payload in told if entry.kind == "touch"),
        faults=tuple(dict.fromkeys(faults)),
    )


def touches(payloads: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Returns the number of looks at each test fold."""
    return dict(Counter(payload["fold"] for payload in payloads))


def read_lines(folder: Path, key: Ed25519PublicKey) -> tuple[list[Line], list[Fault]]:
    """The lines that are entries, and a fault for each that is not what the key signed."""
    lines: list[Line] = []
    faults = []
    expected = 0
    for text in whole_lines(folder):
        try:
            entry = read_line(text, "")
        except ValueError:
            faults.append(Fault(f"entry {expected}", "edited: its line is not an entry any more"))
            expected += 1
            continue
        line = place(entry, expected, key)
        if line.wrong:
            faults.append(Fault(line.name, f"edited: {line.wrong}"))
        lines.append(line)
        expected = line.index + 1
    return lines, faults


def place(entry: Entry, expected: int, key: Ed25519PublicKey) -> Line:
    """Which entry a line is: as what was signed says, else as its two numbers agree, else by where it stands."""
    signed = entry.head.size - 1
    try:
        entry.head.check(key)
    except ValueError as error:
        return Line(signed if entry.index == signed else expected, entry, str(error), signed=False)
    edited = entry.leaf() != entry.head.leaf or entry.index != signed
    return Line(signed, entry, "it is not what was signed" if edited else "", signed=True)


def order_faults(lines: Sequence[Line]) -> list[Fault]:
    """Entries that stand after a later one, or twice."""
    faults = []
    highest = -1
    seen = set()
    for line in lines:
        if line.index in seen:
            faults.append(Fault(line.name, "stands twice"))
        elif line.index < highest:
            faults.append(Fault(line.name, f"reordered: it stands after entry {highest}"))
        highest = max(highest, line.index)
        seen.add(line.index)
    return faults


def root_faults(lines: Sequence[Line]) -> list[Fault]:
    """The first entry whose signed root is not that of the signed entries up to it: two logs were joined.

    It can be told as far as every entry stands in its place and is signed.
    """
    sound = list(takewhile(lambda pair: pair[1].signed and pair[1].index == pair[0], enumerate(lines)))
    leaves = [bytes.fromhex(line.entry.head.leaf) for _, line in sound]
    for (_, line), whole in zip(sound, roots(leaves), strict=True):
        if line.entry.head.root != whole.hex():
            return [Fault(line.name, "its signed root is not that of the entries before it")]
    return []


def read_heads(paths: Sequence[Path], key: Ed25519PublicKey) -> tuple[list[tuple[str, Head]], list[Fault]]:
    """Signed heads by the name of their file, and a fault for each that is missing or not signed by the key."""
    heads, faults = [], []
    for path in paths:
        try:
            head = audit_log.read_head(path)
            head.check(key)
        except FileNotFoundError:
            faults.append(Fault(path.name, "missing: without it nothing shows that the log was not cut short"))
        except (ValueError, OSError) as error:
            faults.append(Fault(path.name, f"not a signed head: {error}"))
        else:
            heads.append((path.name, head))
    return heads, faults


def head_faults(name: str, head: Head, lines: Sequence[Line]) -> list[Fault]:
    """Whether the log begins with the entries that a head was signed for."""
    seen = next((line.entry for line in lines if line.signed and line.entry.head.size == head.size), None)
    if seen is None or seen.head.root == head.root:
        return []
    return [Fault(name, f"signed for other first {head.size} entries: the log was written anew")]


def missing(lines: Sequence[Line], faults: Sequence[Fault], size: int) -> list[Fault]:
    """Entries that were signed and are gone, apart from those that a fault names already."""
    last = max((line.index + 1 for line in lines), default=0)
    named = {line.name for line in lines} | {fault.where for fault in faults}
    return [
        Fault(f"entry {index}", "missing: removed" if index < last else "missing: the log was cut short")
        for index in range(max(size, last))
        if f"entry {index}" not in named
    ]


def read_payloads(
    folder: Path, entries: Sequence[Entry], named: set[str]
) -> tuple[list[tuple[Entry, dict[str, Any]]], set[int], list[Fault]]:
    """What the entries say, the indices of those that were erased, and faults of payloads.

    Args:
        entries: those that are what was signed; of others it is not known what they commit to.
        named: places with a fault already.
    """
    told, faults, gone = [], [], []
    for entry in entries:
        try:
            payload = read_payload(folder, entry)
        except ValueError as error:
            faults.append(Fault(f"entry {entry.index}", str(error)))
            continue
        if payload is None:
            gone.append(entry)
        else:
            told.append((entry, payload))
    erased = {int(payload["entry"]) for entry, payload in told if entry.kind == "erasure"}
    faults += [
        Fault(f"entry {entry.index}", "its payload is missing, and no entry says that it was erased")
        for entry in gone
        if entry.index not in erased
    ]
    faults += [
        Fault(f"entry {entry.index}", "its payload is there, though an entry says that it was erased")
        for entry, _ in told
        if entry.index in erased
    ]
    known = {f"entry {entry.index}" for entry in entries} | named
    faults += [
        Fault(f"{PAYLOADS}/{path.name}", "belongs to no entry")
        for path in sorted((folder / PAYLOADS).glob("*"))  # none where the whole folder was removed
        if f"entry {int(path.stem) if path.stem.isdecimal() else path.stem}" not in known
    ]
    return told, erased, faults
