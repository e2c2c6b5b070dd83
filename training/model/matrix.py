"""Builds the training matrix from calls and from labels as known at a cutoff."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import vector_columns
from callsieve.features.online.feeds import COMPLETE
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.feeds import vectors_on
from callsieve.training.data.labels import UNREPORTED

from .allocators import give_back

COPIED_AT_ONCE = 50_000  # calls, so that memory stays bounded
_BLOCK = 1 << 24  # bytes that are hashed at a time


# Places of the training rows of a feed, and their labels.
LabelledRows = tuple["Array", pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Training rows: features, label, weight, start (Unix ms), caller and group (codes) and folder of each call.

    complete: whether the row's vector is of the complete feed. assumed: whether the label is "innocent" only because
    nobody complained about the number.
    """

    X: Array
    y: Array
    weight: Array
    moment: Array
    caller: Array
    group: Array
    folder: Array
    complete: Array
    assumed: Array
    content: Array
    mode: Array


def labelled_rows(
    calls: pa.Table,
    caller: Array,
    rows: Array,
    labels: pd.DataFrame,
    *,
    cutoff: pd.Timestamp,
    calls_per_number: int,
    seed: int,
) -> tuple[Array, pd.DataFrame]:
    """Draws labelled calls among `rows`, at most `calls_per_number` of a caller; returns them with their labels.

    Args:
        caller: code of each call's caller, shape (all calls,).
    """
    limit = int(cutoff.timestamp() * 1000)
    start = calls["start"].to_numpy()
    if len(rows) and start[rows].max() >= limit:
        raise ValueError("dataset: a call starts after the cutoff: nothing that became known later may enter")
    if (labels["known_at"] > cutoff).any():
        raise ValueError("dataset: a label became known after the cutoff: nothing that became known later may enter")
    rng = np.random.default_rng(seed)
    drawn = first_rows_per_caller(caller, rng.permutation(rows), calls_per_number)
    by_number = labels.set_index("number")
    tokens = calls["caller"].combine_chunks()
    drawn_tokens = pc.take(tokens, drawn)
    words = pd.Series(pc.dictionary_decode(drawn_tokens).to_numpy(zero_copy_only=False))
    drawn_labels = by_number.reindex(words.to_numpy())
    stale = before_current_holder(drawn_labels["held_since"], start[drawn])
    labelled = drawn_labels["nuisance"].notna().to_numpy() & ~stale
    if not labelled.any():
        raise ValueError("dataset: no label fits a call: expected the numbers of labels and calls under the same key")
    return drawn[labelled], drawn_labels[labelled]


def rows_with_truth(
    dataset: Dataset, caller: Array, rows: Array, *, calls_per_number: int, seed: int
) -> tuple[Array, pd.DataFrame]:
    """Draws calls among `rows`, at most `calls_per_number` of a caller; returns them with their truth as labels.

    Only a simulated world, or records checked call by call, has a truth to learn from.
    """
    if dataset.truth is None:
        raise ValueError("dataset: expected truth.parquet to learn from the truth; learn from labels instead")
    drawn = first_rows_per_caller(caller, np.random.default_rng(seed).permutation(rows), calls_per_number)
    truth = dataset.truth.take(pa.array(drawn))
    words = {
        name: truth[name].to_pandas().astype(object) if name in truth.column_names else None
        for name in ("content", "mode")
    }
    nuisance = truth["nuisance"].to_numpy(zero_copy_only=False).astype(bool)
    return drawn, pd.DataFrame({"nuisance": nuisance, "confidence": np.ones(len(drawn)), **words})


def training_vectors(
    dataset: Dataset, features: tuple[str, ...], threads: int, rows_by_feed: Mapping[str, LabelledRows]
) -> Array:
    """Returns the vectors of the training rows, feed after feed; float32, shape (rows, vector_columns(features)).

    Seven digits are enough to grow trees, at half the memory; scoring uses double precision. One feed is in memory at a
    time, and none while a model is fitted.
    """
    X = np.empty((sum(len(rows) for rows, _ in rows_by_feed.values()), len(vector_columns(features))), dtype=np.float32)
    begin = 0
    for name, (rows, _) in rows_by_feed.items():
        feed = vectors_on(name, dataset, features, threads, rows)
        for first in range(0, len(rows), COPIED_AT_ONCE):
            part = rows[first : first + COPIED_AT_ONCE]
            X[begin : begin + len(part)] = feed.at(part)
            begin += len(part)
        del feed
        give_back()
    return X


def build_matrix(
    rows_by_feed: Mapping[str, LabelledRows], start: Array, caller: Array, group: Array, folder: int = 0
) -> Matrix:
    """Builds the training matrix of a folder, without its vectors; the weight of a row is the confidence of its label.

    Args:
        start, caller, group: moment (Unix ms), caller and group (codes) of each call of the folder.
    """
    rows = np.concatenate([places for places, _ in rows_by_feed.values()])
    labels = pd.concat([feed_labels for _, feed_labels in rows_by_feed.values()])
    return Matrix(
        X=np.empty((0, 0)),
        y=labels["nuisance"].to_numpy(dtype=np.int8),
        weight=labels["confidence"].to_numpy(dtype=float),
        moment=start[rows],
        caller=caller[rows],
        group=group[rows],
        folder=np.full(len(rows), folder),
        complete=np.concatenate([np.full(len(places), name == COMPLETE) for name, (places, _) in rows_by_feed.items()]),
        assumed=np.asarray(labels["source"] == UNREPORTED) if "source" in labels else np.zeros(len(rows), dtype=bool),
        content=labels["content"].to_numpy(dtype=object),
        mode=labels["mode"].to_numpy(dtype=object),
    )


def joined_matrix(folders: Sequence[Matrix], X: Array) -> Matrix:
    """Returns the training rows of several folders as one matrix.

    Args:
        X: vectors of all rows in the order of the folders, shape (rows, columns).
    """
    names = [field.name for field in fields(Matrix) if field.name != "X"]
    return Matrix(X=X, **{name: np.concatenate([getattr(matrix, name) for matrix in folders]) for name in names})


def before_current_holder(since: pd.Series[pd.Timestamp], start: Array) -> Array:
    """Returns whether each call precedes its number's last change of hands: the label is about another person."""
    early: Array = (since > pd.to_datetime(start, unit="ms", utc=True).to_numpy()).to_numpy()
    return early


def first_rows_per_caller(caller: Array, rows: Array, maximum: int) -> Array:
    """Returns the first `maximum` rows of each caller, sorted by place."""
    callers = caller[rows]
    order = np.argsort(callers, kind="stable")
    ranked = callers[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=bool)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(ranked)), 0))
    return np.sort(rows[order[np.arange(len(ranked)) - begin < maximum]])


def fingerprint(matrix: Matrix) -> str:
    """Returns the SHA-256 of a training matrix, over all rows."""
    return array_hash([getattr(matrix, field.name) for field in fields(Matrix)])


def array_hash(arrays: Sequence[Array]) -> str:
    """Returns the SHA-256 of the types, shapes and values of arrays; equal values give equal hashes.

    Arrays of objects hold words and missing values.
    """
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.asarray(array)
        if plain.dtype == object:
            words = [word if isinstance(word, str) else None for word in plain.tolist()]
            digest.update(json.dumps(words).encode())
            continue
        digest.update(f"{plain.dtype.str} {plain.shape}\n".encode())
        step = max(1, _BLOCK // max(1, plain[:1].nbytes))
        for begin in range(0, len(plain), step):
            digest.update(np.ascontiguousarray(plain[begin : begin + step]).data)
    return digest.hexdigest()


def feature_columns(features: tuple[str, ...]) -> list[int]:
    """Returns the places of features in the vectors that hold them. Raises ValueError for an unknown name."""
    names = vector_columns(features)
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(unknown)}")
    return [names.index(name) for name in features]


def select_columns(X: Array, columns: list[int]) -> Array:
    """Returns these columns of X; X itself, without a copy, if they are all its columns."""
    return X if columns == list(range(X.shape[1])) else X[:, columns]
