"""Tables that grow by one bucket with each new entry (linear hashing). A part of the kernel: compiled, or as it stands.

So a table takes memory as it is used, and no call has to wait until one is copied. Entries are numbered from 1, and
there are as many buckets as entries were ever in use. `heads` holds the first entry of each bucket, `following` the
next one of each entry, 0 for none.
"""

from __future__ import annotations

import math

from callsieve.features.kernel.windows import Ints


def bucket(wanted: int, buckets: int) -> int:
    """The bucket of so many where 64 bits are looked for."""
    mask = reach(buckets)
    place = mixed(wanted) & mask
    return place if place < buckets else place & mask >> 1


def mixed(wanted: int) -> int:
    """All bits of a number in the lower ones of another."""
    return (wanted ^ wanted >> 29) * 0x9E3779B1 >> 11


def reach(buckets: int) -> int:
    """The least power of two that is not less than so many buckets, less one."""
    return (1 << math.frexp(float(buckets - 1))[1]) - 1


def giver(buckets: int) -> int:
    """The bucket whose entries are shared with the last one of so many when that is new."""
    return (buckets - 1) & reach(buckets) >> 1


def chain(entry: int, place: int, heads: Ints, following: Ints) -> None:
    """Put an entry into a bucket."""
    following[entry] = heads[place]
    heads[place] = entry


def unchain(entry: int, place: int, heads: Ints, following: Ints) -> None:
    """Take an entry out of its bucket."""
    if heads[place] == entry:
        heads[place] = following[entry]
        return
    before = heads[place]
    while following[before] != entry:
        before = following[before]
    following[before] = following[entry]
