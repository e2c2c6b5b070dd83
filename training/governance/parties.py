"""Under what each call counts, for those who govern: who connected it, over which trunk, in what trade, how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.dates import unix_now
from callsieve.features.files.masking import long_digits
from callsieve.features.files.toml_file import read_toml
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import plain
from callsieve.features.keys.tokens import is_token
from callsieve.serving.batch.register_join import Joins, column_of
from callsieve.serving.custody.expiry import is_expired, unexpired_rows
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.registers import Registers

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

REGISTERS = {
    "campaigns": ("number", "block", "business", "valid_from", "valid_to", "known_at"),
    "trunks": ("trunk", "number", "block", "valid_from", "valid_to", "known_at"),
    "preferences": ("callee", "category", "accepts", "valid_from", "valid_to", "known_at"),
    "refusals": ("callee", "industry", "valid_from", "valid_to", "known_at"),
}
TOKENS, WORDS = {"number", "block", "callee", "reporter", "trunk"}, {"business", "category", "industry"}
MOMENTS = {"valid_from", "valid_to", "known_at", "at"}
YES_NO = ("yes", "no")
NOT_REGISTERED = "not registered"


class Column(NamedTuple):
    """For each call the index of a label, or -1."""

    codes: Array
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Keyed calls in order of start, registers by name, complaints, and the decision on each call if it is known."""

    calls: pa.Table
    registers: Mapping[str, pd.DataFrame]
    complaints: pd.DataFrame
    action: Array | None


def read_ledger(folder: Path, verdicts: Path | None = None) -> Ledger:
    """Read the calls of a folder with its registers and complaints; those that are not there are empty.

    Calls past their time are not read, unless they are simulated.

    Args:
        folder: declared for statistics; registers are files `register_NAME.parquet`, keyed, or the `NAME.jsonl` that
            `callsieve registers` writes.
        verdicts: what `callsieve score --out` wrote for these very calls.
    Raises:
        ValueError: if a file is not what it should be, or the folder serves other purposes.
    """
    rules = None if require_purpose(folder, "statistics").simulated else read_retention()
    calls = read_keyed(folder / "calls.parquet").sort_by("start")
    action = None if verdicts is None else _actions(verdicts, calls)
    if rules is not None:
        left = pc.invert(is_expired(calls, rules.of("calls"), unix_now()))
        action = None if action is None else action[np.asarray(left)]
        calls = calls.filter(left)
    lines = Registers.read(folder).columns if any((folder / f"{name}.jsonl").is_file() for name in REGISTERS) else {}
    registers = {
        name: _of_lines(lines[name], wanted)
        if name in lines
        else _table(folder / f"register_{name}.parquet", wanted, rules)
        for name, wanted in REGISTERS.items()
    }
    complaints = _table(folder / "complaints.parquet", ("number", "reporter", "at", "known_at"), rules)
    return Ledger(calls, registers, complaints, action)


def _of_lines(register: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame({name: pd.Series(list(register[name]), dtype=object) for name in columns})
    for name in MOMENTS & set(columns):
        frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True)
    return _checked(frame, "registers")


def _table(path: Path, columns: Sequence[str], rules: Retention | None) -> pd.DataFrame:
    """A table without the rows that are past their time; nothing if there is no file."""
    if not path.is_file():
        kinds = {name: "datetime64[ms, UTC]" if name in MOMENTS else "str" for name in columns}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    try:
        table = pq.read_table(path)
        if rules is not None:
            table = unexpired_rows(rules.of(path.stem), unix_now(), table)
        if "block" in columns and "block" not in table.column_names:
            table = table.append_column("block", pa.nulls(table.num_rows, pa.string()))
        missing = sorted(set(columns) - set(table.column_names))
        if missing:
            raise ValueError(f"{path.name}: column {missing[0]!r} is missing")
        texts = [plain(table[name]) for name in columns]
        frame: pd.DataFrame = pa.table(texts, names=list(columns)).to_pandas()
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: broken Parquet file") from None
    return _checked(frame, path.name)


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    for name in frame.columns:
        sound = is_token if name in TOKENS else is_word if name in WORDS else None
        if sound is not None and not all(map(sound, frame[name].dropna().unique())):
            wanted = "keyed tokens" if name in TOKENS else "words without seven digits in a row"
            raise ValueError(f"{where}: column {name!r} holds another text, expected {wanted}")
    return frame


def _actions(path: Path, calls: pa.Table) -> Array:
    """Index into ACTIONS for each call."""
    try:
        table = pq.read_table(path, columns=["start", "caller", "callee", "action"])
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: expected verdicts, as `callsieve score --out` writes them") from None
    same = table.num_rows == calls.num_rows and all(
        table[name].cast(kind).equals(calls[name].cast(kind))
        for name, kind in (("start", pa.int64()), ("caller", pa.string()))
    )
    # Verdicts name called people by another key: whoever was called twice by one was by the other.
    same = same and bool(np.array_equal(*(pd.factorize(one["callee"].to_pandas())[0] for one in (table, calls))))
    if not same:
        raise ValueError(f"{path.name}: expected the verdicts of these calls, one a row in the same order")
    found = pc.index_in(table["action"].cast(pa.string()), pa.array(ACTIONS))
    return np.asarray(found.fill_null(-1).to_numpy())


def is_word(text: object) -> bool:
    """Whether a text may stand in a report: no telephone number is in it.

    >>> is_word("customer_service"), is_word("138 1234-5679"), is_word(7)
    (True, False, False)
    """
    return isinstance(text, str) and not long_digits(text)


def columns(ledger: Ledger) -> dict[str, Column]:
    """What each call counts under, as known when it rang."""
    calls = ledger.calls
    joins = _joins(ledger.registers)
    business = _business(ledger, joins)
    registered = _yes(business.codes >= 0)
    trunk = dictionary(calls, "trunk")
    found = {
        "all": Column(np.zeros(calls.num_rows, dtype=np.int64), ("all",)),
        "operator": dictionary(calls, "operator"),
        "trunk": trunk,
        "class": dictionary(calls, "caller_class"),
        "industry": _or(business, NOT_REGISTERED),
        "regulator": _or(_regulator(business), "no regulator named"),
        "answered": _yes(_is(calls, "outcome", "answered")),
        "false_number": _yes(_differs(calls) | _is(calls, "attestation", "failed")),
        "registered": registered,
        "outside_register": _outside(ledger, joins, trunk),
    }
    if ledger.action is not None:
        found["action"] = Column(ledger.action, ACTIONS)
    return found


def dictionary(calls: pa.Table, name: str) -> Column:
    """A column of words or tokens."""
    column = calls[name].cast(pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Column(codes, column.dictionary.to_pylist())


def regulators() -> dict[str, Any]:
    """The reviewed table of industries and their regulators."""
    return read_toml(files(__package__).joinpath("regulators.toml"))


def in_force(register: pd.DataFrame, moment: pd.Timestamp, key: Sequence[str]) -> pd.DataFrame:
    """The rows of a register that hold at a moment as known then, the last one of each key."""
    known = register[(register["known_at"] <= moment) & (register["valid_from"] <= moment)]
    last = known.sort_values(["valid_from", "known_at"], kind="stable").drop_duplicates(list(key), keep="last")
    return last[last["valid_to"].isna() | (last["valid_to"] > moment)]


def _yes(flags: Array) -> Column:
    return Column(np.where(flags, 0, 1), YES_NO)


def _is(calls: pa.Table, name: str, word: str) -> Array:
    return np.asarray(pc.equal(calls[name].cast(pa.string()), word).fill_null(False).to_numpy())


def _differs(calls: pa.Table) -> Array:
    return np.asarray(pc.equal(calls["presented_differs"], 1).fill_null(False).to_numpy())


def _or(column: Column, other: str) -> Column:
    return Column(np.where(column.codes < 0, len(column.labels), column.codes), [*column.labels, other])


def _business(ledger: Ledger, joins: Joins) -> Column:
    """The trade that the caller was registered for when the call rang."""
    business = ledger.registers["campaigns"]["business"]
    labels = sorted(set(business))
    rows = _rows(ledger, joins, "campaigns", ("caller",), ("caller_block",))
    trade = np.array([*(labels.index(word) for word in business), -1], dtype=np.int64)
    return Column(trade[np.maximum(rows, -1)], labels)


def _regulator(business: Column) -> Column:
    known = regulators()
    labels = sorted(known["regulators"])
    of = [known["industries"].get(word) for word in business.labels]
    place = np.array([labels.index(name) if name else -1 for name in of] + [-1], dtype=np.int64)
    return Column(place[business.codes], labels)


def _outside(ledger: Ledger, joins: Joins, trunk: Column) -> Column:
    """Whether a call over a trunk showed a number that the register does not name for it; -1 without a trunk."""
    rows = _rows(ledger, joins, "trunk_numbers", ("trunk", "caller"), ("trunk", "caller_block"))
    return Column(np.where(trunk.codes < 0, -1, (rows >= 0).astype(np.int64)), YES_NO)


def _joins(registers: Mapping[str, pd.DataFrame]) -> Joins:
    return Joins(Registers({name: _plain(registers[name]) for name in ("campaigns", "trunks")}))


def _plain(register: pd.DataFrame) -> dict[str, list[Any]]:
    """A register as `Registers` holds it."""
    held = {
        str(name): column.dt.as_unit("ms").astype("int64") if name in MOMENTS else column
        for name, column in register.items()
    }
    return {
        name: [
            None if missing else value
            for value, missing in zip(held[name].tolist(), register[name].isna(), strict=True)
        ]
        for name in held
    }


def _rows(ledger: Ledger, joins: Joins, index: str, *keys: tuple[str, ...]) -> Array:
    """For each call the place of the register's row in effect, below 0 if none is."""
    columns = [tuple(column_of(ledger.calls, name) for name in key) for key in keys]
    return joins.in_effect(index, ledger.calls["start"].to_numpy(), *columns)
