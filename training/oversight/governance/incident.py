"""The incident drill: determines the scope and the deadlines, and writes the notices in English and Chinese."""

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
    "number": "电话号码（假名化）",
    "call record": "通话记录",
    "place": "位置（假名化）",
    "device": "设备（假名化）",
    "report": "举报记录",
    "preference": "接收意愿",
}
ITEMS = ("cause", "harm", "measures", "people_can")


def read_incident(path: Path) -> dict[str, Any]:
    """Reads an incident record, a TOML file in the format of `incident.toml` in this package.

    Raises:
        ValueError: if an item is missing or malformed, or a text may contain a telephone number.
    """
    incident = read_toml(path)
    texts = {("handler", name) for name in ("name", "contact")} | {
        (language, item) for language in LANGUAGES for item in ITEMS
    }
    for table, name in sorted(texts):
        text = incident.get(table, {}).get(name) if isinstance(incident.get(table), dict) else None
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{path}: {table}.{name}: expected a text, because a notice quotes it")
        if has_long_digits(text):
            raise ValueError(
                f"{path}: {table}.{name} may contain a telephone number; remove it: the text is written to files"
            )
    if incident.get("what") not in WHAT or not isinstance(incident.get("drill"), bool):
        raise ValueError(f"{path}: expected what = one of {', '.join(WHAT)}, and drill = true or false")
    detected = incident.get("found")
    if not isinstance(detected, datetime) or detected.tzinfo is None:
        raise ValueError(f"{path}: expected found = date and time with time zone, such as 2026-03-02T09:30:00+08:00")
    folders = incident.get("folders")
    if not isinstance(folders, list) or not folders or not all(isinstance(folder, str) for folder in folders):
        raise ValueError(f"{path}: expected folders = list of at least one path")
    return incident


def drill(record: Path, out: Path) -> dict[str, Any]:
    """Determines the scope of an incident and writes `incident.json` and the notices.

    Returns:
        The content of `incident.json`, with `notices`: the file names of the notices.
    Raises:
        ValueError: if the record is incomplete, or a folder is missing.
    """
    incident = read_incident(record)
    scope = affected(record.parent / folder for folder in incident["folders"])
    clocks = {
        name: (incident["found"] + timedelta(hours=template["hours"])).isoformat()
        for name, template in _notices().items()
    }
    facts = {
        "drill": incident["drill"],
        "what": incident["what"],
        "found": incident["found"].isoformat(),
        "clocks": clocks,
        "datasets": scope.datasets,
        "people_at_most": scope.people,
        "epochs": scope.epochs,
        "keys": scope.keys,
        "readable_epochs": scope.readable,
        "call_records": scope.call_records,
        "call_records_reach_criminal_threshold": scope.call_records >= CALL_RECORDS,
        "other_files": scope.others,
    }
    texts = {
        f"{name}.{language}.md": notice(name, language, incident, scope) for name in clocks for language in LANGUAGES
    }
    facts["notices"] = sorted(texts)
    for name, text in texts.items():
        write_atomic(out / name, text.encode())
    write_atomic(out / "incident.json", (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode())
    return facts


def notice(name: str, language: str, incident: dict[str, Any], scope: Affected) -> str:
    """Returns a notice as Markdown text, without open placeholders."""
    template = _notices()[name]
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown, not HTML
    chinese = language == "zh"
    mark = ("【演练】" if chinese else "DRILL: ") if incident["drill"] else ""
    return environment.from_string(template[language].lstrip()).render(
        mark=mark,
        due=_moment(incident["found"] + timedelta(hours=template["hours"]), chinese),
        found=_moment(incident["found"], chinese),
        what=WHAT[incident["what"]] if chinese else incident["what"],
        handler=incident["handler"],
        text=incident[language],
        affected=_affected(scope, chinese),
        kinds=_kinds(scope, chinese),
    )


def _notices() -> dict[str, Any]:
    return read_toml(files(__package__).joinpath("notices.toml"))


def _moment(at: datetime, chinese: bool) -> str:
    if chinese:
        return f"{at.year}年{at.month}月{at.day}日{at:%H:%M}（UTC{at.isoformat()[-6:]}）"
    return at.isoformat(sep=" ", timespec="minutes")


def _kinds(scope: Affected, chinese: bool) -> str:
    if not scope.kinds:
        return "无" if chinese else "none"
    return "、".join(KINDS_ZH[kind] for kind in scope.kinds) if chinese else ", ".join(scope.kinds)


def _affected(scope: Affected, chinese: bool) -> str:
    """Returns the scope as Markdown list items: data sets, people, epochs and keys."""
    epochs = ", ".join(f"{epoch} ({count:,})" for epoch, count in sorted(scope.epochs.items())) or "-"
    keys = ", ".join(f"{key['kind']} {key['id']}" for key in scope.keys) or "-"
    readable = ", ".join(scope.readable) or "-"
    names = ", ".join(dataset["file"] for dataset in scope.datasets) or "-"
    if chinese:
        lines = (
            f"涉及数据集：{names}",
            f"涉及主体（假名）数：至多{scope.people:,}",
            f"通话记录数：{scope.call_records:,}",
            f"信息种类：{_kinds(scope, True)}",
            f"假名时期及数量：{epochs}",
            f"涉及密钥（编号）：{keys}",
            f"密钥一并泄露、可还原号码的时期：{readable}",
        )
    else:
        lines = (
            f"Data sets: {names}",
            f"People affected (tokens): at most {scope.people:,}",
            f"Call records: {scope.call_records:,}",
            f"Kinds of information: {_kinds(scope, False)}",
            f"Tokens by epoch: {epochs}",
            f"Affected keys, by id: {keys}",
            f"Epochs with an affected key, whose tokens can be turned into numbers: {readable}",
        )
    return "\n".join(f"- {line}" for line in lines)
