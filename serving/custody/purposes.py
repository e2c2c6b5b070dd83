"""Declarations: what a folder of calls or registers may be used for, checked by every reader.

`dataset.json` states where the rows come from, on what legal basis they are held, for which purposes, and until when.
It covers every file beside it. A simulated world contains no real person's calls: it serves every purpose and does not
expire. Its statement `world.json` has the simulator's seed and scenario, and a hash of the calls beside it. For other
calls the statement does not count. A folder without a declaration serves every purpose, too: its first use writes a
line on the error stream, and records name the purpose "undeclared". A policy with `require_declaration = true` refuses
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, to_builtins

from callsieve.features.files.atomic import check_present, write_atomic, write_new
from callsieve.features.files.decode import Record, as_kind, json_as
from callsieve.features.files.strict_json import decode, encode
from callsieve.features.files.toml_file import read_toml

from .command_hint import command

FILE, SIMULATED, CALLS = "dataset.json", "world.json", "calls.parquet"
PURPOSES = ("scoring", "training", "evaluation", "monitoring", "statistics", "export", "reidentification")
COVERED_BY = {"evaluation": ("training",), "monitoring": ("training", "scoring")}
"""Purposes that another one includes: who trains a model judges it, and who trains or scores watches for drift."""
UNDECLARED = "undeclared"
"""The source of a folder without a declaration, and the purpose that records name for its use."""
POLICY = "CALLSIEVE_POLICY"
"""Environment variable: the policy file whose `require_declaration` applies where no other policy does."""
_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_reported: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Declaration:
    """The declaration of a folder.

    Attributes:
        source: where the rows come from.
        basis: legal basis on which they are held.
        purposes: permitted purposes, of PURPOSES.
        until: the last UTC day of use.
        declared: UTC moment of the declaration.
        simulated: whether the folder is a simulated world.
    """

    source: str
    basis: str
    purposes: tuple[str, ...]
    until: str
    declared: str
    simulated: bool = False

    @property
    def limits(self) -> bool:
        """Whether the declaration limits the use: it is neither that of a simulated world nor missing."""
        return not self.simulated and self.source != UNDECLARED

    def in_record(self, purpose: str) -> str:
        """Returns the purpose as a record names it: "undeclared" for a folder without a declaration."""
        return UNDECLARED if self.source == UNDECLARED else purpose


class _File(Record, frozen=True):
    """The content of `dataset.json`."""

    kind: Literal["callsieve dataset"]
    source: str
    basis: str
    purposes: Annotated[tuple[Literal[PURPOSES], ...], Meta(min_length=1, max_length=len(PURPOSES))]  # type: ignore[valid-type]
    until: date
    declared: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == UNDECLARED:
            raise ValueError(f"source: expected where the rows come from, got {UNDECLARED!r}")

    def declaration(self) -> Declaration:
        return Declaration(self.source, self.basis, self.purposes, self.until.isoformat(), self.declared)


class _World(Struct, frozen=True):
    """The part of `world.json` that states a simulation."""

    seed: str
    size: str
    scenario: _Hash
    calls: _Hash


Enter = Callable[[Mapping[str, Any] | None], object]
"""Records the content that `dataset.json` is about to get, None before its removal."""


def declare(
    folder: Path,
    source: str,
    basis: str,
    purposes: Iterable[str],
    until: str,
    *,
    change: bool = False,
    enter: Enter = lambda _content: None,
) -> Declaration:
    """Writes the declaration of a folder."""
    now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"kind": "callsieve dataset", "source": source, "basis": basis, "until": until, "declared": now}
    content = as_kind(fields | {"purposes": list(purposes)}, _File, "")
    if change:
        declaration_to_change(folder)
    elif (folder / FILE).exists():
        raise FileExistsError(f"{folder / FILE}: the folder is declared already; change it with --change")
    else:
        check_present(folder)
    enter(to_builtins(content))
    (write_atomic if change else write_new)(folder / FILE, encode(to_builtins(content)))
    return content.declaration()


def undeclare(folder: Path, enter: Enter = lambda _content: None) -> None:
    """Removes the declaration of a folder."""
    declaration_to_change(folder)
    enter(None)
    (folder / FILE).unlink()


def require_purpose(path: Path, purpose: str, *, must_be_declared: bool | None = None) -> Declaration:
    """Returns the declaration of a folder, or of a file's folder, if it permits the purpose.

    `must_be_declared`: whether a folder without a declaration is refused; by default as for `current_declaration`.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    declaration = current_declaration(path, purpose, must_be_declared=must_be_declared)
    permitted = {purpose, *COVERED_BY.get(purpose, ())}
    if declaration.limits and permitted.isdisjoint(declaration.purposes):
        folder, names = _folder(path), (*declaration.purposes, purpose)
        change = " ".join(f"--purpose {name}" for name in names)
        raise ValueError(
            f"{folder}: declared for {', '.join(declaration.purposes)}, not for {purpose}; if it may be used so: "
            f"{command(f'privacy declare {folder} --change {change}')}"
        )
    return declaration


def current_declaration(path: Path, use: str = "use", *, must_be_declared: bool | None = None) -> Declaration:
    """Returns the declaration of a folder, or of a file's folder.

    A folder without one has the source UNDECLARED and all purposes; its first use in a process writes a line on the
    error stream.

    `must_be_declared`: whether a folder without a declaration is refused; by default as the policy of the environment
    variable POLICY says.
    """
    check_present(path)
    folder = _folder(path)
    declaration = read_declaration(folder)
    if declaration is None:
        if declaration_is_required() if must_be_declared is None else must_be_declared:
            raise ValueError(
                f"{folder}: no declaration of source and permitted purposes, and the policy requires one; "
                f"write it with {command(f'privacy declare {folder}')}"
            )
        if folder.resolve() not in _reported:
            _reported.add(folder.resolve())
            sys.stderr.write(
                f"{folder}: {use} without declared purposes; declare them with {command('privacy declare')}\n"
            )
        return Declaration(UNDECLARED, "", PURPOSES, "", "")
    if declaration.limits and declaration.until < datetime.now(tz=UTC).date().isoformat():
        raise ValueError(
            f"{folder}: the declaration expired after {declaration.until}; erase the data, or declare them again with "
            f"a new basis: {command(f'privacy declare {folder} --change --until DAY --basis BASIS')}"
        )
    return declaration


def declaration_is_required() -> bool:
    """Returns `require_declaration` of the policy file that the variable POLICY names; False without one."""
    file = os.environ.get(POLICY)
    required = read_toml(Path(file)).get("require_declaration", False) if file else False
    if type(required) is not bool:
        raise ValueError(f"{file}: require_declaration: expected true or false, got {required!r}")
    return required


def copy_declaration(folder: Path, out: Path) -> None:
    """Copies the declaration of a folder, if it has one, to a folder of derived data, to which it also applies.

    The statement of a simulated world then is about the derived calls, so they must be there already.
    """
    declaration = current_declaration(folder)
    if declaration.source == UNDECLARED:
        _reported.add(out.resolve())  # the line about the folder is enough
        return
    name = SIMULATED if declaration.simulated else FILE
    data = (folder / name).read_bytes()
    if declaration.simulated and (out / CALLS).is_file():
        data = f"{json.dumps(decode(data) | {'calls': calls_hash(out / CALLS)}, indent=1)}\n".encode()
    write_atomic(out / name, data)


def calls_hash(calls: Path) -> str:
    """Returns the hash of a Parquet file's size and footer, which has the place and the size of every column; in hex.

    It identifies a file of any size at once.
    """
    with calls.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or length + 8 > size:
            raise ValueError(f"{calls}: expected a Parquet file")
        file.seek(size - 8 - length)
        return hashlib.sha256(size.to_bytes(8, "little") + file.read(length)).hexdigest()


def is_simulated(folder: Path) -> bool:
    """Returns whether a folder has the statement of the simulator, about the calls beside it if there are any."""
    path, calls = folder / SIMULATED, folder / CALLS
    if not path.is_file():
        return False
    try:
        statement = json_as(_World, path.read_bytes(), str(path))
        return not calls.exists() or (calls.is_file() and calls_hash(calls) == statement.calls)
    except ValueError:
        return False


def read_declaration(folder: Path) -> Declaration | None:
    """Returns the declaration of a folder, expired or not; None without one."""
    if is_simulated(folder):
        return Declaration("simulated", "none needed", PURPOSES, "", "", simulated=True)
    file = folder / FILE
    return json_as(_File, file.read_bytes(), str(file)).declaration() if file.exists() else None


def declared_content(folder: Path) -> dict[str, Any] | None:
    """Returns the content of `dataset.json` as JSON values; None without the file."""
    file = folder / FILE
    content: dict[str, Any] | None = decode(file.read_bytes()) if file.exists() else None
    return content


def declaration_to_change(folder: Path) -> Declaration:
    """Returns the declaration of a folder, expired or not. Raises ValueError if it has none that can be changed."""
    check_present(folder)
    declaration = read_declaration(folder)
    if declaration is None or declaration.simulated:
        why = "no declaration" if declaration is None else "a simulated world needs no declaration"
        raise ValueError(f"{folder}: {why}; nothing to change")
    return declaration


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent
