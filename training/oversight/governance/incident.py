"""The incident drill: the scope of an incident, the deadlines, and the notices in English and Chinese.

The scope is the affected data sets, the number of people (no identities), token epochs, and keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, StrictUndefined
from msgspec import Meta

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.decode import Record, toml_as
from callsieve.features.files.masking import has_long_digits, masked
from callsieve.features.keys.tokens import is_token, read_any_key
from callsieve.serving.bundle.signing import key_id, read_signing_key
from callsieve.training.oversight.log.tickets import MOST_WITHOUT

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
PEOPLE = ("caller", "callee", "number", "reporter")
KINDS = {
    "number": frozenset(PEOPLE),
    "call record": frozenset({"ring", "talk"}),
    "place": frozenset({"place"}),
    "device": frozenset({"device"}),
    "report": frozenset({"reporter"}),
    "preference": frozenset({"accepts", "industry"}),
}
CALL_RECORDS = MOST_WITHOUT + 1
"""Handing over this many call records is a crime (judicial interpretation of 2017, article 5)."""


class Handler(Record, frozen=True):
    """The operator who sends the notices."""

    name: str
    contact: str


class Account(Record, frozen=True):
    """An account of the incident in one language; the notices quote it."""

    cause: str
    harm: str
    measures: str
    people_can: str


class Incident(Record, frozen=True):
    """An incident or a drill, as `incident.toml` in this package; folders are relative to the file."""

    drill: bool
    what: Literal["leaked", "altered", "lost"]
    found: Annotated[datetime, Meta(tz=True)]
    folders: Annotated[tuple[str, ...], Meta(min_length=1)]
    handler: Handler
    en: Account
    zh: Account


class Notice(TypedDict):
    """The template of a notice: hours from the discovery to its deadline, and its text by language."""

    hours: int
    en: str
    zh: str


def read_incident(path: Path) -> Incident:
    """Reads an incident record, a TOML file in the format of `incident.toml` in this package."""
    incident = toml_as(Incident, path)
    for table, texts in {"handler": incident.handler, "en": incident.en, "zh": incident.zh}.items():
        for name in texts.__struct_fields__:
            if has_long_digits(getattr(texts, name)):
                raise ValueError(
                    f"{path}: {table}.{name} may contain a telephone number; remove it: the text is written to files"
                )
    return incident


def drill(record: Path, out: Path) -> dict[str, Any]:
    """Determines the scope of an incident and writes `incident.json` and the notices.

    Returns: the content of `incident.json`, with `notices`: the file names of the notices.
    """
    incident = read_incident(record)
    scope = affected(record.parent / folder for folder in incident.folders)
    clocks = {
        name: (incident.found + timedelta(hours=template["hours"])).isoformat() for name, template in _notices().items()
    }
    facts = {
        "drill": incident.drill,
        "what": incident.what,
        "found": incident.found.isoformat(),
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


def notice(name: str, language: str, incident: Incident, scope: Affected) -> str:
    """Returns a notice as Markdown text, without open placeholders."""
    template = _notices()[name]
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - Markdown, not HTML
    chinese = language == "zh"
    mark = ("【演练】" if chinese else "DRILL: ") if incident.drill else ""
    return environment.from_string((template["zh"] if chinese else template["en"]).lstrip()).render(
        mark=mark,
        due=_moment(incident.found + timedelta(hours=template["hours"]), chinese),
        found=_moment(incident.found, chinese),
        what=WHAT[incident.what] if chinese else incident.what,
        handler=incident.handler,
        text=incident.zh if chinese else incident.en,
        affected=_scope_lines(scope, chinese),
        kinds=_kinds(scope, chinese),
    )


def _notices() -> dict[str, Notice]:
    return toml_as(dict[str, Notice], files(__package__).joinpath("notices.toml"))


def _moment(at: datetime, chinese: bool) -> str:
    if chinese:
        return f"{at.year}年{at.month}月{at.day}日{at:%H:%M}（UTC{at.isoformat()[-6:]}）"
    return at.isoformat(sep=" ", timespec="minutes")


def _kinds(scope: Affected, chinese: bool) -> str:
    if not scope.kinds:
        return "无" if chinese else "none"
    return "、".join(KINDS_ZH[kind] for kind in scope.kinds) if chinese else ", ".join(scope.kinds)


def _scope_lines(scope: Affected, chinese: bool) -> str:
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


class Dataset(TypedDict):
    """An affected table. Rows and people are None if the file cannot be read."""

    file: str
    rows: int | None
    people: int | None
    epochs: list[str]
    kinds: list[str]


@dataclass(slots=True)
class Affected:
    """The scope. `people` counts tokens: a person may have several numbers, and has another token in each epoch."""

    datasets: list[Dataset] = field(default_factory=list)
    people: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    keys: list[dict[str, str]] = field(default_factory=list)
    others: int = 0

    @property
    def kinds(self) -> list[str]:
        """Returns the kinds of personal information in the data sets, each kind once."""
        return [kind for kind in KINDS if any(kind in dataset["kinds"] for dataset in self.datasets)]

    @property
    def call_records(self) -> int:
        """Returns the number of call records in all data sets."""
        return sum(dataset["rows"] or 0 for dataset in self.datasets if "call record" in dataset["kinds"])

    @property
    def readable(self) -> list[str]:
        """Returns the epochs whose key is affected as well, so that their tokens can be turned into numbers.

        To read callees in verdicts and exports, a callee key and a record key are needed together.
        """
        ids = {kind: {key["id"] for key in self.keys if key["kind"] == kind} for kind in ("records", "callees")}
        return sorted(self.epochs.keys() & (ids["records"] | (ids["callees"] if ids["records"] else set())))


def affected(folders: Iterable[Path]) -> Affected:
    """Scans folders for data sets and keys."""
    scope, tokens = Affected(), set[str]()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; expected a copy of the affected data")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = masked(path.relative_to(folder).as_posix())
            if path.suffix == ".parquet" and not path.name.startswith("."):
                scope.datasets.append(_dataset(path, name, tokens))
            elif key := _key(path):
                scope.keys.append({"file": name} | key)
            else:
                scope.others += 1
    scope.people = len(tokens)
    for token in tokens:
        epoch = token.partition(".")[0]
        scope.epochs[epoch] = scope.epochs.get(epoch, 0) + 1
    return scope


def _dataset(path: Path, name: str, tokens: set[str]) -> Dataset:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = [column for column in PEOPLE if column in file.schema_arrow.names]
            kinds = [kind for kind, needed in KINDS.items() if needed & set(file.schema_arrow.names)]
            rows, tokens_here = file.metadata.num_rows, set[str]()
            for batch in file.iter_batches(columns=columns) if columns else ():
                tokens_here.update(_tokens(batch))
    except (pa.ArrowException, OSError):
        return {"file": name, "rows": None, "people": None, "epochs": [], "kinds": []}
    tokens |= tokens_here
    epochs = sorted({token.partition(".")[0] for token in tokens_here})
    return {"file": name, "rows": rows, "people": len(tokens_here), "epochs": epochs, "kinds": kinds}


def _tokens(batch: pa.RecordBatch) -> Iterator[str]:
    for column in batch.columns:
        values = column.dictionary if pa.types.is_dictionary(column.type) else pc.unique(column)
        if pa.types.is_string(values.type):
            yield from (value for value in values.to_pylist() if value and is_token(value))


def _key(path: Path) -> dict[str, str] | None:
    if path.stat().st_size > 4096:
        return None
    try:
        return {"kind": "signing", "id": key_id(read_signing_key(path).public_key())}
    except (ValueError, OSError):
        pass
    try:
        key = read_any_key(path)
    except (ValueError, OSError):
        return None
    return {"kind": key.purpose, "id": key.epoch}
