"""RFC 6962 Merkle trees over leaf hashes: roots, inclusion proofs and consistency proofs.

A tree is read through a function that gives the hash of a complete subtree, so that a log of millions of entries on
disk is proved from a few dozen hashes. The proofs' checks need nothing but the proofs.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

HASH_BYTES = 32
# (level, index): the complete subtree over leaves index * 2**level up to (index + 1) * 2**level.
ReadNode = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an interior node (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def reader(leaves: Sequence[bytes]) -> ReadNode:
    """Return a tree that is read from leaf hashes in memory."""

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    return read


def root_hash(read: ReadNode, size: int) -> bytes:
    """Return the root over the first `size` leaves."""
    return _range_hash(read, 0, size) if size else hashlib.sha256(b"").digest()


def inclusion_proof(read: ReadNode, index: int, size: int) -> list[bytes]:
    """Return the audit path of one leaf among the first `size` (RFC 6962, section 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError("leaf index is outside of the tree")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(read, middle, end))
            end = middle
        else:
            path.append(_range_hash(read, start, middle))
            start = middle
    return path[::-1]


def consistency_proof(read: ReadNode, old: int, new: int) -> list[bytes]:
    """Return the proof that the first `old` leaves of a tree of `new` are what they were (RFC 6962, section 2.1.2)."""
    if not 0 < old <= new:
        raise ValueError("the older tree has from one to as many leaves as the newer one")
    path, start, end, complete = [], 0, new, True
    while end - start > 1 and end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_hash(read, middle, end))
            end = middle
        else:
            path.append(_range_hash(read, start, middle))
            start, complete = middle, False
    return [*([] if complete else [_range_hash(read, start, end)]), *path[::-1]]


def root_from_proof(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that an audit path leads to (RFC 9162, section 2.1.3.2).

    Raises:
        ValueError: The path does not fit index and size.
    """
    if not 0 <= index < size:
        raise ValueError("leaf index is outside of the tree")
    node = leaf
    for on_left, sibling in _climb(index, size - 1, proof):
        node = node_hash(sibling, node) if on_left else node_hash(node, sibling)
    return node


def roots_from_consistency(proof: Sequence[bytes], *, old: int, old_root: bytes, new: int) -> tuple[bytes, bytes]:
    """Return the older and the newer root that a consistency proof leads to (RFC 9162, section 2.1.4.2).

    Raises:
        ValueError: The proof does not fit the sizes.
    """
    if not 0 < old <= new:
        raise ValueError("the older tree has from one to as many leaves as the newer one")
    if old == new:
        if proof:
            raise ValueError("proof is too long")
        return old_root, old_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]  # a complete subtree is its own first hash
    if not path:
        raise ValueError("proof is too short")
    position, last = old - 1, new - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    older = newer = path[0]
    for on_left, sibling in _climb(position, last, path[1:]):
        if on_left:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
        else:
            newer = node_hash(newer, sibling)
    return older, newer


def _climb(position: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Go from a node to the root; give each sibling on the way, and whether it is on the left.

    Args:
        position: The node's place on its level.
        last: That of the level's last node.
        proof: The siblings.

    Raises:
        ValueError: There are too many or too few.
    """
    for sibling in proof:
        if last == 0:
            raise ValueError("proof is too long")
        on_left = position % 2 == 1 or position == last
        while on_left and position % 2 == 0 and position:  # the last node of an odd level goes up as it is
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
        yield on_left, sibling
    if last != 0:
        raise ValueError("proof is too short")


def _range_hash(read: ReadNode, start: int, end: int) -> bytes:
    """Hash leaves from `start`, a multiple of the largest complete subtree that they hold, to `end`."""
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(read(level, start >> level))
        start += 1 << level
    node = parts.pop()
    while parts:
        node = node_hash(parts.pop(), node)
    return node


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
