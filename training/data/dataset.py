"""What a training starts from: keyed calls, reports and findings, and, where there is one, the truth to judge by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.serving.batch.complaint_rows import COMPLAINTS, TIMESTAMP, checked_frame, read_parquet
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import require_purpose

from .fingerprint import fingerprint
from .label_policy import LabelPolicy
from .labels import label_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FINDINGS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("nuisance", pa.bool_(), nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
RECYCLED = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("valid_from", TIMESTAMP, nullable=False),  # since when another person has it
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
LISTS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("list", pa.string(), nullable=False),  # its name in the label policy
        pa.field("valid_from", TIMESTAMP, nullable=False),
        pa.field("valid_to", TIMESTAMP),
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
CAMPAIGNS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("principal", pa.string(), nullable=False),  # on whose behalf it calls, by the outbound register
    ]
)
EXCLUSIONS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
        pa.field("why", pa.string(), nullable=False),  # unlisted, or deleted
    ]
)
TRUTH_COLUMNS = ("call", "nuisance", "slice")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Keyed calls in order of start, what is said of numbers, and the truth of each call if it is known.

    >>> from pathlib import Path
    >>> from callsieve.training import read_evidence
    >>> read_evidence(Path("world")).complaints.columns[:3].tolist()
    ['reporter', 'number', 'at']
    """

    calls: pa.Table
    complaints: pd.DataFrame
    findings: pd.DataFrame
    recycled: pd.DataFrame
    lists: pd.DataFrame
    campaigns: pd.DataFrame
    exclusions: pd.DataFrame
    truth: pa.Table | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class JudgingLabels:
    """What each call is judged by: whether that is known, whether it was nuisance, its slice and its evasion.

    `attack` is a place among `attacks`, or -1: none, or none known.
    """

    known: Array
    nuisance: Array
    slice: Array
    source: str
    attack: Array
    attacks: tuple[str, ...] = ()


def make_dataset(
    calls: pa.Table,
    complaints: pd.DataFrame,
    findings: pd.DataFrame,
    truth: pa.Table | None = None,
    *,
    recycled: pd.DataFrame | None = None,
    lists: pd.DataFrame | None = None,
    campaigns: pd.DataFrame | None = None,
    exclusions: pd.DataFrame | None = None,
) -> Dataset:
    """Put the tables together.

    Args:
        calls: keyed calls, sorted by `start`.
        complaints, findings: columns of COMPLAINTS, FINDINGS.
        recycled, lists, campaigns, exclusions: columns of RECYCLED, LISTS, CAMPAIGNS, EXCLUSIONS; empty if not given.
        truth: one row a call in the same order, columns TRUTH_COLUMNS and, if known, campaign; judging reads
            it, and the split its campaigns, never fitting.
    Raises:
        ValueError: if the calls are out of order, or the truth is not of these calls.
    """
    start = calls["start"].to_numpy()
    if len(start) and (np.diff(start) < 0).any():
        raise ValueError("calls: expected rows in order of start")
    if truth is not None and truth.num_rows != calls.num_rows:
        raise ValueError(f"truth: expected one row a call, {calls.num_rows} in all, got {truth.num_rows}")
    moved, listed, known, excluded = (
        checked_frame(schema.empty_table(), schema, "register") if told is None else told
        for told, schema in ((recycled, RECYCLED), (lists, LISTS), (campaigns, CAMPAIGNS), (exclusions, EXCLUSIONS))
    )
    return Dataset(calls, complaints, findings, moved, listed, known, excluded, truth, fingerprint(calls))


def read_dataset(folder: str | Path, purpose: str = "training") -> Dataset:
    """Read `calls.parquet`, `complaints.parquet`, `findings.parquet`, and, as far as they are there, `lists.parquet`,
    `truth.parquet`, `exclusions.parquet`, `register_recycled.parquet` and `register_campaigns.parquet`.

    Rows past their time by the shipped rules of retention are not read, unless the calls are simulated.

    >>> from pathlib import Path
    >>> dataset = read_evidence(Path("world"))  # of `callsieve simulate --size tiny --out world`
    >>> isinstance(dataset.calls["start"][0].as_py(), int), dataset.truth.num_rows == dataset.calls.num_rows
    (True, True)

    Args:
        purpose: for which the folder must have been declared (`purposes.py`).
    Raises:
        ValueError: in one line, if a file or a column is missing, or the folder is not for this purpose.
    """
    folder = Path(folder)
    calls = read_keyed(folder / "calls.parquet").sort_by("start")
    kept = expiry_filter(require_purpose(folder, purpose))
    calls, truth = kept(calls, "calls"), folder / "truth.parquet"

    def beside(name: str, schema: pa.Schema) -> pd.DataFrame | None:
        path = folder / f"{name}.parquet"
        return checked_frame(kept(read_parquet(path), name), schema, path.name) if path.exists() else None

    return make_dataset(
        calls,
        checked_frame(
            kept(read_parquet(folder / "complaints.parquet"), "complaints"), COMPLAINTS, "complaints.parquet"
        ),
        checked_frame(kept(read_parquet(folder / "findings.parquet"), "findings"), FINDINGS, "findings.parquet"),
        truth_of_calls(read_parquet(truth), calls) if truth.exists() else None,
        recycled=beside("register_recycled", RECYCLED),
        lists=beside("lists", LISTS),
        campaigns=beside("register_campaigns", CAMPAIGNS),
        exclusions=beside("exclusions", EXCLUSIONS),
    )


def truth_of_calls(truth: pa.Table, calls: pa.Table) -> pa.Table:
    """The truth in the order of the calls, matched by the column `call`.

    Raises:
        ValueError: if a column is missing, or a call has no truth.
    """
    missing = [name for name in TRUTH_COLUMNS if name not in truth.column_names]
    if missing or "call" not in calls.column_names:
        raise ValueError(f"truth: expected the columns {', '.join(TRUTH_COLUMNS)}, and `call` also in the calls")
    places = pc.index_in(calls["call"], value_set=truth["call"].combine_chunks())
    if places.null_count:
        raise ValueError(f"truth: expected a row for every call, {places.null_count} calls have none")
    return truth.take(places)


def as_known(dataset: Dataset, when: pd.Timestamp) -> Dataset:
    """The dataset with reports, findings, changes of hands and lists as far as they were known at a moment."""
    told = {name: getattr(dataset, name) for name in ("complaints", "findings", "recycled", "lists")}
    known: dict[str, Any] = {
        name: checked_frame[checked_frame["known_at"] <= when] for name, checked_frame in told.items()
    }
    return replace(dataset, **known)


def campaigns_of(dataset: Dataset) -> tuple[pa.ChunkedArray, ...]:
    """What each call is part of, as far as it is known: its campaign by the truth, its principal by the register.

    For splitting alone: calls of one campaign or principal are alike, so they never stand on both sides.
    """
    known = dataset.campaigns.drop_duplicates("number", keep="last")
    places = pc.index_in(dataset.calls["caller"].cast(pa.string()), value_set=pa.array(known["number"], pa.string()))
    principal = pa.array(known["principal"], pa.string()).take(places.combine_chunks())
    truth = dataset.truth
    told = (truth["campaign"],) if truth is not None and "campaign" in truth.column_names else ()
    return (pa.chunked_array([principal]), *told)


def judging_labels(dataset: Dataset, caller: Array, policy: LabelPolicy) -> JudgingLabels:
    """The truth if there is one; else the labels as known when the records end, and the number class as slice."""
    if dataset.truth is not None:
        truth = dataset.truth
        nuisance = np.asarray(truth["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)
        words = truth["slice"].combine_chunks()
        return JudgingLabels(np.ones(len(nuisance), dtype=bool), nuisance, _words(words), "truth", *_attacks(truth))
    tokens = dataset.calls["caller"].combine_chunks()
    seen = pd.Series(pc.unique(pc.dictionary_decode(tokens)).to_numpy(zero_copy_only=False))
    end = pd.Timestamp(int(dataset.calls["start"].to_numpy().max()), unit="ms", tz="UTC")
    labels = label_numbers(dataset, end, policy).set_index("number")
    told = labels["nuisance"].reindex(seen.to_numpy())
    # `caller` codes count in order of first appearance, as `unique` does.
    return JudgingLabels(
        told.notna().to_numpy()[caller],
        told.fillna(False).to_numpy(dtype=bool)[caller],
        _words(dataset.calls["caller_class"].combine_chunks()),
        "labels",
        np.full(len(caller), -1, dtype=np.int16),
    )


def _attacks(truth: pa.Table) -> tuple[Array, tuple[str, ...]]:
    """The evasion of each call and the names of all, as far as the truth tells them."""
    if "attack" not in truth.column_names:
        return np.full(truth.num_rows, -1, dtype=np.int16), ()
    plain = truth["attack"].cast(pa.string()).combine_chunks()
    names = sorted(pc.unique(plain.drop_null()).to_pylist())
    places = pc.index_in(plain, value_set=pa.array(names, pa.string())).fill_null(-1)
    return np.asarray(places.to_numpy(), dtype=np.int16), tuple(names)


def _words(column: pa.Array) -> Array:
    """The words of a column, one object for each that differs: of ten million calls all the words would be large."""
    held = dictionary_encoded(column)
    words = np.array([*map(str, held.dictionary.to_pylist()), str(None)], dtype=object)
    return np.asarray(words[held.indices.fill_null(len(held.dictionary)).to_numpy()])
