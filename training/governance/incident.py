"""The drill of an incident: what is affected, who must be told by when, and the notices, in English and Chinese."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.masking import has_long_digits
from callsieve.features.files.toml_file import read_toml

from .affected import CALL_RECORDS, Affected, affected

LANGUAGES = ("en", "zh")
WHAT = {"leaked": "泄露", "altered": "被篡改", "lost": "丢失"}
KINDS_ZH = {
    "number": "电话号码(假名化)", "call record": "通话记录", "place": "位置(假名化)", "device": "设备(假名化)",
    "report": "举报记录", "preference": "接收意愿",
}  # fmt: skip
ITEMS = ("cause", "harm", "measures", "people_can")


def read_incident(path: Path) -> dict[str, Any]:
    """What happened, as a person wrote it down; the form is that of `incident.toml` in this package.

    Raises:
        ValueError: if an item is missing, or a text has digits like a telephone number.
    """
    said = read_toml(path)
    texts = {("handler", name) for name in ("name", "contact")} | {(one, item) for one in LANGUAGES for item in ITEMS}
    for table, name in sorted(texts):
        text = said.get(table, {}).get(name) if isinstance(said.get(table), dict) else None
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{path}: {table}.{name} is missing; a notice needs it")
        if has_long_digits(text):
            raise ValueError(f"{path}: {table}.{name} may hold a telephone number; none goes into a file")
    if said.get("what") not in WHAT or not isinstance(said.get("drill"), bool):
        raise ValueError(f"{path}: expected what = one of {', '.join(WHAT)}, and drill = true or false")
    found = said.get("found")
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ValueError(f"{path}: expected found = a moment with its zone, such as 2026-03-02T09:30:00+08:00")
    folders = said.get("folders")
    if not isinstance(folders, list) or not folders or not all(isinstance(one, str) for one in folders):
        raise ValueError(f"{path}: expected folders = a list of paths")
    return said


def drill(record: Path, out: Path) -> dict[str, Any]:
    """Find what is affected and write `incident.json` and the notices.

    Returns: datasets, people, epochs, keys, readable epochs, call records, clocks, notices (file names).
    Raises:
        ValueError: if the record is not whole, or a folder is not there.
    """
    said = read_incident(record)
    found = affected(record.parent / one for one in said["folders"])
    clocks = {name: (said["found"] + timedelta(hours=one["hours"])).isoformat() for name, one in _notices().items()}
    facts = {
        "drill": said["drill"], "what": said["what"], "found": said["found"].isoformat(), "clocks": clocks,
        "datasets": found.datasets, "people_at_most": found.people, "epochs": found.epochs, "keys": found.keys,
        "readable_epochs": found.readable, "call_records": found.call_records,
        "call_records_reach_criminal_threshold": found.call_records >= CALL_RECORDS, "other_files": found.others,
    }  # fmt: skip
    texts = {f"{name}.{language}.md": notice(name, language, said, found) for name in clocks for language in LANGUAGES}
    facts["notices"] = sorted(texts)
    for name, text in texts.items():
        write_atomic(out / name, text.encode())
    write_atomic(out / "incident.json", (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode())
    return facts


def notice(name: str, language: str, said: dict[str, Any], found: Affected) -> str:
    """One notice as text; nothing in it is left open."""
    told = _notices()[name]
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown for people
    chinese = language == "zh"
    mark = ("【演练】" if chinese else "DRILL: ") if said["drill"] else ""
    return environment.from_string(told[language].lstrip()).render(
        mark=mark,
        due=_moment(said["found"] + timedelta(hours=told["hours"])),
        found=_moment(said["found"]),
        what=WHAT[said["what"]] if chinese else said["what"],
        handler=said["handler"],
        text=said[language],
        affected=_affected(found, chinese),
        kinds=_kinds(found, chinese),
    )


def _notices() -> dict[str, Any]:
    return read_toml(files(__package__).joinpath("notices.toml"))


def _moment(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="minutes")


def _kinds(found: Affected, chinese: bool) -> str:
    if not found.kinds:
        return "无" if chinese else "none"
    return "、".join(KINDS_ZH[kind] for kind in found.kinds) if chinese else ", ".join(found.kinds)


def _affected(found: Affected, chinese: bool) -> str:
    """Data sets, people, epochs and keys as lines."""
    epochs = ", ".join(f"{epoch} ({count:,})" for epoch, count in sorted(found.epochs.items())) or "-"
    keys = ", ".join(f"{one['kind']} {one['id']}" for one in found.keys) or "-"
    readable = ", ".join(found.readable) or "-"
    names = ", ".join(one["file"] for one in found.datasets) or "-"
    if chinese:
        lines = (
            f"涉及数据集:{names}", f"涉及主体(假名)数:至多{found.people:,}", f"通话记录数:{found.call_records:,}",
            f"信息种类:{_kinds(found, True)}", f"假名时期及数量:{epochs}", f"涉及密钥(编号):{keys}",
            f"密钥一并泄露、可还原号码的时期:{readable}",
        )  # fmt: skip
    else:
        lines = (
            f"Data sets: {names}", f"People concerned (tokens): at most {found.people:,}",
            f"Call records: {found.call_records:,}", f"Kinds of information: {_kinds(found, False)}",
            f"Epochs of the tokens, and how many: {epochs}", f"Keys concerned, by id: {keys}",
            f"Epochs whose key is among it, so that numbers can be read: {readable}",
        )  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)
