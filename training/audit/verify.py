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
from .mlflow_check import lacks_fields, store_faults
from .run_folder_check import copy_faults

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log.

    Attributes:
        index: index of the entry that the line is taken for.
        entry: the parsed entry.
        wrong: fault of the line; empty if there is none.
        signed: whether the key signed its head.
    """

    index: int
    entry: Entry
    wrong: str
    signed: bool

    @property
    def name(self) -> str:
        """The place that a fault names."""
        return f"entry {self.index}"


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification.

    Attributes:
        entries: number of entries.
        root: Merkle root over all entries, in hex.
        erased: indices of the entries whose payload was erased.
        runs: number of runs that were compared with MLflow.
        copies: number of files in the run's folder that were compared with the log.
        touches: number of looks at each test fold.
        faults: all faults, without repetitions.
    """

    entries: int
    root: str
    erased: tuple[int, ...]
    runs: int
    copies: int
    touches: Mapping[str, int]
    faults: tuple[Fault, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
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
    progress: Progress = silent,
) -> Verified:
    """Verifies the log of a folder.

    Args:
        folder: folder of the log.
        uri: MLflow store that is compared with the log; None skips the comparison.
        trust: public key that must have signed the log; by default the log's own, which its operator could replace.
        heads: signed heads that were stored elsewhere.
        run_folder: folder of a run whose copies are compared with the log; None skips the comparison.
    Raises:
        ValueError: if there is no log or no key.
    """
    audit_log.require(folder)
    step_progress = steps(progress, {"log": 1, "store": 0 if uri is None else 9})
    step_progress["log"]("log", 0.0)
    key = read_public_key(trust or folder / PUBLIC_KEY)
    with audit_log.read_locked(folder):
        lines, faults = read_lines(folder, key)
        faults += order_faults(lines)
        faults += root_faults(lines)
        signed_heads, unreadable = read_heads([folder / HEAD, *heads], key)
        faults += unreadable + [fault for name, head in signed_heads for fault in head_faults(name, head, lines)]
        faults += missing(lines, faults, max((head.size for _, head in signed_heads), default=0))
        entries = [line.entry for line in lines if not line.wrong]
        payloads, erased, payload_faults = read_payloads(folder, entries, {fault.where for fault in faults})
        faults += payload_faults
    if uri is not None:
        faults += store_faults(uri, entries, payloads, step_progress["store"])
    copies = 0
    if run_folder is not None:
        runs = [payload for entry, payload in payloads if entry.kind == "run" and not lacks_fields(entry, payload)]
        copies, differing = copy_faults(run_folder, runs)
        faults += differing
    progress("verified", 1.0)
    return Verified(
        entries=len(lines),
        root=lines[-1].entry.head.root if lines else "",
        erased=tuple(sorted(erased)),
        runs=sum(entry.kind == "run" for entry, _ in payloads) if uri is not None else 0,
        copies=copies,
        touches=touches(payload for entry, payload in payloads if entry.kind == "touch"),
        faults=tuple(dict.fromkeys(faults)),
    )


def touches(payloads: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Returns the number of looks at each test fold."""
    return dict(Counter(payload["fold"] for payload in payloads))


def read_lines(folder: Path, key: Ed25519PublicKey) -> tuple[list[Line], list[Fault]]:
    """Returns the lines that are entries, and a fault for each line that differs from what the key signed."""
    lines: list[Line] = []
    faults = []
    expected = 0
    for text in whole_lines(folder):
        try:
            entry = read_line(text, "")
        except ValueError:
            faults.append(Fault(f"entry {expected}", "edited: its line is no longer an entry"))
            expected += 1
            continue
        line = place(entry, expected, key)
        if line.wrong:
            faults.append(Fault(line.name, f"edited: {line.wrong}"))
        lines.append(line)
        expected = line.index + 1
    return lines, faults


def place(entry: Entry, expected: int, key: Ed25519PublicKey) -> Line:
    """Returns a line with its index: the signed one, else the entry's own if its head agrees, else `expected`."""
    signed = entry.head.size - 1
    try:
        entry.head.check(key)
    except ValueError as error:
        return Line(signed if entry.index == signed else expected, entry, str(error), signed=False)
    edited = entry.leaf() != entry.head.leaf or entry.index != signed
    return Line(signed, entry, "it differs from what was signed" if edited else "", signed=True)


def order_faults(lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for each entry that follows a later one, or that occurs twice."""
    faults = []
    highest = -1
    indices = set()
    for line in lines:
        if line.index in indices:
            faults.append(Fault(line.name, "occurs twice"))
        elif line.index < highest:
            faults.append(Fault(line.name, f"reordered: it follows entry {highest}"))
        highest = max(highest, line.index)
        indices.add(line.index)
    return faults


def root_faults(lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for the first entry whose signed root differs from the root of the entries up to it.

    Such an entry shows that two logs were joined. The check ends at the first entry that is unsigned or out of place.
    """
    sound = list(takewhile(lambda pair: pair[1].signed and pair[1].index == pair[0], enumerate(lines)))
    leaves = [bytes.fromhex(line.entry.head.leaf) for _, line in sound]
    for (_, line), tree_root in zip(sound, roots(leaves), strict=True):
        if line.entry.head.root != tree_root.hex():
            return [Fault(line.name, "its signed root differs from the root of the entries up to it")]
    return []


def read_heads(paths: Sequence[Path], key: Ed25519PublicKey) -> tuple[list[tuple[str, Head]], list[Fault]]:
    """Returns the signed heads with the names of their files, and a fault for each missing or unsigned head."""
    heads, faults = [], []
    for path in paths:
        try:
            head = audit_log.read_head(path)
            head.check(key)
        except FileNotFoundError:
            faults.append(Fault(path.name, "missing: without it a log that was cut short is not detected"))
        except (ValueError, OSError) as error:
            faults.append(Fault(path.name, f"not a signed head: {error}"))
        else:
            heads.append((path.name, head))
    return heads, faults


def head_faults(name: str, head: Head, lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault unless the log begins with the entries that a head was signed for."""
    match = next((line.entry for line in lines if line.signed and line.entry.head.size == head.size), None)
    if match is None or match.head.root == head.root:
        return []
    return [Fault(name, f"signed for other first {head.size} entries: the log was rewritten")]


def missing(lines: Sequence[Line], faults: Sequence[Fault], size: int) -> list[Fault]:
    """Returns a fault for each signed entry that is missing and that no other fault names.

    Args:
        size: largest number of entries that a signed head states.
    """
    last = max((line.index + 1 for line in lines), default=0)
    places = {line.name for line in lines} | {fault.where for fault in faults}
    return [
        Fault(f"entry {index}", "missing: removed" if index < last else "missing: the log was cut short")
        for index in range(max(size, last))
        if f"entry {index}" not in places
    ]


def read_payloads(
    folder: Path, entries: Sequence[Entry], faulty_places: set[str]
) -> tuple[list[tuple[Entry, dict[str, Any]]], set[int], list[Fault]]:
    """Returns the entries with their payloads, the indices of erased entries, and the faults of payloads.

    Args:
        entries: entries that are as signed; the commitment of other entries is not known.
        faulty_places: places that already have a fault.
    """
    present, faults, missing_payloads = [], [], []
    for entry in entries:
        try:
            payload = read_payload(folder, entry)
        except ValueError as error:
            faults.append(Fault(f"entry {entry.index}", str(error)))
            continue
        if payload is None:
            missing_payloads.append(entry)
        else:
            present.append((entry, payload))
    erased = {int(payload["entry"]) for entry, payload in present if entry.kind == "erasure"}
    faults += [
        Fault(f"entry {entry.index}", "its payload is missing, and no entry records its erasure")
        for entry in missing_payloads
        if entry.index not in erased
    ]
    faults += [
        Fault(f"entry {entry.index}", "its payload exists, though an entry records its erasure")
        for entry, _ in present
        if entry.index in erased
    ]
    places = {f"entry {entry.index}" for entry in entries} | faulty_places
    faults += [
        Fault(f"{PAYLOADS}/{path.name}", "belongs to no entry")
        for path in sorted((folder / PAYLOADS).glob("*"))  # no paths if the whole folder was removed
        if f"entry {int(path.stem) if path.stem.isdecimal() else path.stem}" not in places
    ]
    return present, erased, faults
