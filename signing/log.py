"""An append-only transparency log on disk: what was logged, and the Merkle tree over it (RFC 6962).

`entries` holds one JSON line for each entry. `tree` holds every complete subtree's hash once, in the order in which
they became complete, so that an append writes, and a proof reads, a number of hashes that is the logarithm of the log's
size. `checkpoint` is the last head that was signed: a log that is shorter than it, or of another root, was rolled back
or rewritten, and is not used. Entries are on the disk before their hashes, and hashes before anything is signed over
them; what a writer that died left beyond is cut off.
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
    """A log in a folder, which is made at first use.

    Args:
        folder: Holds `entries`, `tree` and `checkpoint`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
        """Return the last signed checkpoint, or the empty string."""
        try:
            return (self._folder / "checkpoint").read_text()
        except FileNotFoundError:
            return ""

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
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "tree", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            tree = _Tree(descriptor)
            self._check_history(tree)
            self._cut_entries(tree.size)
            yield tree
        finally:
            os.close(descriptor)

    def _check_history(self, tree: "_Tree") -> None:
        text = self.checkpoint()
        if not text:
            return
        try:
            signed = parse_checkpoint(text)
        except ValueError as err:
            raise TrustDomainError(f"log's checkpoint is damaged: {self._folder}: {err}") from err
        if signed.size > tree.size or merkle.root_hash(tree.read, signed.size) != signed.root:
            raise TrustDomainError(
                f"log was rolled back or rewritten: {self._folder} has {tree.size} entries, {signed.size} were signed",
                hint="restore it as it was; what was signed since cannot be signed again under other indices",
            )

    def _cut_entries(self, size: int) -> None:
        """Drop what a writer that died left without a hash. Reads the last line alone, unless there is such."""
        path = self._folder / "entries"
        line = _last_line(path)
        if line.endswith(b"\n") and json.loads(line)["index"] == size - 1:
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
    """The nodes of complete subtrees, in post-order; a torn end is cut off."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        nodes = os.fstat(descriptor).st_size // merkle.HASH_BYTES
        self.size = _leaves_of(nodes)
        os.ftruncate(descriptor, _nodes_of(self.size) * merkle.HASH_BYTES)

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


def _last_line(path: Path) -> bytes:
    """Return the last line of a file, or nothing of an empty or missing one."""
    try:
        with path.open("rb") as file:
            end, size = os.fstat(file.fileno()).st_size, _TAIL_BYTES
            while True:
                data = os.pread(file.fileno(), size, max(0, end - size))
                if size >= end or data.count(b"\n", 0, -1):
                    return data[data.rfind(b"\n", 0, -1) + 1 :]
                size *= 4
    except FileNotFoundError:
        return b""
