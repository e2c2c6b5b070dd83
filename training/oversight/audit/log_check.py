"""Checks the audit log alone: its lines, their order and dates, its heads, and the files beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.dates import DAY, now_ms, utc_text
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.audit_log import HEAD, LOCKS, LOG, PAYLOADS, PUBLIC_KEY, log_lines
from callsieve.training.oversight.log.entry import Entry, Head, read_line
from callsieve.training.oversight.log.merkle import roots

from .content import Fault, entry_place


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
        return entry_place(self.index)


def read_lines(folder: Path, key: Ed25519PublicKey) -> tuple[list[Line], list[Fault]]:
    """Returns the lines that are entries, and a fault for each line that differs from what the key signed."""
    lines: list[Line] = []
    faults = []
    expected = 0
    whole, incomplete = log_lines(folder)
    for text in whole:
        try:
            entry = read_line(text, "")
        except ValueError:
            faults.append(Fault(entry_place(expected), gettext("edited: its line is no longer an entry")))
            expected += 1
            continue
        line = place(entry, expected, key)
        if line.wrong:
            faults.append(Fault(line.name, gettext("edited: %(how)s", how=line.wrong)))
        lines.append(line)
        expected = line.index + 1
    if incomplete:
        what = gettext("an incomplete line of a crash or an edit; the next entry removes it")
        faults.append(Fault(entry_place(expected), what))
    return lines, faults


def place(entry: Entry, expected: int, key: Ed25519PublicKey) -> Line:
    """Returns a line with its index: the signed one, else the entry's own if its head agrees, else `expected`."""
    signed = entry.head.size - 1
    try:
        entry.head.check(key)
    except ValueError as error:
        return Line(signed if entry.index == signed else expected, entry, phrase(str(error)), signed=False)
    edited = entry.leaf() != entry.head.leaf or entry.index != signed
    return Line(signed, entry, gettext("it differs from what was signed") if edited else "", signed=True)


def order_faults(lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for each entry that follows a later one, or that occurs twice."""
    faults = []
    highest = -1
    indices = set()
    for line in lines:
        if line.index in indices:
            faults.append(Fault(line.name, gettext("occurs twice")))
        elif line.index < highest:
            faults.append(Fault(line.name, gettext("reordered: it follows entry %(highest)s", highest=highest)))
        highest = max(highest, line.index)
        indices.add(line.index)
    return faults


def date_faults(lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for each entry that is dated before an earlier entry, or in the future."""
    faults = []
    newest: Line | None = None
    soon = utc_text(now_ms() + DAY)
    for line in (line for line in lines if not line.wrong):
        if newest is not None and line.index > newest.index and line.entry.at < newest.entry.at:
            what = gettext(
                "dated %(at)s, before %(newest)s, of %(then)s: backdated",
                at=line.entry.at,
                newest=newest.name,
                then=newest.entry.at,
            )
            faults.append(Fault(line.name, what))
        elif line.entry.at > soon:
            faults.append(Fault(line.name, gettext("dated %(at)s, in the future", at=line.entry.at)))
        newest = line if newest is None or line.entry.at >= newest.entry.at else newest
    return faults


def file_faults(folder: Path) -> list[Fault]:
    """Returns a fault for each file in the log's folder that is not part of a log, for links, and for open modes."""
    own = {LOG, HEAD, PUBLIC_KEY, PAYLOADS, *LOCKS}
    paths = [folder, *sorted(folder.rglob("*"))]
    links = [path for path in paths if path.is_symlink()]
    writable = [path for path in paths if path not in links and path.stat().st_mode & 0o002]
    return [
        *(Fault(path.name, gettext("is a symbolic link: the record lies elsewhere")) for path in links),
        *(Fault(path.name, gettext("all users may write it; expected mode 644 or less")) for path in writable),
        *(Fault(f"{folder.name}/{path.name}", gettext("belongs to no log")) for path in sorted(folder.iterdir())
          if path.name not in own),
    ]  # fmt: skip


def root_faults(lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for the first entry whose signed root differs from the root of the entries up to it.

    Such an entry shows that two logs were joined. The check ends at the first entry that is unsigned or out of place.
    """
    sound = list(takewhile(lambda pair: pair[1].signed and pair[1].index == pair[0], enumerate(lines)))
    leaves = [bytes.fromhex(line.entry.head.leaf) for _, line in sound]
    for (_, line), tree_root in zip(sound, roots(leaves), strict=True):
        if line.entry.head.root != tree_root.hex():
            return [Fault(line.name, gettext("its signed root differs from the root of the entries up to it"))]
    return []


def read_heads(paths: Sequence[Path], key: Ed25519PublicKey) -> tuple[list[tuple[str, Head]], list[Fault]]:
    """Returns the signed heads with the names of their files, and a fault for each missing or unsigned head."""
    heads, faults = [], []
    for path in paths:
        try:
            head = audit_log.read_head(path)
            head.check(key)
        except FileNotFoundError:
            what = gettext("missing: without it a log that was cut short is not detected")
            faults.append(Fault(path.name, what))
        except (ValueError, OSError) as error:
            faults.append(Fault(path.name, gettext("not a signed head: %(error)s", error=phrase(str(error)))))
        else:
            heads.append((path.name, head))
    return heads, faults


def head_faults(name: str, head: Head, lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault unless the log begins with the entries that a head was signed for."""
    match = next((line.entry for line in lines if line.signed and line.entry.head.size == head.size), None)
    if match is None or match.head.root == head.root:
        return []
    return [Fault(name, gettext("signed for other first %(size)s entries: the log was rewritten", size=head.size))]


def missing(lines: Sequence[Line], faults: Sequence[Fault], size: int) -> list[Fault]:
    """Returns a fault for each signed entry that is missing and that no other fault names."""
    last = max((line.index + 1 for line in lines), default=0)
    places = {line.name for line in lines} | {fault.where for fault in faults}
    return [
        Fault(
            entry_place(index),
            gettext("missing: removed") if index < last else gettext("missing: the log was cut short"),
        )
        for index in range(max(size, last))
        if entry_place(index) not in places
    ]
