"""What a folder of calls may be used for: declared once, asked for by every reader.

`dataset.json` says where the calls come from, on what legal basis they are held, and for which purposes. A simulated
world (`world.json`) holds nobody's calls: it serves every purpose and is kept as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..serving.strictjson import as_fields, as_list, as_text, decode, encode

FILE, SIMULATED = "dataset.json", "world.json"
PURPOSES = ("training", "evaluation", "monitoring", "statistics", "export", "reidentification")
_KIND = "callsieve dataset"


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said of a folder."""

    source: str
    basis: str
    purposes: tuple[str, ...]
    declared: str
    simulated: bool = False


def declare(folder: Path, source: str, basis: str, purposes: Iterable[str]) -> Declared:
    """Say of a folder what it may be used for.

    Raises:
        FileExistsError: if something was said already; a purpose that comes later is a new data set, or a new decision.
        ValueError: for a purpose that is none.
    """
    told = Declared(source, basis, tuple(purposes), datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    _check(told)
    plain = asdict(told) | {"kind": _KIND, "purposes": list(told.purposes)}
    del plain["simulated"]
    with (folder / FILE).open("xb") as file:
        file.write(encode(plain))
    return told


def allowed(folder: Path, purpose: str) -> Declared:
    """What is said of a folder, if it may be used for this.

    Raises:
        ValueError: if nothing is said of it, or not this purpose.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    if (folder / SIMULATED).exists():
        return Declared("simulated", "none needed", PURPOSES, "", simulated=True)
    if not (folder / FILE).exists():
        raise ValueError(
            f"{folder}: nobody said where these calls are from and what they may be used for: expected {FILE}; "
            "see callsieve dataset declare"
        )
    told = _read(folder / FILE)
    if purpose not in told.purposes:
        raise ValueError(f"{folder}: declared for {', '.join(told.purposes)}, not for {purpose}")
    return told


def _read(path: Path) -> Declared:
    try:
        names = ("kind", "source", "basis", "purposes", "declared")
        value = as_fields(decode(path.read_bytes()), "dataset", names)
        if value["kind"] != _KIND:
            raise ValueError(f"kind must be {_KIND!r}")
        purposes = [as_text(word, "purposes") for word in as_list(value["purposes"], "purposes", 1, len(PURPOSES))]
        source, basis, at = (as_text(value[name], name) for name in ("source", "basis", "declared"))
        told = Declared(source, basis, tuple(purposes), at)
        _check(told)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return told


def _check(told: Declared) -> None:
    for name in ("source", "basis"):
        as_text(getattr(told, name), name)
    odd = sorted(set(told.purposes) - set(PURPOSES))
    if odd or not told.purposes:
        raise ValueError(f"purposes must be of {', '.join(PURPOSES)}, got {', '.join(odd) or 'none'}")
