"""Attributes of each call for the governance report: connecting party, trunk, industry, outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import sha256
from callsieve.features.files.dates import now_ms
from callsieve.features.files.decode import Record, toml_as
from callsieve.features.files.masking import has_long_digits
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import dictionary_column, dictionary_decoded
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.bundle.attestation import verify_attestation
from callsieve.serving.bundle.bundle import MANIFEST
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE
from callsieve.serving.bundle.signing import SIGNER, read_public_key
from callsieve.serving.custody.expiry import is_expired, unexpired_rows
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.serving.rules.plan_classes import PLAN_CLASSES
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.register_join import IndexJoins, column_of
from callsieve.serving.rules.registers import Registers
from callsieve.serving.scorer.verdict import case_id

REGISTERS = {
    "campaigns": (
        "number", "block", "business", "principal", "outsourced", "agent", "qualification",
        "valid_from", "valid_to", "known_at",
    ),
    "trunks": (
        "trunk", "number", "block", "declared_use", "subject", "access_point", "valid_from", "valid_to", "known_at",
    ),
    "number_resources": ("number", "block", "holder", "licence", "area", "valid_from", "valid_to", "known_at"),
    "preferences": ("callee", "category", "accepts", "valid_from", "valid_to", "known_at"),
    "refusals": ("callee", "industry", "valid_from", "valid_to", "known_at"),
    "licences": ("licence_number", "valid_from", "valid_to", "known_at"),
    "operators": ("operator", "name", "valid_from", "valid_to", "known_at"),
}  # fmt: skip
COMPLAINTS = ("number", "reporter", "at", "known_at", "category", "mode")
TOKENS = {"number", "block", "callee", "reporter", "trunk", "operator"}
WORDS = {
    "business", "category", "industry", "principal", "agent", "declared_use", "subject", "access_point", "holder",
    "licence", "area", "mode", "name", "qualification", "licence_number",
}  # fmt: skip
JOINED = ("campaigns", "trunks", "number_resources", "licences")
FLAGS = {"outsourced"}
ADDABLE = WORDS | FLAGS | {"block"}  # columns of registers that a file may lack
ADDABLE -= {"business", "category", "industry", "name", "licence_number"}
# Where a user of numbers states a licence: the register, the column of the user and that of the licence.
LICENSED = (("number_resources", "holder", "licence"), ("campaigns", "agent", "qualification"))
MOMENTS = {"valid_from", "valid_to", "known_at", "at"}
YES_NO = ("yes", "no")
NOT_REGISTERED = "not registered"
UNCLASSIFIED = "unclassified"  # a call with an action whose content and rules name no class


class Column(NamedTuple):
    """An attribute of calls: the index of a label for each call, or -1, and the labels."""

    codes: Array
    labels: Sequence[str]


class ScoringModel(TypedDict):
    """The model that gave the verdicts, and whether all its certificates are of simulated calls."""

    id: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class ReportData:
    """Input of the report.

    Attributes:
        calls: keyed calls, sorted by start.
        registers: register tables by name.
        complaints: columns COMPLAINTS.
        verdicts: columns of the verdicts by name: `action`, and where the file has them `plan_class` and `content`;
            empty without verdicts.
        model: the model that gave the verdicts; None if unknown.
    """

    calls: pa.Table
    registers: Mapping[str, pd.DataFrame]
    complaints: pd.DataFrame
    verdicts: Mapping[str, Column] = field(default_factory=dict)
    model: ScoringModel | None = None

    def filter(self, chosen: Array) -> ReportData:
        """Returns the data of the calls where `chosen` is true, shape (calls,)."""
        verdicts = {name: Column(column.codes[chosen], column.labels) for name, column in self.verdicts.items()}
        return replace(self, calls=self.calls.filter(pa.array(chosen)), verdicts=verdicts)


def read_report_data(folder: Path, verdicts: Path | None = None, bundle: Path | None = None) -> ReportData:
    """Reads the calls of a folder with its registers and complaints; missing files give empty tables.

    Expired calls are left out, unless the calls are simulated.
    """
    rules = read_retention() if require_purpose(folder, "statistics").limits else None
    calls = read_keyed(folder / "calls.parquet").sort_by("start")
    judged = {} if verdicts is None else _verdicts(verdicts, calls)
    model = None if verdicts is None else _scoring_model(verdicts, calls, bundle)
    lines = Registers.read(folder).columns if any((folder / f"{name}.jsonl").is_file() for name in REGISTERS) else {}
    registers = {
        name: _of_lines(lines[name], names)
        if name in lines
        else _table(folder / f"register_{name}.parquet", names, rules)
        for name, names in REGISTERS.items()
    }
    complaints = _table(folder / "complaints.parquet", COMPLAINTS, rules)
    source = ReportData(calls, registers, complaints, judged, model)
    if rules is None:
        return source
    return source.filter(np.asarray(pc.invert(is_expired(calls, rules.of("calls"), now_ms()))))


def _of_lines(register: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame({name: pd.Series(list(register[name]), dtype=object) for name in columns})
    for name in MOMENTS & set(columns):
        frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True)
    return _checked(frame, "registers")


def _table(path: Path, columns: Sequence[str], rules: Retention | None) -> pd.DataFrame:
    """Reads a table without its expired rows; an empty table if there is no file."""
    if not path.is_file():
        kinds = {name: "datetime64[ms, UTC]" if name in MOMENTS else "str" for name in columns}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    try:
        table = pq.read_table(path)
        if rules is not None:
            table = unexpired_rows(rules.of(path.stem), now_ms(), table)
        addable = ADDABLE | {"category"} if "reporter" in columns else ADDABLE
        for name in addable & set(columns) - set(table.column_names):
            table = table.append_column(name, pa.nulls(table.num_rows, pa.bool_() if name in FLAGS else pa.string()))
        missing = sorted(set(columns) - set(table.column_names))
        if missing:
            raise ValueError(f"{path.name}: column {missing[0]!r} is missing")
        texts = [dictionary_decoded(table[name]) for name in columns]
        frame: pd.DataFrame = pa.table(texts, names=list(columns)).to_pandas()
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: broken Parquet file") from None
    return _checked(frame, path.name)


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    for name in frame.columns:
        valid = is_token if name in TOKENS else is_word if name in WORDS else None
        if valid is not None and not all(map(valid, frame[name].dropna().unique())):
            expected = "keyed tokens" if name in TOKENS else "words without seven digits in a row"
            raise ValueError(f"{where}: column {name!r} has an invalid value, expected {expected}")
    return frame


def _verdicts(path: Path, calls: pa.Table) -> dict[str, Column]:
    """Returns the columns of verdicts that the report counts: the action, and, of calls with one, class and content."""
    try:
        words = [name for name in ("plan_class", "content") if name in pq.read_schema(path).names]
        table = pq.read_table(path, columns=["start", "caller", "callee", "action", *words])
        # Rows that were no calls have no action; calls are in order of start here, verdicts in that of their file.
        table = table.filter(table["action"].is_valid()).sort_by("start")
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: expected verdicts, as `callsieve score --out` writes them") from None
    same = table.num_rows == calls.num_rows and all(
        table[name].cast(kind).equals(calls[name].cast(kind))
        for name, kind in (("start", pa.int64()), ("caller", pa.string()))
    )
    # Callees in verdicts are keyed with another key than in calls, so only the pattern of equal callees is compared.
    same = same and bool(np.array_equal(*(pd.factorize(source["callee"].to_pandas())[0] for source in (table, calls))))
    if not same:
        raise ValueError(f"{path.name}: expected the verdicts of these calls, one per row, in the same order")
    columns = {"action": Column(_codes(table["action"], ACTIONS), ACTIONS)}
    acted = columns["action"].codes != ACTIONS.index("pass")
    for name in words:
        labels = PLAN_CLASSES if name == "plan_class" else sorted({*table[name].unique().to_pylist()} - {None, ""})
        if not all(map(is_word, labels)):
            raise ValueError(f"{path.name}: column {name!r} has an invalid value, expected words")
        named = _or(Column(_codes(table[name], labels), labels), UNCLASSIFIED)
        columns[name] = Column(np.where(acted, named.codes, -1), named.labels)
    return columns


def _scoring_model(path: Path, calls: pa.Table, bundle: Path | None) -> ScoringModel | None:
    """Returns the model of a bundle, by default the shipped one, if it gave the verdicts.

    The case of a call is a digest of the model's id, the parties and the start. Without a case the model is unknown.
    """
    if "case" not in pq.read_schema(path).names:
        return None
    table = pq.read_table(path, columns=["start", "action", "case"])
    cases = table.filter(table["action"].is_valid()).sort_by("start")["case"].cast(pa.string())
    acted = np.flatnonzero(pc.greater(pc.utf8_length(cases), 0).fill_null(False).to_numpy())
    if not len(acted):
        return None
    row = int(acted[0])
    folder = SHIPPED_BUNDLE if bundle is None else bundle
    model = sha256(folder / MANIFEST)[:12]
    caller, callee = (str(calls[name].cast(pa.string())[row]) for name in ("caller", "callee"))
    if case_id(model, caller, callee, calls["start"].cast(pa.int64())[row].as_py()) == cases[row].as_py():
        return {"id": model, "simulated": _has_truth(folder)}
    if bundle is None:
        return None
    raise ValueError(f"{path.name}: expected verdicts of model {model}, which --bundle names; another model gave them")


def _has_truth(bundle: Path) -> bool:
    """Returns whether each table of calls of a model has a table of their truth, as only simulated calls have."""
    build = verify_attestation(bundle, read_public_key(bundle.parent / SIGNER)).predicate["buildDefinition"]
    tables = [entry["name"].partition(" ")[0] for entry in build["resolvedDependencies"]]
    return bool(tables.count("truth") == tables.count("calls"))


def _codes(column: pa.ChunkedArray, labels: Sequence[str]) -> Array:
    codes = pc.index_in(column.cast(pa.string()), pa.array(labels, pa.string()))
    return np.asarray(codes.fill_null(-1).to_numpy()).astype(np.int64)


def is_word(text: object) -> bool:
    """Returns whether a value is a text without a telephone number, which a report may print.

    >>> is_word("customer_service"), is_word("138 1234-5679"), is_word(7)
    (True, False, False)
    """
    return isinstance(text, str) and not has_long_digits(text)


def columns(source: ReportData) -> dict[str, Column]:
    """Returns the attributes of each call by name; registers are read as known when the call started to ring."""
    calls = source.calls
    joins = IndexJoins(Registers({name: _plain(source.registers[name]) for name in JOINED}))
    campaign = _rows(source, joins, "campaigns", ("caller",), ("caller_block",))
    business, principal, agent, outsourced = (
        _register_words(source.registers["campaigns"], name, campaign)
        for name in ("business", "principal", "agent", "outsourced")
    )
    resource = _rows(source, joins, "number_resources", ("caller",), ("caller_block",))
    registered = _yes(business.codes >= 0)
    unlicensed, licence = _unlicensed(source, joins, {"number_resources": resource, "campaigns": campaign})
    trunk = dictionary(calls, "trunk")
    attributes = {
        "all": Column(np.zeros(calls.num_rows, dtype=np.int64), ("all",)),
        "operator": dictionary(calls, "operator"),
        "trunk": trunk,
        "class": dictionary(calls, "caller_class"),
        "industry": _or(business, NOT_REGISTERED),
        "regulator": _or(_regulator(business), "no regulator named"),
        "principal": principal,
        "agent": agent,
        "outsourced": outsourced,
        "area": _register_words(source.registers["number_resources"], "area", resource),
        "unlicensed": unlicensed,
        "licence": licence,
        "answered": _yes(_is(calls, "outcome", "answered")),
        "false_number": _yes(_differs(calls) | _is(calls, "attestation", "failed")),
        "registered": registered,
        "outside_register": _outside(source, joins, trunk),
    }
    return {**attributes, **source.verdicts}


def dictionary(calls: pa.Table, name: str) -> Column:
    """Returns a column of words or tokens as codes and labels."""
    column = calls[name].cast(pa.dictionary(pa.int32(), pa.string())).combine_chunks()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Column(codes, column.dictionary.to_pylist())


class Regulators(Record, frozen=True):
    """The reviewed table of regulators: their names by language, and which industry or complaint each is for."""

    version: str
    industries: dict[str, str]
    complaints: dict[str, str]
    regulators: dict[str, dict[str, str]]


@cache
def regulators() -> Regulators:
    """Returns the reviewed table of industries and their regulators."""
    return toml_as(Regulators, files(__package__).joinpath("regulators.toml"))


def in_force(register: pd.DataFrame, moment: pd.Timestamp, key: Sequence[str]) -> pd.DataFrame:
    """Returns the register rows in force at a moment, as known at that moment; the last row of each key."""
    effective = register[(register["known_at"] <= moment) & (register["valid_from"] <= moment)]
    last = effective.sort_values(["valid_from", "known_at"], kind="stable").drop_duplicates(list(key), keep="last")
    return last[last["valid_to"].isna() | (last["valid_to"] > moment)]


def party_names(source: ReportData, moment: str) -> dict[str, str]:
    """Returns the names of operators and trunks by token: firms, which a report may name.

    An operator's name is that of the register of operators; a trunk has the name of its subject in the ledger.

    `moment`: day at whose beginning the registers are read, such as "2026-04-01".
    """
    names: dict[str, str] = {}
    for register, token, name in (("operators", "operator", "name"), ("trunks", "trunk", "subject")):
        rows = source.registers[register]
        key = [token, *(column for column in ("number", "block") if column in rows)]
        named = in_force(rows, pd.Timestamp(moment, tz=DEFAULT_ZONE), key).dropna(subset=[name])
        names |= dict(zip(named[token], named[name], strict=True))
    return names


def _yes(flags: Array) -> Column:
    return Column(np.where(flags, 0, 1), YES_NO)


def _is(calls: pa.Table, name: str, word: str) -> Array:
    return np.asarray(pc.equal(calls[name].cast(pa.string()), word).fill_null(False).to_numpy())


def _differs(calls: pa.Table) -> Array:
    return np.asarray(pc.equal(calls["presented_differs"], 1).fill_null(False).to_numpy())


def _or(column: Column, other: str) -> Column:
    return Column(np.where(column.codes < 0, len(column.labels), column.codes), [*column.labels, other])


def _register_words(register: pd.DataFrame, name: str, rows: Array) -> Column:
    if name not in register:
        return Column(np.full(len(rows), -1), [])
    values = register[name].astype(object)
    if name in FLAGS:
        values = values.map({True: "yes", False: "no"})
    labels = list(YES_NO) if name in FLAGS else sorted(set(values.dropna()))
    codes = np.array([*pd.Categorical(values, categories=labels).codes, -1], dtype=np.int64)
    return Column(codes[np.maximum(rows, -1)], labels)


def _regulator(business: Column) -> Column:
    table = regulators()
    labels = sorted(table.regulators)
    names = [table.industries.get(word) for word in business.labels]
    codes = np.array([labels.index(name) if name else -1 for name in names] + [-1], dtype=np.int64)
    return Column(codes[business.codes], labels)


def _unlicensed(source: ReportData, joins: IndexJoins, rows: Mapping[str, Array]) -> tuple[Column, Column]:
    """Returns for each call the user of its number whose licence is missing or not in force, and which of both.

    The user is the holder of the number, or the agent of its campaign. Without a register of licences it is -1.
    """
    at = source.calls["start"].to_numpy()
    user, missing = (np.full(len(at), -1, dtype=np.int64) for _ in range(2))
    registers = source.registers
    if registers["licences"].empty:
        return Column(user, []), Column(missing, [])
    labels = sorted({name for register, column, _ in LICENSED for name in registers[register][column].dropna()})
    for register, column, name in LICENSED:
        users = _register_words(registers[register], column, rows[register])
        stated = _register_words(registers[register], name, rows[register])
        key = dictionary_column(stated.codes, stated.labels)
        faulty = (user < 0) & (users.codes >= 0) & (joins.in_effect("licences", at, key) < 0)
        places = np.array([*map(labels.index, users.labels), -1], dtype=np.int64)
        user = np.where(faulty, places[users.codes], user)
        missing = np.where(faulty, (stated.codes >= 0).astype(np.int64), missing)
    return Column(user, labels), Column(missing, ("none", "not in force"))


def _outside(source: ReportData, joins: IndexJoins, trunk: Column) -> Column:
    rows = _rows(source, joins, "trunk_numbers", ("trunk", "caller"), ("trunk", "caller_block"))
    return Column(np.where(trunk.codes < 0, -1, (rows >= 0).astype(np.int64)), YES_NO)


def _plain(register: pd.DataFrame) -> dict[str, list[Any]]:
    columns = {
        str(name): column.dt.as_unit("ms").astype("int64") if name in MOMENTS else column
        for name, column in register.items()
    }
    return {
        name: [
            None if missing else value for value, missing in zip(column.tolist(), register[name].isna(), strict=True)
        ]
        for name, column in columns.items()
    }


def _rows(source: ReportData, joins: IndexJoins, index: str, *keys: tuple[str, ...]) -> Array:
    columns = [tuple(column_of(source.calls, name) for name in key) for key in keys]
    return joins.in_effect(index, source.calls["start"].to_numpy(), *columns)
