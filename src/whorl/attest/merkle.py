"""The Merkle tree of Certificate Transparency, its inclusion and consistency proofs, and their verification.

A leaf of bytes d is hashed as SHA-256(0x00 || d), a node as SHA-256(0x01 || left || right), the tree of no leaf as
SHA-256 of nothing; a tree of n leaves splits at the largest power of two below n.

Source: RFC 6962, section 2.1; RFC 9162, sections 2.1.1 to 2.1.4, which keeps the hashes and words the verification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from whorl.errors import InvalidFile, UsageError

__all__ = ["EMPTY", "HASH", "Tree", "check_consistency", "check_inclusion", "leaf_hash", "node_hash"]

HASH: Final = 32  # bytes of a hash
MOST: Final = 1 << 63  # leaves of a tree whose proofs are verified
EMPTY: Final = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over those of its two children (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows: 64 bytes of memory a leaf, logarithmic time for each append, root and proof.

    Parameters:
        leaves: hashes of leaves (`leaf_hash`), 32 bytes each.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]  # [i][j] is the root of the leaves j 2^i to (j + 1) 2^i
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def leaves(self) -> Sequence[bytes]:
        """The hashes of all leaves."""
        return self._levels[0]

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf at the end."""
        if len(leaf) != HASH:
            raise UsageError(f"the hash of a leaf has {HASH} bytes; this one has {len(leaf)}")
        level = 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(node_hash(*self._levels[level][-2:]))
            level += 1

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves, all by default (RFC 9162, 2.1.1)."""
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise UsageError(f"a tree of {len(self)} leaves has no root of {size}")
        return self._span(0, size) if size else EMPTY

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof that leaf ``index`` is in the tree of the first ``size`` leaves (RFC 9162, 2.1.3.1)."""
        size = len(self) if size is None else size
        if not 0 <= index < size <= len(self):
            raise UsageError(f"a tree of {len(self)} leaves has no proof of leaf {index} in the first {size}")
        begin, end, path = 0, size, list[bytes]()
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                path.append(self._span(middle, end))
                end = middle
            else:
                path.append(self._span(begin, middle))
                begin = middle
        return path[::-1]

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The proof that the first ``old`` of ``size`` leaves are an earlier tree (RFC 9162, 2.1.4.1).

        It is empty for ``old`` of 0, which anything continues, and for ``old`` = ``size``.
        """
        size = len(self) if size is None else size
        if not 0 <= old <= size <= len(self):
            raise UsageError(f"a tree of {len(self)} leaves has no proof from {old} to {size}")
        if old in (0, size):
            return []
        begin, end, path = 0, size, list[bytes]()
        while end != old:
            middle = begin + _split(end - begin)
            if old <= middle:
                path.append(self._span(middle, end))
                end = middle
            else:
                path.append(self._span(begin, middle))
                begin = middle
        return [*([self._span(begin, end)] if begin else []), *path[::-1]]

    def _span(self, begin: int, end: int) -> bytes:
        """The root of leaves ``begin`` to ``end``, which lie together in a tree that starts at ``begin``."""
        parts: list[bytes] = []
        while begin < end:
            level = (end - begin).bit_length() - 1
            parts.append(self._levels[level][begin >> level])
            begin += 1 << level
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Whether the leaf of this hash is number ``index`` of the ``size`` leaves of ``root`` (RFC 9162, 2.1.3.2).

    Raises:
        InvalidFile: it is not, or the proof has another length than the one proof there is.
    """
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size < MOST:
        raise InvalidFile(f"a proof of leaf {index} in a tree of {size} leaves proves nothing")
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise InvalidFile(f"the proof of leaf {index} of {size} has {len(proof)} hashes, which are too many")
        if place & 1 or place == last:
            found = node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise InvalidFile(f"leaf {index} of {size} is not in the tree of this root")


def check_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Whether the tree of ``size`` leaves begins with the ``old`` leaves of ``old_root`` (RFC 9162, 2.1.4.2).

    Raises:
        InvalidFile: it does not, or the proof has another length than the one proof there is.
    """
    _check_hashes(old_root, root, *proof)
    if not 0 <= old <= size < MOST:
        raise InvalidFile(f"a tree of {size} leaves does not continue one of {old}")
    if old in (0, size):
        if proof or old_root != (EMPTY if old == 0 else root):
            raise InvalidFile(f"the trees of {old} and {size} leaves are not one log")
        return
    # A tree of a power of two leaves is itself a node of the greater one, and stands in no proof.
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = steps[0] if steps else b""
    for step in steps[1:]:
        if last == 0:
            raise InvalidFile(f"the proof from {old} to {size} leaves has {len(proof)} hashes, which are too many")
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    if last or before != old_root or after != root:
        raise InvalidFile(f"the tree of {size} leaves does not continue the one of {old}: the log was rewritten")


def _split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_hashes(*hashes: bytes) -> None:
    if any(len(each) != HASH for each in hashes):
        raise InvalidFile(f"a hash of the proof has not {HASH} bytes")
