"""Hash tables that grow by one bucket with each new entry (linear hashing). A part of the kernel.

So a table takes memory only as it fills, and no call waits for a rehash. Entries are numbered from 1; there are as many
buckets as entries were ever in use. `heads` has the first entry of each bucket, `following` the next entry of each
entry, 0 for none.
"""

from __future__ import annotations

import math

from callsieve.features.kernel.windows import Ints


def bucket(key: int, buckets: int) -> int:
    """Returns the bucket of a 64-bit hash key, among `buckets` buckets."""
    mask = bucket_mask(buckets)
    place = mix(key) & mask
    return place if place < buckets else place & mask >> 1


def mix(key: int) -> int:
    """Returns a number whose low bits depend on all bits of the key."""
    return (key ^ key >> 29) * 0x9E3779B1 >> 11


def bucket_mask(buckets: int) -> int:
    """Returns the smallest power of two that is not below `buckets`, minus one."""
    return (1 << math.frexp(float(buckets - 1))[1]) - 1


def bucket_to_split(buckets: int) -> int:
    """Returns the bucket whose entries are shared with the newest of `buckets` buckets."""
    return (buckets - 1) & bucket_mask(buckets) >> 1


def insert_entry(entry: int, bucket_index: int, heads: Ints, following: Ints) -> None:
    """Inserts an entry into a bucket."""
    following[entry] = heads[bucket_index]
    heads[bucket_index] = entry


def remove_entry(entry: int, bucket_index: int, heads: Ints, following: Ints) -> None:
    """Removes an entry from its bucket."""
    if heads[bucket_index] == entry:
        heads[bucket_index] = following[entry]
        return
    before = heads[bucket_index]
    while following[before] != entry:
        before = following[before]
    following[before] = following[entry]
