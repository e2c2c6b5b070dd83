"""The Merkle tree against the recursive definition of RFC 6962 and against published roots."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.training.oversight.log.merkle import (
    EMPTY,
    consistency_proof,
    consistent,
    includes,
    inclusion_proof,
    leaf_hash,
    root,
    roots,
)

# Leaves and roots from the tests of Certificate Transparency's reference log.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
DATA = [bytes.fromhex(word) for word in LEAVES]


def sha(data):
    return hashlib.sha256(data).digest()


def mth(data):
    """RFC 6962, 2.1: the Merkle tree hash of a list of entries."""
    if not data:
        return sha(b"")
    if len(data) == 1:
        return sha(b"\x00" + data[0])
    k = max(2**i for i in range(20) if 2**i < len(data))
    return sha(b"\x01" + mth(data[:k]) + mth(data[k:]))


def path(m, data):
    """RFC 6962, 2.1.1: PATH(m, D[n])."""
    if len(data) == 1:
        return []
    k = max(2**i for i in range(20) if 2**i < len(data))
    return [*path(m, data[:k]), mth(data[k:])] if m < k else [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m, data, b):
    """RFC 6962, 2.1.2: SUBPROOF(m, D[n], b)."""
    if m == len(data):
        return [] if b else [mth(data)]
    k = max(2**i for i in range(20) if 2**i < len(data))
    if m <= k:
        return [*subproof(m, data[:k], b), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


entries = st.lists(st.binary(max_size=6), min_size=1, max_size=40)


def test_roots_equal_the_published_ones():
    leaves = [leaf_hash(data) for data in DATA]
    assert [digest.hex() for digest in roots(leaves)] == ROOTS
    assert root([]) == EMPTY == sha(b"")


@given(entries)
def test_every_root_and_proof_equals_the_definition(data):
    leaves = [leaf_hash(item) for item in data]
    assert list(roots(leaves)) == [mth(data[: n + 1]) for n in range(len(data))]
    for index in range(len(data)):
        assert inclusion_proof(leaves, index) == path(index, data)
        assert consistency_proof(leaves, index + 1) == subproof(index + 1, data, True)


@given(entries, st.data())
def test_an_inclusion_proof_holds_for_its_entry_alone(data, draw):
    leaves = [leaf_hash(item) for item in data]
    whole, index = root(leaves), draw.draw(st.integers(0, len(data) - 1))
    proof = inclusion_proof(leaves, index)
    assert includes(leaves[index], index, len(data), proof, whole)
    assert not includes(leaf_hash(b"another entry"), index, len(data), proof, whole)
    assert not includes(leaves[index], index, len(data), [*proof, EMPTY], whole)
    assert not includes(leaves[index], len(data), len(data), proof, whole)
    if proof:
        assert not includes(leaves[index], index, len(data), proof[:-1], whole)
        assert not includes(leaves[index], index, len(data), [EMPTY, *proof[1:]], whole)


@given(entries, st.data())
def test_a_changed_tree_is_not_consistent(data, draw):
    leaves = [leaf_hash(item) for item in data]
    size, whole = draw.draw(st.integers(1, len(data))), root(leaves)
    proof = consistency_proof(leaves, size)
    assert consistent(size, root(leaves[:size]), len(data), whole, proof)
    changed = draw.draw(st.integers(0, size - 1))
    other = [*leaves]
    other[changed] = leaf_hash(b"another entry")
    # No proof made from the changed tree leads from the old root to the new one.
    assert not consistent(size, root(leaves[:size]), len(data), root(other), consistency_proof(other, size))
    assert not consistent(size, root(leaves[:size]), len(data), whole, [*proof, EMPTY])
    assert not consistent(0, EMPTY, len(data), whole, proof)
    assert not proof or not consistent(size, root(leaves[:size]), len(data), whole, [])
    if proof:
        assert not consistent(size, root(leaves[:size]), len(data), whole, proof[:-1])


def test_a_proof_of_a_missing_entry_is_refused():
    leaves = [leaf_hash(b"a")]
    with pytest.raises(ValueError, match=r"index must lie in 0\.\.0, got 1"):
        inclusion_proof(leaves, 1)
    with pytest.raises(ValueError, match=r"size must lie in 1\.\.1, got 0"):
        consistency_proof(leaves, 0)
