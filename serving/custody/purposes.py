"""Declarations: what a folder of calls or registers may be used for, declared once and checked by every reader.

`dataset.json` states where the rows come from, on what legal basis they are held, for which purposes, and until when.
It covers every file beside it. A simulated world (`world.json`) contains no real person's calls: it serves every
purpose and does not expire.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.strict_json import as_fields, as_list, as_text, decode, encode

FILE, SIMULATED = "dataset.json", "world.json"
PURPOSES = ("scoring", "training", "evaluation", "monitoring", "statistics", "export", "reidentification")
_KIND = "callsieve dataset"


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


def declare(folder: Path, source: str, basis: str, purposes: Iterable[str], until: str) -> Declaration:
    """Writes the declaration of a folder.

    Raises:
        FileExistsError: if the folder is declared already. A later purpose needs a new data set or a new decision.
        ValueError: for an unknown purpose or an invalid day.
    """
    now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    declaration = Declaration(source, basis, tuple(purposes), until, now)
    _check(declaration)
    fields = asdict(declaration) | {"kind": _KIND, "purposes": list(declaration.purposes)}
    del fields["simulated"]
    try:
        with (folder / FILE).open("xb") as file:
            file.write(encode(fields))
    except FileExistsError as error:
        raise FileExistsError(f"{folder / FILE}: the folder is declared already") from error
    return declaration


def require_purpose(path: Path, purpose: str) -> Declaration:
    """Returns the declaration of a folder, or of a file's folder, if it permits the purpose.

    Raises:
        ValueError: if there is no declaration, it has expired, or it does not permit the purpose.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    declaration = current_declaration(path)
    if not declaration.simulated and purpose not in declaration.purposes:
        raise ValueError(f"{_folder(path)}: declared for {', '.join(declaration.purposes)}, not for {purpose}")
    return declaration


def current_declaration(path: Path) -> Declaration:
    """Returns the declaration of a folder, or of a file's folder.

    Raises:
        ValueError: if there is no declaration, or it has expired.
    """
    if not path.exists():
        raise ValueError(f"{path}: not found")
    folder = _folder(path)
    declaration = read_declaration(folder)
    if declaration is None:
        raise ValueError(
            f"{folder}: no declaration of source and permitted purposes: expected {FILE}; "
            "write it with callsieve privacy declare"
        )
    if not declaration.simulated and declaration.until < datetime.now(tz=UTC).date().isoformat():
        raise ValueError(
            f"{folder}: the declaration expired after {declaration.until}; erase the data, or declare them again with "
            "a new basis"
        )
    return declaration


def copy_declaration(folder: Path, out: Path) -> None:
    """Copies the declaration of a folder to a folder of derived data, to which it also applies.

    Raises:
        ValueError: if there is no declaration, or it has expired.
    """
    name = SIMULATED if current_declaration(folder).simulated else FILE
    write_atomic(out / name, (folder / name).read_bytes())


def read_declaration(folder: Path) -> Declaration | None:
    """Returns the declaration of a folder, expired or not; None without one.

    Raises:
        ValueError: if the declaration cannot be read.
    """
    if (folder / SIMULATED).exists():
        return Declaration("simulated", "none needed", PURPOSES, "", "", simulated=True)
    return _read(folder / FILE) if (folder / FILE).exists() else None


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _read(path: Path) -> Declaration:
    try:
        names = ("kind", "source", "basis", "purposes", "until", "declared")
        fields = as_fields(decode(path.read_bytes()), "dataset", names)
        if fields["kind"] != _KIND:
            raise ValueError(f"kind must be {_KIND!r}")
        purposes = [as_text(name, "purposes") for name in as_list(fields["purposes"], "purposes", 1, len(PURPOSES))]
        source, basis, until, at = (as_text(fields[name], name) for name in ("source", "basis", "until", "declared"))
        declaration = Declaration(source, basis, tuple(purposes), until, at)
        _check(declaration)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return declaration


def _check(declaration: Declaration) -> None:
    for name in ("source", "basis"):
        as_text(getattr(declaration, name), name)
    if not _is_day(declaration.until):
        raise ValueError("until must be a day such as 2027-01-31")
    unknown = sorted(set(declaration.purposes) - set(PURPOSES))
    if unknown or not declaration.purposes:
        raise ValueError(f"purposes must be of {', '.join(PURPOSES)}, got {', '.join(unknown) or 'none'}")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
