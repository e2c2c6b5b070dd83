"""Personal data in folders of registers as a scorer reads them: deletion and expiry.

The rule "register_NAME" of `retention.toml` applies to the lines of NAME.jsonl. An empty register remains: it states
that nothing is registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.features.files.atomic import sha256
from callsieve.serving.batch.register_files import Row, rows_of
from callsieve.serving.rules.registers import Registers, as_lines

from .rewriting import Deleted, Erasure, Expired, Rewritten, create_new_version, sync

if TYPE_CHECKING:
    from callsieve.serving.custody.retention import Retention, RetentionRule

REGISTER = "register_"


@dataclass(frozen=True, slots=True)
class _Register:
    """One register of a folder: its rows, with the moments of their retention, and its rule."""

    path: Path
    rows: list[Row]
    moments: list[int | None]
    rule: RetentionRule

    def write_without(self, removed: Sequence[bool]) -> tuple[Path | None, Rewritten]:
        """Writes the version without some rows beside the register; returns as `rewriting.write_new_version`."""
        left = [row for row, goes in zip(self.rows, removed, strict=True) if not goes]
        before, new = sha256(self.path), None
        if any(removed):
            new = create_new_version(self.path)
            new.write_bytes(as_lines(left))
            sync(new)
        return new, Rewritten(len(self.rows), len(left), before, sha256(new) if new else before)


def plan_expiry(folder: Path, rules: Retention, now: int) -> Iterator[Erasure[Expired]]:
    """Plans the erasure of expired rows of each register of a folder."""
    for register in _registers(folder, rules):
        path, rule = register.path, register.rule
        new, done = register.write_without([_is_due(moment, rule, now) for moment in register.moments])
        count_left = partial(_count_due, path, rule, now)
        yield Erasure(f"{folder.name}/{path.name}", path, done.expired(), new, count_left=count_left)


def plan_deletion(folder: Path, token: str, rules: Retention, now: int) -> Iterator[Erasure[Deleted]]:
    """Plans the deletion of a person's rows in each register of a folder, except rows below their retention floor."""
    for register in _registers(folder, rules):
        is_person = [token in (row.get("number"), row.get("callee")) for row in register.rows]
        goes = [
            names_person and not _must_stay(moment, register.rule, now)
            for names_person, moment in zip(is_person, register.moments, strict=True)
        ]
        new, done = register.write_without(goes)
        summary = done.deleted(sum(is_person), sum(is_person) - sum(goes))
        yield Erasure(f"{folder.name}/{register.path.name}", register.path, summary, new)


def _registers(folder: Path, rules: Retention) -> list[_Register]:
    """Reads each register of a folder."""
    registers = Registers.read(folder)
    by_table = {name: rules.of(REGISTER + name) for name in registers.tables}
    return [
        _Register(folder / f"{name}.jsonl", rows_of(registers, name), registers.moments(name, rule.moment), rule)
        for name, rule in by_table.items()
    ]


def _count_due(path: Path, rule: RetentionRule, now: int) -> int:
    moments = Registers.read(path.parent).moments(path.stem, rule.moment)
    return sum(_is_due(moment, rule, now) for moment in moments)


def _is_due(moment: int | None, rule: RetentionRule, now: int) -> bool:
    return moment is not None and moment < now - rule.ceiling


def _must_stay(moment: int | None, rule: RetentionRule, now: int) -> bool:
    return bool(rule.floor) and (moment is None or moment > now - rule.floor)
