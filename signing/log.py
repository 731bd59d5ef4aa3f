"""An append-only transparency log on disk: what was logged, and the Merkle tree over it (RFC 6962).

`entries` holds one JSON line for each entry. `tree` holds every complete subtree's hash once, in the order in which
they became complete, so that an append writes, and a proof reads, a number of hashes that is the logarithm of the log's
size. `checkpoint` is the signed head, and what commits an append: it is written last, and nothing is handed out before
it is on the disk. So what stands beyond it was left by a writer that died, and is cut off; a log that is shorter than
it, or of another root, was rolled back or rewritten, and is not used.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from signing import merkle
from signing.encoding import canonical_json, encode_base64
from signing.errors import TrustDomainError
from signing.files import write_whole
from signing.note import parse_checkpoint

_TAIL_BYTES = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A tree's size in leaves, and its root."""

    size: int
    root: bytes


class DiskLog:
    """A log in a folder. A new one starts with `create`.

    Args:
        folder: Holds `entries`, `tree` and `checkpoint`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, *, sign_head: Callable[[Head], str]) -> None:
        """Start an empty log, in place of what may lie there."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("entries", "tree"):
            write_whole(self._folder / name, b"", mode=0o600)
        empty = Head(size=0, root=merkle.root_hash(merkle.reader([]), 0))
        write_whole(self._folder / "checkpoint", sign_head(empty).encode(), mode=0o644)

    def append(
        self, bodies: Sequence[bytes], *, time: int, sign_head: Callable[[Head], str]
    ) -> tuple[int, Head, list[list[bytes]], str]:
        """Append entries, and sign the head that has them.

        Args:
            bodies: What is logged.
            time: Seconds since 1970. Never earlier than that of the entry before.
            sign_head: Returns the signed checkpoint over a head.

        Returns:
            Index of the first, the new head, each entry's inclusion proof, and the checkpoint.

        Raises:
            TrustDomainError: The log was rolled back or rewritten, or the clock stands before its last entry.
        """
        with self._locked() as tree:
            first = tree.size
            self._check_clock(tree, time)
            lines = [
                canonical_json({"index": first + i, "time": time, "body": encode_base64(body)}) + b"\n"
                for i, body in enumerate(bodies)
            ]
            _append(self._folder / "entries", b"".join(lines))
            tree.append([merkle.leaf_hash(body) for body in bodies])
            head = Head(size=tree.size, root=merkle.root_hash(tree.read, tree.size))
            proofs = [merkle.inclusion_proof(tree.read, first + i, tree.size) for i in range(len(bodies))]
            checkpoint = sign_head(head)
            write_whole(self._folder / "checkpoint", checkpoint.encode(), mode=0o644)
        return first, head, proofs, checkpoint

    def head(self) -> Head:
        """Return the head. The root of an empty log is the hash of nothing."""
        with self._locked() as tree:
            return Head(size=tree.size, root=merkle.root_hash(tree.read, tree.size))

    def checkpoint(self) -> str:
        """Return the last signed checkpoint.

        Raises:
            TrustDomainError: There is none.
        """
        try:
            return (self._folder / "checkpoint").read_text()
        except (OSError, UnicodeDecodeError) as err:
            raise TrustDomainError(f"log has no checkpoint: {self._folder}", hint="restore it from a backup") from err

    def consistency(self, old: int) -> list[bytes]:
        """Return the proof that the first `old` entries are what they were.

        Raises:
            ValueError: There were never as many, or none.
        """
        with self._locked() as tree:
            return merkle.consistency_proof(tree.read, old, tree.size)

    def leaves(self, size: int) -> list[bytes]:
        """Return the hashes of the first `size` leaves."""
        with self._locked() as tree:
            if size > tree.size:
                raise ValueError(f"the log has {tree.size} entries")
            return [tree.read(0, i) for i in range(size)]

    def time_of(self, index: int) -> int:
        """Return the time of an entry, in seconds since 1970."""
        with (self._folder / "entries").open("rb") as lines:
            for number, line in enumerate(lines):
                if number == index:
                    return int(json.loads(line)["time"])
        raise ValueError(f"the log has no entry {index}")

    @contextmanager
    def _locked(self) -> Iterator["_Tree"]:
        try:
            descriptor = os.open(self._folder / "tree", os.O_RDWR | os.O_CLOEXEC)
        except OSError as err:
            raise TrustDomainError(f"cannot use the log: {self._folder}: {err.strerror}") from err
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                signed = parse_checkpoint(self.checkpoint())
            except ValueError as err:
                raise TrustDomainError(f"log's checkpoint is damaged: {self._folder}: {err}") from err
            tree = _Tree(descriptor)
            if signed.size > tree.size:
                raise self._not_as_signed(f"has {tree.size} entries, {signed.size} were signed")
            tree.cut(signed.size)
            if merkle.root_hash(tree.read, signed.size) != signed.root:
                raise self._not_as_signed("has another root than was signed")
            self._cut_entries(signed.size)
            yield tree
        finally:
            os.close(descriptor)

    def _not_as_signed(self, what: str) -> TrustDomainError:
        return TrustDomainError(
            f"log was rolled back or rewritten: {self._folder} {what}",
            hint="restore it as it was; what was signed since cannot be signed again under other indices",
        )

    def _cut_entries(self, size: int) -> None:
        """Drop what a writer that died left. Reads the last line alone, unless there is such."""
        path = self._folder / "entries"
        if _index_of(_last_line(path)) == size - 1:
            return
        end = 0
        with path.open("a+b") as entries:
            entries.seek(0)
            for _ in range(size):
                end += len(line := entries.readline())
                if not line.endswith(b"\n"):
                    raise TrustDomainError(f"log's entries are damaged: {path}", hint="restore the log from a backup")
            entries.truncate(end)

    def _check_clock(self, tree: "_Tree", time: int) -> None:
        if tree.size:
            before = int(json.loads(_last_line(self._folder / "entries"))["time"])
            if time < before:
                raise TrustDomainError(
                    f"the clock stands {before - time} s before the log's last entry",
                    hint="set the clock right: a log's times never go back",
                )


class _Tree:
    """The nodes of complete subtrees, in post-order."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = _leaves_of(os.fstat(descriptor).st_size // merkle.HASH_BYTES)

    def cut(self, size: int) -> None:
        """Drop everything beyond the first leaves."""
        os.ftruncate(self._descriptor, _nodes_of(size) * merkle.HASH_BYTES)
        self.size = size

    def read(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        last_leaf = ((index + 1) << level) - 1
        return os.pread(self._descriptor, merkle.HASH_BYTES, (_nodes_of(last_leaf) + level) * merkle.HASH_BYTES)

    def append(self, leaves: Sequence[bytes]) -> None:
        """Append leaves with the subtrees that they complete, and have the disk hold them."""
        fresh: dict[tuple[int, int], bytes] = {}
        data = bytearray()
        for number, leaf in enumerate(leaves, self.size):
            fresh[0, number] = leaf
            data += leaf
            level, index = 0, number
            while index % 2:
                left = fresh.get((level, index - 1)) or self.read(level, index - 1)
                node = merkle.node_hash(left, fresh[level, index])
                level, index = level + 1, index >> 1
                fresh[level, index] = node
                data += node
        offset = _nodes_of(self.size) * merkle.HASH_BYTES
        written = os.pwrite(self._descriptor, data, offset)
        if written != len(data):
            raise OSError(28, "the log's tree could not be written whole")
        os.fsync(self._descriptor)
        self.size += len(leaves)


def _nodes_of(leaves: int) -> int:
    """Return how many complete subtrees a tree of so many leaves has."""
    return 2 * leaves - leaves.bit_count()


def _leaves_of(nodes: int) -> int:
    """Return the most leaves whose subtrees are all among so many nodes."""
    low = nodes // 2
    while _nodes_of(low + 1) <= nodes:
        low += 1
    return low


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _index_of(line: bytes) -> int:
    """Return which entry a line is; -1 for nothing, -2 for what is no entry."""
    if not line:
        return -1
    try:
        return int(json.loads(line)["index"]) if line.endswith(b"\n") else -2
    except (ValueError, KeyError, TypeError):
        return -2


def _last_line(path: Path) -> bytes:
    """Return the last line of a file, or nothing of an empty one."""
    with path.open("rb") as file:
        end, size = os.fstat(file.fileno()).st_size, _TAIL_BYTES
        while True:
            data = os.pread(file.fileno(), size, max(0, end - size))
            if size >= end or data.count(b"\n", 0, -1):
                return data[data.rfind(b"\n", 0, -1) + 1 :]
            size *= 4
