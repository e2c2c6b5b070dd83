"""Sites: the calls that the records of one company or household hold, cut out of a network; many sites side by side.

The records of a site have the calls of its own lines and no other: of a stranger they show the calls to these lines
alone. Lines are drawn by chance, because simulated people belong to no company.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import dictionary_decoded, factorize

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
