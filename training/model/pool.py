"""Gathers the calls of one or several folders for a training: rows to learn from, and calls to score, side by side.

One folder at a time is in memory; vectors wait in an unnamed temporary file. Groups of different folders are different
groups, even if they have the same tokens.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import vector_columns
from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import factorize
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.offline.odd_records import odd_table
from callsieve.features.online.feeds import COMPLETE, NO_ORGANISATIONS, feed_of_table, without_lack
from callsieve.serving.batch.keyed_rows import milliseconds
from callsieve.serving.batch.table_rules import calls_itself
from callsieve.training.data.dataset import Dataset, count_numbers
from callsieve.training.data.dataset_tables import TableFacts, table_facts
from callsieve.training.data.feeds import POORER_FEEDS, Feed, recorded_rows, vectors_on
from callsieve.training.data.sources import Role, Source
from callsieve.training.evidence.funnel import Covered
from callsieve.training.evidence.judging_labels import JudgingLabels, joined_labels

from .allocators import give_back
from .folds import CallFolds, assign_folds, nth_call, training_rows_by_feed
from .matrix import Matrix, build_matrix, joined_matrix, training_vectors
from .settings import Settings
from .split import Plan

LIST_WINDOW = 28 * DAY_MS  # a complaint keeps a number on a reputation list for this time


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder of a training: name, role, tables and spans, counts of groups, calls, numbers, days and nuisance.

    `odd_records`: signs that its records were read in a wrong way, a sentence each.
    `covered`: its calls from all to those that judge, as from `funnel`. `purpose`: what the data may be used for by
    their declaration, or "undeclared".
    """

    name: str
    role: Role
    fingerprint: str
    tables: tuple[TableFacts, ...]
    plan: Plan
    groups: int
    calls: int
    numbers: int
    days: int
    nuisance: int
    covered: dict[str, Covered]
    purpose: str
    odd_records: list[str]


@dataclass(frozen=True, slots=True)
class Pool:
    """The calls that a training scores, of all folders; each array has shape (calls,).

    folder: place of the call's folder. trained: whether its group has training rows. row: its place in the folder.
    call: its number in the folder's file of calls, which is its line in the records; `row` for a file without numbers.
    caller, callee, group: codes that differ between folders. trunk: code in its folder, -1 for none. nth: its number
    among its caller's calls, from 1.
    complaints: against the caller, as `recent_complaints` counts them. content, mode: true classes, None where unknown.
    choose, certify: whether thresholds are chosen or certified on it. late: whether it starts in the folder's
    certifying span. new: whether it is a nuisance call of a number that began after the folder's labels were made.
    scored: whether it needs a score. itself: whether it shows the called number as the caller.
    """

    folder: Array
    trained: Array
    row: Array
    call: Array
    start: Array
    caller: Array
    callee: Array
    trunk: Array
    group: Array
    nth: Array
    complaints: Array
    content: Array
    mode: Array
    choose: Array
    certify: Array
    late: Array
    new: Array
    scored: Array
    itself: Array
    judged: JudgingLabels


@dataclass(frozen=True, slots=True)
class LastFolder:
    """The last folder of a training, whose days monitoring and the run page describe; `feed` has all its vectors.

    begin: place of its first call in the pool.
    """

    dataset: Dataset
    folds: CallFolds
    feed: Feed
    begin: int


@dataclass(frozen=True, slots=True)
class FeedVectors:
    """Calls of the pool as a feed records them: their places in the pool, ascending, and their vectors."""

    places: Array
    vectors: VectorFile


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that a training needs of its folders.

    feed: the feed of all folders. learnt: vectors of the training rows, as in `matrix`. vectors: vectors of the pool.
    poorer: by the name of each of POORER_FEEDS, some calls that thresholds are chosen or certified on.
    """

    feed: str
    folders: tuple[FolderFacts, ...]
    matrix: Matrix
    learnt: VectorFile
    pool: Pool
    vectors: VectorFile
    poorer: Mapping[str, FeedVectors]
    last: LastFolder


class VectorFile:
    """Vectors in a file, in the order in which they are appended; then an array that maps the file into memory."""

    def __init__(self, file: IO[bytes], columns: int, dtype: type[np.floating[Any]]) -> None:
        self._file, self._columns, self._dtype, self.rows = file, columns, dtype, 0
        self._mapping: mmap.mmap | None = None
        self._array: Array | None = None

    def append(self, X: Array) -> None:
        """Writes more rows. Raises ValueError after `array`."""
        if self._array is not None:
            raise ValueError("vectors: the file is mapped already; append all rows before the first call of array()")
        self._file.write(np.ascontiguousarray(X, dtype=self._dtype).data)
        self.rows += len(X)

    def array(self) -> Array:
        """Returns all rows as a read-only array of shape (rows, columns).

        The first call maps the file; after it, the file may be closed.
        """
        if self._array is None:
            self._array = np.empty((self.rows, self._columns), self._dtype)
            if self._array.size:
                self._file.flush()
                self._mapping = mmap.mmap(self._file.fileno(), self._array.nbytes, access=mmap.ACCESS_READ)
                self._array = np.frombuffer(self._mapping, self._dtype).reshape(self._array.shape)
        return self._array

    def release(self) -> None:
        """Gives the memory of the rows that were read back to the system; the array reads them again from the file.

        Pages of a mapped file count as memory of the process once they were read. Systems without MADV_DONTNEED keep
        them.
        """
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)


def gather(sources: Sequence[Source], settings: Settings, progress: Progress) -> Gathered:
    """Reads the folders one by one and computes the vectors of their training rows and of their calls to score."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2 + len(POORER_FEEDS))]
        gathering = _Gathering(settings, sources, files)
        for place, source in enumerate(sources):
            progress("features", place / len(sources))
            gathering.add(source, last=place == len(sources) - 1)
            give_back()
        return gathering.finished()


class _Gathering:
    """The folders that were read so far."""

    def __init__(self, settings: Settings, sources: Sequence[Source], files: Sequence[IO[bytes]]) -> None:
        columns = len(vector_columns(settings.features))
        self._settings, self._folder_count = settings, len(sources)
        self._learning = sum(source.role != "certify" for source in sources)
        self._certifying = sum(source.role != "learn" for source in sources)
        learnt, scored, *poorer = files
        self._learnt = VectorFile(learnt, columns, np.float32)
        self._scored = VectorFile(scored, columns, np.float64)
        self._poorer = {
            name: VectorFile(file, columns, np.float64) for name, file in zip(POORER_FEEDS, poorer, strict=True)
        }
        self._folders: list[FolderFacts] = []
        self._matrices: list[Matrix] = []
        self._pools: list[Pool] = []
        self._poorer_places: dict[str, list[Array]] = {name: [] for name in POORER_FEEDS}
        self._codes = dict.fromkeys(("caller", "callee", "group"), 0)  # codes that earlier folders use
        self._last: tuple[Dataset, CallFolds, int] | None = None
        self._feed: str | None = None

    def add(self, source: Source, *, last: bool) -> None:
        """Reads a folder. Its data set stays in memory if it is the last."""
        settings, dataset = self._settings, source.read()
        self._check_feed(source, feed_of_table(dataset.calls))
        folds = assign_folds(dataset, settings, source.role)
        self._folders.append(facts_of(source, dataset, folds))
        in_training = self._add_training_rows(dataset, folds) if source.role != "certify" else folds.group < 0
        seed = settings.judging_seed
        choose, certify = folds.choose(seed, self._learning), folds.certify(seed, self._certifying)
        needed = folds.needed(dataset.calls, choose, certify, in_training, last=last)
        begin = self._scored.rows
        feed = vectors_on(COMPLETE, dataset, settings.features, settings.threads, np.flatnonzero(needed))
        self._scored.append(feed.X)
        rows, flags = feed.rows, {"trained": in_training, "choose": choose, "certify": certify}
        del feed
        self._pools.append(self._coded(pool_of(dataset, folds, rows, len(self._pools), flags)))
        for name in POORER_FEEDS:
            recorded = recorded_rows(dataset.calls, name)
            of_feed = recorded[(choose | certify)[recorded]]
            some = folds.poorer(of_feed, seed, self._folder_count)
            poorer = vectors_on(name, dataset, settings.features, settings.threads, some)
            self._poorer[name].append(poorer.X)
            self._poorer_places[name].append(begin + np.searchsorted(rows, poorer.rows))
            del poorer
        self._codes = {name: first + int(getattr(folds, name).max()) + 1 for name, first in self._codes.items()}
        if last:
            self._last = dataset, folds, begin

    def _check_feed(self, source: Source, feed: str) -> None:
        """Raises ValueError if the records of a folder lack other things than those of the folders before.

        Calls to organisations may be in some of them: no feature is missing without, and the model learns from both.
        """
        if self._feed is not None and feed != self._feed:
            feed, self._feed = without_lack(feed, NO_ORGANISATIONS), without_lack(self._feed, NO_ORGANISATIONS)
        if self._feed not in (None, feed):
            raise ValueError(
                f"{source.name}: its records are on the feed {feed!r}, those of {self._folders[0].name} on "
                f"{self._feed!r}; train on folders of one feed"
            )
        self._feed = feed

    def _add_training_rows(self, dataset: Dataset, folds: CallFolds) -> Array:
        settings, rows = self._settings, training_rows_by_feed(dataset, self._settings, folds, self._learning)
        self._learnt.append(training_vectors(dataset, settings.features, settings.threads, rows))
        matrix = build_matrix(rows, folds.start, folds.caller, folds.group, len(self._pools))
        self._matrices.append(
            replace(matrix, caller=matrix.caller + self._codes["caller"], group=matrix.group + self._codes["group"])
        )
        give_back()
        return np.isin(folds.group, matrix.group)

    def _coded(self, pool: Pool) -> Pool:
        return replace(pool, **{name: getattr(pool, name) + first for name, first in self._codes.items()})

    def finished(self) -> Gathered:
        """Returns all folders together."""
        if self._last is None or self._feed is None:
            raise ValueError("a training needs at least one folder of calls")
        dataset, folds, begin = self._last
        X, pool = self._scored.array(), joined_pool(self._pools)
        for vectors in self._poorer.values():
            vectors.array()  # maps the file before it is closed
        feed = Feed(COMPLETE, np.arange(dataset.calls.num_rows), pool.row[begin:], X[begin:])
        return Gathered(
            feed=self._feed,
            folders=tuple(self._folders),
            matrix=joined_matrix(self._matrices, self._learnt.array()),
            learnt=self._learnt,
            pool=pool,
            vectors=self._scored,
            poorer={
                name: FeedVectors(np.concatenate(self._poorer_places[name]), self._poorer[name])
                for name in POORER_FEEDS
            },
            last=LastFolder(dataset, folds, feed, begin),
        )


def facts_of(source: Source, dataset: Dataset, folds: CallFolds) -> FolderFacts:
    """Returns the facts of a folder."""
    return FolderFacts(
        name=source.name,
        role=source.role,
        fingerprint=dataset.fingerprint,
        tables=table_facts(dataset),
        plan=folds.plan,
        groups=len(np.unique(folds.group)),
        calls=dataset.calls.num_rows,
        numbers=count_numbers(dataset.calls),
        days=int((folds.start.max() - folds.start.min()) // DAY + 1),
        nuisance=int(folds.judged.nuisance.sum()),
        covered=folds.funnel(),
        purpose=dataset.purpose,
        odd_records=odd_table(dataset.calls),
    )


def numbers_of(calls: pa.Table) -> Array:
    """Returns the number of each call in its file: the column `call` if it differs for all, else the row. Int64."""
    rows = np.arange(calls.num_rows)
    if "call" not in calls.column_names:
        return rows
    numbers = np.asarray(calls["call"].to_numpy(), dtype=np.int64)
    return numbers if len(np.unique(numbers)) == len(numbers) else rows


def pool_of(dataset: Dataset, folds: CallFolds, rows: Array, folder: int, flags: Mapping[str, Array]) -> Pool:
    """Returns the pool of one folder: its calls at `rows`.

    `flags`: trained, choose, certify; bool, of all calls of the folder.
    """
    plan, of_rows = folds.plan, {name: flag[rows] for name, flag in flags.items()}
    new = folds.new_callers()[rows] if folds.role != "learn" else np.zeros(len(rows), dtype=bool)
    return Pool(
        **of_rows,
        folder=np.full(len(rows), folder),
        row=rows,
        call=numbers_of(dataset.calls)[rows],
        start=folds.start[rows],
        caller=folds.caller[rows],
        callee=folds.callee[rows],
        trunk=factorize(dataset.calls["trunk"])[0][rows],
        group=folds.group[rows],
        nth=nth_call(folds.caller, folds.start)[rows],
        complaints=recent_complaints(dataset, folds.caller, rows),
        content=true_words(dataset, "content", rows),
        mode=true_words(dataset, "mode", rows),
        late=folds.start[rows] >= plan.certify[0],
        new=new,
        scored=(folds.start[rows] >= plan.label_cutoff) | of_rows["choose"],
        itself=calls_itself(dataset.calls.select(["caller", "callee"]).take(pa.array(rows))) == 1,
        judged=folds.judged.at(rows),
    )


def true_words(dataset: Dataset, name: str, rows: Array) -> Array:
    """Returns a column of words of the truth for some calls; None where the truth does not know."""
    truth = dataset.truth
    if truth is None or name not in truth.column_names:
        return np.full(len(rows), None, dtype=object)
    return np.asarray(truth[name].take(pa.array(rows)).to_pandas().to_numpy(dtype=object, na_value=None))


def joined_pool(pools: Sequence[Pool]) -> Pool:
    """Returns the pools of several folders as one, in their order."""
    arrays = {
        field.name: np.concatenate([getattr(pool, field.name) for pool in pools])
        for field in fields(Pool)
        if field.name != "judged"
    }
    return Pool(judged=joined_labels([pool.judged for pool in pools]), **arrays)


def recent_complaints(dataset: Dataset, caller: Array, rows: Array) -> Array:
    """Returns how many complaints against the caller were known in the LIST_WINDOW before each of these calls."""
    complaints = dataset.complaints
    names = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks()))
    code = pd.Index(names.to_pylist()).get_indexer(complaints["number"].astype(str))
    known_at = milliseconds(complaints["known_at"]).to_numpy()[code >= 0]
    start = dataset.calls["start"].to_numpy()
    first = min(int(start.min()), int(known_at.min(initial=start.min()))) - LIST_WINDOW
    span = int(max(start.max(), known_at.max(initial=0))) - first + 1
    # One sorted key for caller and moment, so that two look-ups count the complaints of a window.
    keys = np.sort(code[code >= 0] * span + (known_at - first))
    at = caller[rows] * span + (start[rows] - first)
    return np.asarray(np.searchsorted(keys, at) - np.searchsorted(keys, at - LIST_WINDOW), dtype=float)
