"""Trees and their proofs: published vectors, an independent slow definition, and 10,000 random trees."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whorl.attest.merkle import EMPTY, Tree, check_consistency, check_inclusion, leaf_hash
from whorl.errors import InvalidFile, UsageError

# The inputs and roots of Certificate Transparency's own tests of RFC 6962.
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
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
ROOTED = [leaf_hash(each) for each in LEAVES]


# The definitions of RFC 9162 word by word, recursive and slow: what the code is held against.
def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    n = len(leaves)
    if m == n:
        return [] if whole else [mth(leaves)]
    k = split(n)
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def refused(check, *values) -> bool:
    try:
        check(*values)
    except InvalidFile as error:
        return error.exit_code == 7
    return False


def test_the_published_roots():
    assert hashlib.sha256(b"").digest() == EMPTY == Tree().root()
    for size, root in enumerate(ROOTS, 1):
        assert Tree(ROOTED[:size]).root().hex() == root == Tree(ROOTED).root(size).hex()


def test_the_published_proofs():
    """Paths of RFC 6962, section 2.1.3, named by the trees that they cover: a to d are leaves 0 to 3 of seven."""
    tree = Tree(ROOTED[:7])
    a, b, c, d, e, f, j = ROOTED[:7]
    g, h, i = (mth(LEAVES[at : at + 2]) for at in (0, 2, 4))
    k, end = mth(LEAVES[:4]), mth(LEAVES[4:7])
    assert tree.inclusion(0) == [b, h, end]
    assert tree.inclusion(3) == [c, g, end]
    assert tree.inclusion(4) == [f, j, k]
    assert tree.inclusion(6) == [i, k]
    assert tree.consistency(3) == [c, d, g, end]
    assert tree.consistency(4) == [end]
    assert tree.consistency(6) == [i, j, k]
    assert a != e


def test_every_proof_of_small_trees_is_that_of_the_definition():
    data = [bytes([n]) * n for n in range(33)]
    tree = Tree(map(leaf_hash, data))
    for size in range(1, len(data) + 1):
        leaves = data[:size]
        assert tree.root(size) == mth(leaves)
        for index in range(size):
            proof = tree.inclusion(index, size)
            assert proof == path(index, leaves)
            check_inclusion(leaf_hash(data[index]), index, size, proof, tree.root(size))
        for old in range(size + 1):
            proof = tree.consistency(old, size)
            assert proof == (subproof(old, leaves, True) if old else [])
            check_consistency(old, tree.root(old), size, tree.root(size), proof)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_ten_thousand_random_trees(seed):
    """100 trees in each of 100 examples: every proof drawn verifies, and not with any one thing changed."""
    chance = random.Random(seed)
    for _ in range(100):
        size = chance.randint(1, chance.choice((4, 16, 70)))
        tree = Tree(chance.randbytes(32) for _ in range(size))
        index, old, now = chance.randrange(size), chance.randint(0, size), tree.root()
        proof, steps = tree.inclusion(index), tree.consistency(old)
        leaf, before = tree.leaves[index], tree.root(old)
        check_inclusion(leaf, index, size, proof, now)
        check_consistency(old, before, size, now, steps)
        bit = chance.randrange(256)
        assert refused(check_inclusion, flipped(leaf, bit), index, size, proof, now)
        assert refused(check_inclusion, leaf, index, size, proof, flipped(now, bit))
        assert refused(check_inclusion, leaf, index, size, [*proof, chance.randbytes(32)], now)
        assert refused(check_consistency, old, flipped(before, bit), size, now, steps)
        assert old == 0 or refused(check_consistency, old, before, size, flipped(now, bit), steps)
        assert refused(check_consistency, old, before, size, now, [*steps, chance.randbytes(32)])
        if proof:
            at = chance.randrange(len(proof))
            changed = [*proof[:at], flipped(proof[at], bit), *proof[at + 1 :]]
            assert refused(check_inclusion, leaf, index, size, changed, now)
            assert refused(check_inclusion, leaf, index, size, proof[:-1], now)
            assert refused(check_inclusion, leaf, (index + 1) % size, size, proof, now)
        if steps:
            at = chance.randrange(len(steps))
            changed = [*steps[:at], flipped(steps[at], bit), *steps[at + 1 :]]
            assert refused(check_consistency, old, before, size, now, changed)
            assert refused(check_consistency, old, before, size, now, steps[:-1])


def test_every_single_bit_of_proofs():
    tree = Tree(ROOTED[:7])
    now = tree.root()
    for index in range(7):
        proof = tree.inclusion(index)
        for at, step in enumerate(proof):
            for bit in range(256):
                changed = [*proof[:at], flipped(step, bit), *proof[at + 1 :]]
                assert refused(check_inclusion, ROOTED[index], index, 7, changed, now)
    for old in range(1, 7):
        proof = tree.consistency(old)
        for at, step in enumerate(proof):
            for bit in range(256):
                changed = [*proof[:at], flipped(step, bit), *proof[at + 1 :]]
                assert refused(check_consistency, old, tree.root(old), 7, now, changed)


def test_what_cannot_be_a_proof_is_refused():
    tree = Tree(ROOTED)
    leaf, now = ROOTED[0], tree.root()
    assert refused(check_inclusion, leaf, 8, 8, tree.inclusion(0), now)
    assert refused(check_inclusion, leaf, -1, 8, tree.inclusion(0), now)
    assert refused(check_inclusion, leaf, 0, 1 << 63, tree.inclusion(0), now)
    for size in (1, 2, 4, 9, 16, 1 << 62):  # of trees with another number of levels above this leaf
        assert refused(check_inclusion, leaf, 0, size, tree.inclusion(0), now)
        assert size < 3 or refused(check_consistency, 3, tree.root(3), size, now, tree.consistency(3))
    assert refused(check_inclusion, leaf, 0, 8, [each[:31] for each in tree.inclusion(0)], now)
    assert refused(check_inclusion, leaf, 0, 8, [b"\x00" * 32] * 100_000, now)
    assert refused(check_consistency, 9, now, 8, now, [])
    assert refused(check_consistency, 3, tree.root(3), 8, now, [])
    assert refused(check_consistency, 8, tree.root(7), 8, now, [])
    assert refused(check_consistency, 0, now, 8, now, [])
    assert refused(check_consistency, 3, tree.root(3), 8, now, [b"\x00" * 32] * 100_000)
    with pytest.raises(UsageError):
        tree.root(9)
    with pytest.raises(UsageError):
        tree.inclusion(8)
    with pytest.raises(UsageError):
        tree.consistency(9)
    with pytest.raises(UsageError):
        tree.append(b"short")
