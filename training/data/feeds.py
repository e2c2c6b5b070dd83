"""Feeds: the same calls as a complete record and as poorer records show them.

Many systems record less than every call: answered calls only, because billing needs nothing else; calls in one
direction; no trunk or device; the calls of one site. `features/online/feeds.py` names the feeds and recognises them.
Thresholds are chosen and certified on each of POORER_FEEDS.

The records of a site, one company or household, have the calls of its own lines and no other: of a stranger they show
the calls to these lines alone. Lines are drawn by chance, because simulated people belong to no company.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import own_columns
from callsieve.features.intake.text_columns import dictionary_decoded, dictionary_encoded, factorize
from callsieve.features.kernel.windows import WEEK
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import (
    ANSWERED_ONLY,
    BUSY_CALLS,
    COMPLETE,
    LACKS,
    NO_ORGANISATIONS,
    NO_RING_TIME,
    NO_ROUTES,
    ONE_SITE,
    OUTGOING_ONLY,
    SPARSE,
    lacks_of,
)
from callsieve.serving.batch.own_column_join import own_values
from callsieve.serving.rules.strata import STRATA, strata_of

from .dataset import Dataset

BILLING = ", ".join((ANSWERED_ONLY, NO_ROUTES, NO_RING_TIME))
"""What billing needs: parties, start and duration of answered calls."""
POORER_FEEDS = (*LACKS, ", ".join((ANSWERED_ONLY, NO_RING_TIME)), ", ".join((NO_ROUTES, NO_RING_TIME)), BILLING)
"""The poorer feeds that thresholds are chosen and certified on; the mixtures are those of public data."""
OPERATORS = 3  # of which the sparse feed has the calls between the numbers of one
OTHER_NETWORK = "x."  # before the token of a called number on an outgoing feed, so that it is no caller's token


@dataclass(frozen=True, slots=True)
class Feed:
    """Vectors of some calls, computed from the calls that one feed records.

    recorded: places of the calls that the feed records. rows: places of those whose vectors are in `X`, in its order.
    Both are places in the table of all calls, ascending.
    """

    name: str
    recorded: Array
    rows: Array
    X: Array

    def at(self, rows: Array) -> Array:
        """Returns the vectors of these calls, shape (rows, columns)."""
        return np.take(self.X, self._places(rows), axis=0)

    def values(self, rows: Array, column: int) -> Array:
        """Returns one column of the vectors of these calls. Raises ValueError if `X` lacks one of them."""
        return np.asarray(self.X[self._places(rows), column])

    def column(self, column: int, count: int) -> Array:
        """Returns one column over all `count` calls; NaN for calls without a vector."""
        values = np.full(count, np.nan)
        values[self.rows] = self.X[:, column]
        return values

    def strata(self, count: int) -> Array:
        """Returns the stratum of all `count` calls, as places among STRATA; "unknown" for calls without a vector."""
        strata = np.full(count, STRATA.index("unknown"))
        strata[self.rows] = strata_of(self.X)
        return strata

    def _places(self, rows: Array) -> Array:
        places = np.minimum(np.searchsorted(self.rows, rows), max(len(self.rows) - 1, 0))
        if len(rows) and not (len(self.rows) and np.array_equal(self.rows[places], rows)):
            raise ValueError(f"feed {self.name!r}: expected calls whose vectors are held")
        return np.asarray(places)


def feed_of_all(X: Array) -> Feed:
    """Returns the complete feed of vectors that cover all calls."""
    every = np.arange(len(X))
    return Feed(COMPLETE, every, every, X)


def vectors_on(name: str, dataset: Dataset, features: tuple[str, ...], threads: int, rows: Array | None = None) -> Feed:
    """Computes vectors from the calls that a feed records.

    `rows`: places of the calls that need a vector, if the feed records them; by default all.
    """
    recorded, calls = recorded_calls(dataset.calls, name)
    # Own columns are of numbers, whatever a site calls them.
    named = dataset.calls.take(pa.array(recorded)) if ONE_SITE in lacks_of(name) else calls
    chosen = recorded if rows is None else np.intersect1d(rows, recorded, assume_unique=True)
    places = np.searchsorted(recorded, chosen)
    X = vectors(calls, rows=places, threads=threads or None)
    if own_columns(features):
        callers, start = named["caller"].take(pa.array(places)), calls["start"].to_numpy()[places]
        X = np.hstack([X, own_values(features, callers, start, dataset.own)])
    return Feed(name, recorded, chosen, X)


def recorded_rows(calls: pa.Table, feed: str) -> Array:
    """Returns the places of the calls that a feed records."""
    return _recorded(calls, feed).rows


def _recorded(calls: pa.Table, feed: str) -> SiteCalls:
    lacks = lacks_of(feed)
    rows = answered_rows(calls) if ANSWERED_ONLY in lacks else np.arange(calls.num_rows)
    if SPARSE in lacks:
        rows = rows[of_one_operator(calls.take(pa.array(rows)))]
    if NO_ORGANISATIONS in lacks:
        rows = rows[~to_busy_callers(calls.take(pa.array(rows)))]
    if ONE_SITE in lacks:
        cut = calls_of_sites(calls.take(pa.array(rows)))
        return SiteCalls(rows[cut.rows], cut.site)
    return SiteCalls(rows, np.full(len(rows), -1))


def recorded_calls(calls: pa.Table, feed: str) -> tuple[Array, pa.Table]:
    """Returns the places of the calls that a feed records, and the calls as the feed records them."""
    lacks, cut = lacks_of(feed), _recorded(calls, feed)
    recorded = cut.rows
    if len(recorded) < calls.num_rows:
        calls = calls.take(pa.array(recorded))
    if ONE_SITE in lacks:
        calls = as_recorded(calls, cut.site)
    if OUTGOING_ONLY in lacks:
        callee = dictionary_encoded(calls["callee"])
        words = pc.binary_join_element_wise(OTHER_NETWORK, callee.dictionary.cast(pa.string()), "")
        calls = _with_column(calls, "callee", pa.DictionaryArray.from_arrays(callee.indices, words))
    if NO_ROUTES in lacks:
        for name in ("trunk", "device"):
            calls = _with_column(calls, name, pa.nulls(calls.num_rows, calls.schema.field(name).type))
    if NO_RING_TIME in lacks:
        calls = _with_column(calls, "ring", pa.array(np.zeros(calls.num_rows), calls["ring"].type))
    return recorded, calls


def of_one_operator(calls: pa.Table) -> Array:
    """Returns whether caller and callee are numbers of the same operator of OPERATORS; bool, shape (calls,).

    Numbers belong to operators by their first call, not by their token, so that another key gives the same calls.
    """
    parties = [dictionary_encoded(calls[name]) for name in ("caller", "callee")]
    seen = pa.concat_arrays([party.dictionary.cast(pa.string()).take(pc.unique(party.indices)) for party in parties])
    own = pc.unique(seen)[::OPERATORS]
    both = np.ones(calls.num_rows, dtype=bool)
    for party in parties:
        both &= np.asarray(pc.is_in(party.dictionary.cast(pa.string()), own))[party.indices.to_numpy()]
    return both


def to_busy_callers(calls: pa.Table) -> Array:
    """Returns whether each call is to a number that makes BUSY_CALLS or more in a week of the records; bool."""
    caller, callee = coded_parties(calls)
    start = calls["start"].to_numpy()
    week = (start - start[:1]) // WEEK  # calls are in order of start
    weeks, numbers = int(week.max(initial=0)) + 1, int(max(caller.max(initial=0), callee.max(initial=0))) + 1
    made = np.bincount(caller * weeks + week, minlength=weeks * numbers)
    most = made.reshape(numbers, weeks).max(axis=1)
    return np.asarray(most[callee] >= BUSY_CALLS)


def _with_column(calls: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return calls.set_column(calls.column_names.index(name), name, values)


def answered_rows(calls: pa.Table) -> Array:
    """Returns the places of the answered calls."""
    answered = pc.equal(pc.dictionary_decode(calls["outcome"].combine_chunks()), "answered")
    return np.flatnonzero(np.asarray(answered.fill_null(False)))


SIZES = (20, 60, 200, 600)
"""Lines of the sites that are cut. A site has at most a thirtieth of all lines: of more, it looks like a network."""
LARGEST_SHARE = 30
CUT_SHARE = 5  # a fifth of all lines belongs to a site, so that few of the other ends of its calls do
# A line receives a tenth as many calls as it makes, or more. Few numbers of nuisance callers do.
LEAST_RECEIVED = 10


@dataclass(frozen=True, slots=True)
class SiteCalls:
    """The calls that sites record: their places in the table of all calls, ascending, and the site of each."""

    rows: Array
    site: Array


def calls_of_sites(calls: pa.Table) -> SiteCalls:
    """Returns the calls that sites record, each for one site alone.

    A call between the lines of two sites belongs to the callee's. Lines are drawn by the order of their first calls,
    not by their tokens, so that another key gives the same calls.
    """
    caller, callee = coded_parties(calls)
    count = int(max(caller.max(initial=-1), callee.max(initial=-1))) + 1
    made, received = np.bincount(caller, minlength=count), np.bincount(callee, minlength=count)
    is_line = (made > 0) & (received > 0) & (LEAST_RECEIVED * received >= made)
    lines = np.random.default_rng(len(calls)).permutation(np.flatnonzero(is_line))
    site_of_number = np.full(count, -1)
    begin = 0
    for place, size in enumerate(site_sizes(len(lines))):
        site_of_number[lines[begin : begin + size]] = place
        begin += size
    site = np.where(site_of_number[callee] >= 0, site_of_number[callee], site_of_number[caller])
    rows = np.flatnonzero(site >= 0)
    return SiteCalls(rows, site[rows])


def site_sizes(lines: int) -> list[int]:
    """Returns the sizes of the sites that are cut from this many lines: as many lines in all of each of SIZES.

    >>> site_sizes(3_000)
    [20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 60, 60, 60, 100, 100]
    >>> site_sizes(300), site_sizes(10)
    ([10, 10, 10, 10, 10, 10], [])
    """
    largest = lines // LARGEST_SHARE
    sizes = sorted({min(size, largest) for size in SIZES} - {0})
    return [size for size in sizes for _ in range(lines // (CUT_SHARE * len(sizes) * size))]


def coded_parties(calls: pa.Table) -> tuple[Array, Array]:
    """Returns callers and callees as codes that count in the order of first calls, whatever the tokens are."""
    parties = [chunk for name in ("caller", "callee") for chunk in dictionary_decoded(calls[name]).chunks]
    codes, _ = factorize(pa.chunked_array(parties, pa.string()))
    return codes[: len(calls)], codes[len(calls) :]


def as_recorded(calls: pa.Table, site: Array) -> pa.Table:
    """Returns calls as their sites record them: numbers, blocks and trunks of different sites are different.

    All calls of a site come over its one trunk, without a device. The step of a call starts from the caller's latest
    call to the same site; whether two lines are neighbours is left out.
    """
    caller, callee = coded_parties(calls)
    names = pa.array(np.char.add("site", site.astype(str)).astype(object), pa.string())
    columns = {
        name: pc.binary_join_element_wise(names, dictionary_decoded(calls[name]).combine_chunks(), ".")
        for name in ("caller", "callee", "caller_block")
    }
    columns |= {
        "trunk": names,
        "device": pa.nulls(len(calls)),
        "step": steps(site * (caller.max(initial=0) + 1) + caller, callee),
    }
    for name, values in columns.items():
        field = calls.schema.field(name)
        encoded = values.dictionary_encode() if pa.types.is_dictionary(field.type) else values
        calls = calls.set_column(calls.column_names.index(name), field, encoded.cast(field.type))
    return calls


def steps(caller: Array, callee: Array) -> pa.Array:
    """Returns the step of each call: null for a caller's first one, "same" to the same number again, or "other".

    >>> steps(np.array([7, 7, 8, 7]), np.array([1, 1, 1, 2])).to_pylist()
    [None, 'same', None, 'other']
    """
    order = np.argsort(caller, kind="stable")
    again, same = (np.append(False, values[order][1:] == values[order][:-1]) for values in (caller, callee))
    first, repeated = np.empty(len(caller), dtype=bool), np.empty(len(caller), dtype=bool)
    first[order], repeated[order] = ~again, same
    return pa.array(np.where(repeated, "same", "other").astype(object), pa.string(), mask=first)
