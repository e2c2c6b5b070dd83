"""Merkle trees of RFC 6962, section 2.1: root, inclusion proof and consistency proof.

A leaf's hash is SHA-256(0x00 || bytes), a node's SHA-256(0x01 || left || right); the left half of n leaves holds the
largest power of two below n. Proofs are checked as in RFC 9162, sections 2.1.3.2 and 2.1.4.2, from hashes alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

EMPTY = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """Returns the hash of a leaf's bytes."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of a node with two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def roots(leaves: Sequence[bytes]) -> Iterator[bytes]:
    """Yields the root over the first leaf, over the first two, and so on, in one pass over the leaves' hashes.

    >>> a, b = leaf_hash(b"a"), leaf_hash(b"b")
    >>> list(roots([a, b])) == [a, node_hash(a, b)]
    True
    """
    peaks: list[tuple[int, bytes]] = []  # size and root of the complete subtrees, from the left
    for leaf in leaves:
        size, subtree = 1, leaf
        while peaks and peaks[-1][0] == size:
            size, subtree = 2 * size, node_hash(peaks.pop()[1], subtree)
        peaks.append((size, subtree))
        tree_root = peaks[-1][1]
        for _, left in reversed(peaks[:-1]):
            tree_root = node_hash(left, tree_root)
        yield tree_root


def root(leaves: Sequence[bytes]) -> bytes:
    """Returns the root over the leaves' hashes; SHA-256 of the empty string for an empty tree."""
    tree_root = EMPTY
    for tree_root in roots(leaves):  # noqa: B007 - only the last root is used
        pass
    return tree_root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Returns the hashes that lead from a leaf to the root, nearest first."""
    _within("index", index, 0, len(leaves) - 1)
    if len(leaves) == 1:
        return []
    half = _half(len(leaves))
    if index < half:
        return [*inclusion_proof(leaves[:half], index), root(leaves[half:])]
    return [*inclusion_proof(leaves[half:], index - half), root(leaves[:half])]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Returns whether the proof leads from a leaf, at this index of `size` leaves, to `tree_root`."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(step, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, step)
        position, last = position >> 1, last >> 1
    return last == 0 and node == tree_root


def consistency_proof(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """Returns the hashes that prove that the tree over all leaves extends the tree over the first `size`."""
    _within("size", size, 1, len(leaves))
    return _subproof(leaves, size, complete=True)


def consistent(size: int, before: bytes, size_now: int, now: bytes, proof: Sequence[bytes]) -> bool:
    """Returns whether the proof leads from root `before` over `size` leaves to root `now` over `size_now` leaves."""
    if not 0 < size <= size_now:
        return False
    if size == size_now:
        return not proof and before == now
    # The proof omits the first root if the first tree is a complete subtree of the second.
    path = [before, *proof] if size & (size - 1) == 0 else list(proof)
    position, last = size - 1, size_now - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    if not path:
        return False
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, step)
        position, last = position >> 1, last >> 1
    return last == 0 and first == before and second == now


def _subproof(leaves: Sequence[bytes], size: int, *, complete: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if complete else [root(leaves)]
    half = _half(len(leaves))
    if size <= half:
        return [*_subproof(leaves[:half], size, complete=complete), root(leaves[half:])]
    return [*_subproof(leaves[half:], size - half, complete=False), root(leaves[:half])]


def _half(count: int) -> int:
    return int(1 << ((count - 1).bit_length() - 1))


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in {low}..{high}, got {value}")
