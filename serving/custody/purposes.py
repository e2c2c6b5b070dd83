"""What a folder of calls or registers may be used for: declared once, asked for by every reader.

`dataset.json` says where the rows come from, on what legal basis they are held, for which purposes, and until when; it
speaks for every file beside it. A simulated world (`world.json`) holds nobody's calls: it serves every purpose and is
kept as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from callsieve.features.files.folders import write_whole
from callsieve.features.files.strict_json import as_fields, as_list, as_text, decode, encode

FILE, SIMULATED = "dataset.json", "world.json"
PURPOSES = ("scoring", "training", "evaluation", "monitoring", "statistics", "export", "reidentification")
_KIND = "callsieve dataset"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is said of a folder."""

    source: str
    basis: str
    purposes: tuple[str, ...]
    until: str  # the last UTC day
    declared: str
    simulated: bool = False


def declare(folder: Path, source: str, basis: str, purposes: Iterable[str], until: str) -> Declaration:
    """Say of a folder what it may be used for.

    Raises:
        FileExistsError: if something was said already; a purpose that comes later is a new data set, or a new decision.
        ValueError: for a purpose or a day that is none.
    """
    told = Declaration(source, basis, tuple(purposes), until, datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    _check(told)
    plain = asdict(told) | {"kind": _KIND, "purposes": list(told.purposes)}
    del plain["simulated"]
    try:
        with (folder / FILE).open("xb") as file:
            file.write(encode(plain))
    except FileExistsError as error:
        raise FileExistsError(f"{folder / FILE}: something was declared already") from error
    return told


def require_purpose(path: Path, purpose: str) -> Declaration:
    """What is said of a folder, or of the folder that a file is in, if it may be used for this.

    Raises:
        ValueError: if nothing is said of it, or not this purpose, or its time is over.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    told = current_declaration(path)
    if not told.simulated and purpose not in told.purposes:
        raise ValueError(f"{_folder(path)}: declared for {', '.join(told.purposes)}, not for {purpose}")
    return told


def current_declaration(path: Path) -> Declaration:
    """What is said of a folder, or of the folder that a file is in, while its time is not over.

    Raises:
        ValueError: if nothing is said of it, or its time is over.
    """
    if not path.exists():
        raise ValueError(f"{path}: not found")
    folder = _folder(path)
    told = read_declaration(folder)
    if told is None:
        raise ValueError(
            f"{folder}: nobody said where these rows are from and what they may be used for: expected {FILE}; "
            "see callsieve privacy declare"
        )
    if not told.simulated and told.until < datetime.now(tz=UTC).date().isoformat():
        raise ValueError(f"{folder}: was to be used until {told.until}; erase it, or declare it anew with a new basis")
    return told


def copy_declaration(folder: Path, out: Path) -> None:
    """What is said of a folder holds for what is made of it: write it down there, too.

    Raises:
        ValueError: as of `current_declaration`.
    """
    name = SIMULATED if current_declaration(folder).simulated else FILE
    write_whole(out / name, (folder / name).read_bytes())


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def read_declaration(folder: Path) -> Declaration | None:
    """What is said of a folder, its time over or not; None if nothing is.

    Raises:
        ValueError: if it cannot be read.
    """
    if (folder / SIMULATED).exists():
        return Declaration("simulated", "none needed", PURPOSES, "", "", simulated=True)
    return _read(folder / FILE) if (folder / FILE).exists() else None


def _read(path: Path) -> Declaration:
    try:
        names = ("kind", "source", "basis", "purposes", "until", "declared")
        value = as_fields(decode(path.read_bytes()), "dataset", names)
        if value["kind"] != _KIND:
            raise ValueError(f"kind must be {_KIND!r}")
        purposes = [as_text(word, "purposes") for word in as_list(value["purposes"], "purposes", 1, len(PURPOSES))]
        source, basis, until, at = (as_text(value[name], name) for name in ("source", "basis", "until", "declared"))
        told = Declaration(source, basis, tuple(purposes), until, at)
        _check(told)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return told


def _check(told: Declaration) -> None:
    for name in ("source", "basis"):
        as_text(getattr(told, name), name)
    if not _is_day(told.until):
        raise ValueError("until must be a day such as 2027-01-31")
    odd = sorted(set(told.purposes) - set(PURPOSES))
    if odd or not told.purposes:
        raise ValueError(f"purposes must be of {', '.join(PURPOSES)}, got {', '.join(odd) or 'none'}")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
