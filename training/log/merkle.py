"""Merkle trees as in RFC 6962, section 2.1: root, proof that a leaf is in it, proof that it only grew.

A leaf's hash is SHA-256(0x00 || bytes), a node's SHA-256(0x01 || left || right); the left half of n leaves holds the
largest power of two below n. Proofs are checked as in RFC 9162, sections 2.1.3.2 and 2.1.4.2, from hashes alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

EMPTY = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry's bytes."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def roots(leaves: Sequence[bytes]) -> Iterator[bytes]:
    """The root of the first leaf, of the first two, and so on: one pass over the leaves' hashes.

    >>> a, b = leaf_hash(b"a"), leaf_hash(b"b")
    >>> list(roots([a, b])) == [a, node_hash(a, b)]
    True
    """
    peaks: list[tuple[int, bytes]] = []  # size and root of the whole subtrees, from the left
    for leaf in leaves:
        size, top = 1, leaf
        while peaks and peaks[-1][0] == size:
            size, top = 2 * size, node_hash(peaks.pop()[1], top)
        peaks.append((size, top))
        whole = peaks[-1][1]
        for _, left in reversed(peaks[:-1]):
            whole = node_hash(left, whole)
        yield whole


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaves' hashes; SHA-256 of nothing for an empty tree."""
    whole = EMPTY
    for whole in roots(leaves):  # noqa: B007 - the last one is wanted
        pass
    return whole


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from a leaf to the root, nearest first.

    Raises:
        ValueError: if there is no such leaf.
    """
    _within("index", index, 0, len(leaves) - 1)
    if len(leaves) == 1:
        return []
    half = _half(len(leaves))
    if index < half:
        return [*inclusion_proof(leaves[:half], index), root(leaves[half:])]
    return [*inclusion_proof(leaves[half:], index - half), root(leaves[:half])]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], whole: bytes) -> bool:
    """Whether the proof leads from this leaf, at this index of `size` leaves, to the root `whole`."""
    if not 0 <= index < size:
        return False
    place, last, top = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            top = node_hash(step, top)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            top = node_hash(top, step)
        place, last = place >> 1, last >> 1
    return last == 0 and top == whole


def consistency_proof(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """The hashes that show that the tree over all leaves begins with the tree over the first `size`.

    Raises:
        ValueError: unless `size` lies in 1..len(leaves).
    """
    _within("size", size, 1, len(leaves))
    return _subproof(leaves, size, known=True)


def consistent(size: int, before: bytes, size_now: int, now: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof leads from the root of the first `size` leaves to that of `size_now` leaves."""
    if not 0 < size <= size_now:
        return False
    if size == size_now:
        return not proof and before == now
    # A first tree that is a whole subtree of the second is not told again in the proof.
    path = [before, *proof] if size & (size - 1) == 0 else list(proof)
    place, last = size - 1, size_now - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    if not path:
        return False
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, step)
        place, last = place >> 1, last >> 1
    return last == 0 and first == before and second == now


def _subproof(leaves: Sequence[bytes], size: int, *, known: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if known else [root(leaves)]
    half = _half(len(leaves))
    if size <= half:
        return [*_subproof(leaves[:half], size, known=known), root(leaves[half:])]
    return [*_subproof(leaves[half:], size - half, known=False), root(leaves[:half])]


def _half(count: int) -> int:
    """The largest power of two below `count`."""
    return int(1 << ((count - 1).bit_length() - 1))


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in {low}..{high}, got {value}")
