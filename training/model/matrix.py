"""Calls and labels as known at a cutoff, to what a model is fitted on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from callsieve.features.catalogue import vector_columns
from callsieve.training.data.feeds import FEEDS

from .allocators import give_back

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from callsieve.training.data.dataset import Dataset

    Array = npt.NDArray[Any]

COPIED_AT_ONCE = 50_000  # calls, so that memory stays bounded
_BLOCK = 1 << 24  # bytes that are hashed at a time


# Places of the calls of a feed that are learnt from, and their labels.
LabelledRows = tuple["Array", pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of calls: features, label, weight, the moment of each call, its caller (code) and its group."""

    X: Array
    y: Array
    weight: Array
    moment: Array
    caller: Array
    group: Array
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
    """Labelled calls among `rows`, at most `calls_per_number` of a caller, chosen by the seed; and their labels.

    Args:
        caller: code of each call's caller, shape (all calls,).
        rows: indices of the calls to take from; calls known after `cutoff` must not be among them.
        labels: as from `labels.label_numbers`.
    Raises:
        ValueError: if a call or a label became known after the cutoff, or no label fits a call.
    """
    limit = int(cutoff.timestamp() * 1000)
    start = calls["start"].to_numpy()
    if len(rows) and start[rows].max() >= limit:
        raise ValueError("dataset: a call starts after the cutoff: nothing that became known later may enter")
    if (labels["known_at"] > cutoff).any():
        raise ValueError("dataset: a label became known after the cutoff: nothing that became known later may enter")
    rng = np.random.default_rng(seed)
    kept = sample(caller, rng.permutation(rows), calls_per_number)
    by_number = labels.set_index("number")
    tokens = calls["caller"].combine_chunks()
    wanted = pc.take(tokens, kept)
    words = pd.Series(pc.dictionary_decode(wanted).to_numpy(zero_copy_only=False))
    told = by_number.reindex(words.to_numpy())
    known = told["nuisance"].notna().to_numpy() & ~before_held(told["held_since"], start[kept])
    if not known.any():
        raise ValueError("dataset: no label fits a call: expected the numbers of labels and calls under the same key")
    return kept[known], told[known]


def training_vectors(
    dataset: Dataset, features: tuple[str, ...], threads: int, learnt: Mapping[str, LabelledRows]
) -> Array:
    """The vectors of the calls that are learnt from, feed after feed; shape (calls, columns_for(features)).

    Seven digits are enough to grow trees on, at half the memory; a model scores with all of them. No more than one feed
    is held at a time, and none of them while a model is fitted.
    """
    X = np.empty((sum(len(rows) for rows, _ in learnt.values()), len(vector_columns(features))), dtype=np.float32)  # noqa: N806
    begin = 0
    for name, (rows, _) in learnt.items():
        feed = FEEDS[name](dataset, features, threads, rows)
        for first in range(0, len(rows), COPIED_AT_ONCE):
            some = rows[first : first + COPIED_AT_ONCE]
            X[begin : begin + len(some)] = feed.at(some)
            begin += len(some)
        del feed
        give_back()
    return X


def build_matrix(X: Array, learnt: Sequence[LabelledRows], calls: pa.Table, group: Array, caller: Array) -> Matrix:  # noqa: N803
    """What a model is fitted on. A call's weight is the confidence of its label: one dialler cannot outweigh a town.

    Args:
        X: as from `training_vectors`.
        learnt: of each feed these calls and their labels, as from `labelled_rows`.
        group, caller: of each call of the table.
    """
    rows = np.concatenate([some for some, _ in learnt])
    told = pd.concat([labels for _, labels in learnt])
    return Matrix(
        X=X,
        y=told["nuisance"].to_numpy(dtype=np.int8),
        weight=told["confidence"].to_numpy(dtype=float),
        moment=calls["start"].to_numpy()[rows],
        caller=caller[rows],
        group=group[rows],
        content=told["content"].to_numpy(),
        mode=told["mode"].to_numpy(),
    )


def before_held(since: pd.Series[pd.Timestamp], start: Array) -> Array:
    """Whether a call was made before the number came to its holder: the label is not of that call's maker."""
    early: Array = (since > pd.to_datetime(start, unit="ms", utc=True).to_numpy()).to_numpy()
    return early


def sample(caller: Array, rows: Array, most: int) -> Array:
    """The first `most` rows of each caller, in order of the rows' indices."""
    owners = caller[rows]
    order = np.argsort(owners, kind="stable")
    ranked = owners[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=bool)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(ranked)), 0))
    return np.sort(rows[order[np.arange(len(ranked)) - begin < most]])


def fingerprint(matrix: Matrix) -> str:
    """SHA-256 over all rows: what a model was fitted on."""
    return array_hash([getattr(matrix, field.name) for field in fields(Matrix)])


def array_hash(arrays: Sequence[Array]) -> str:
    """SHA-256 over types, shapes and values of arrays, block by block; equal values give equal hashes.

    Arrays of objects hold words, or nothing."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.asarray(array)
        if plain.dtype == object:
            words = [word if isinstance(word, str) else None for word in plain.tolist()]
            digest.update(json.dumps(words).encode())
            continue
        digest.update(f"{plain.dtype.str} {plain.shape}\n".encode())
        step = max(1, _BLOCK // max(1, plain[:1].nbytes))
        for some in range(0, len(plain), step):
            digest.update(np.ascontiguousarray(plain[some : some + step]).data)
    return digest.hexdigest()
