"""An append-only transparency log on disk: what was logged, and the Merkle tree over it (RFC 6962).

`entries` holds one JSON line for each entry. `tree` holds every complete subtree's hash once, in the order in which
they became complete, so that an append writes, and a proof reads, a number of hashes that is the logarithm of the log's
size. `checkpoint` is the signed head, and what commits an append: it is written last, and nothing is handed out before
it is on the disk. So what stands beyond it was left by a writer that died, and is cut off; a log that is shorter than
it, of another root, or with a checkpoint that its key did not sign, was rolled back or rewritten, and is not used.
"""

import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from signing import merkle
from signing.ecdsa import PublicKey, verify_signature
from signing.encoding import canonical_json, decode_base64, encode_base64
from signing.errors import TrustDomainError
from signing.files import make_folder, write_whole
from signing.note import Checkpoint, parse_checkpoint

CLOCK_HINT = "set the clock right; if it was wrong when the entry was made, `executor trust revoke` from that entry on"
_RESTORE = "restore the log from a backup"
_TAIL_BYTES = 1 << 14
_CLOCK_SLACK_SECONDS = 60  # whoever waited for the lock took its time before; a clock that stands further back is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A tree's size in leaves, and its root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What an append made.

    Attributes:
        first: Index of the first new entry.
        time: Of all of them, in seconds since 1970.
        head: The new head.
        proofs: Each new entry's inclusion proof.
        checkpoint: The signed head.
    """

    first: int
    time: int
    head: Head
    proofs: list[list[bytes]]
    checkpoint: str


class DiskLog:
    """A log in a folder. A new one starts with `create`.

    Args:
        folder: Holds `entries`, `tree` and `checkpoint`.
        key: Whose checkpoints it has.
    """

    def __init__(self, folder: Path, key: PublicKey) -> None:
        self._folder = folder
        self._key = key

    def create(self, *, sign_head: Callable[[Head], str]) -> None:
        """Start an empty log, in place of what may lie there."""
        make_folder(self._folder, mode=0o700, parents=True, exist_ok=True)
        for name in ("entries", "tree"):
            write_whole(self._folder / name, b"", mode=0o600)
        empty = Head(size=0, root=merkle.root_hash(merkle.reader([]), 0))
        write_whole(self._folder / "checkpoint", sign_head(empty).encode(), mode=0o644)

    def append(self, bodies: Sequence[bytes], *, time: int, sign_head: Callable[[Head], str]) -> Appended:
        """Append entries, and sign the head that has them.

        Args:
            bodies: What is logged.
            time: Seconds since 1970. Where the last entry is later by less than a minute, its time is taken: several
                append at the same time, and a log's times never go back.
            sign_head: Returns the signed checkpoint over a head.

        Raises:
            TrustDomainError: The log was rolled back or rewritten, or the clock stands before its last entry.
        """
        with self._locked() as tree:
            first = tree.size
            time = self._not_before_the_last(tree, time)
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
        return Appended(first=first, time=time, head=head, proofs=proofs, checkpoint=checkpoint)

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
            return (self._folder / "checkpoint").read_text(encoding="utf-8")
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
        """Return the hashes of the first `size` leaves, of which with those after them the signed root was made.

        Raises:
            TrustDomainError: It was not, or there are not as many.
        """
        with self._locked() as tree:
            if size > tree.size:
                raise self._not_as_signed(f"has {tree.size} entries, not {size}")
            leaves = [tree.read(0, i) for i in range(tree.size)]
            if merkle.root_hash(merkle.reader(leaves), len(leaves)) != merkle.root_hash(tree.read, tree.size):
                raise self._not_as_signed("has leaves that do not lead to its root")
            return leaves[:size]

    def time_of(self, index: int) -> int:
        """Return the time of an entry, in seconds since 1970.

        Raises:
            TrustDomainError: There is none, or it is damaged.
        """
        try:
            with (self._folder / "entries").open("rb") as lines:
                for number, line in enumerate(lines):
                    if number == index:
                        return self._time_in(line)
        except OSError as err:
            raise TrustDomainError(f"cannot use the log: {self._folder}: {err.strerror}") from err
        raise TrustDomainError(f"log has no entry {index}: {self._folder}")

    def entries(self) -> Iterator[tuple[int, str]]:
        """Yield of each entry its time, in seconds since 1970, and the sha256 of the payload that was signed, in hex.

        Raises:
            TrustDomainError: One is damaged.
        """
        size = self.head().size
        try:
            with (self._folder / "entries").open("rb") as lines:
                for line in itertools.islice(lines, size):
                    body = json.loads(decode_base64(json.loads(line)["body"]))
                    yield self._time_in(line), str(body["spec"]["payloadHash"]["value"])
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise TrustDomainError(f"log's entries are damaged: {self._folder}: {err}", hint=_RESTORE) from err

    def last_time(self) -> int | None:
        """Return the time of the last entry, in seconds since 1970; None for an empty log."""
        with self._locked() as tree:
            return self._time_in(_last_line(self._folder / "entries")) if tree.size else None

    @contextmanager
    def _locked(self) -> Iterator["_Tree"]:
        try:
            descriptor = os.open(self._folder / "tree", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield self._open(_Tree(descriptor))
            finally:
                os.close(descriptor)
        except OSError as err:
            raise TrustDomainError(f"cannot use the log: {self._folder}: {err.strerror or err}") from err

    def _open(self, tree: "_Tree") -> "_Tree":
        """Hold a tree against the checkpoint, and drop what stands beyond it."""
        signed = self._signed_head()
        if signed.size > tree.size:
            raise self._not_as_signed(f"has {tree.size} entries, {signed.size} were signed")
        tree.cut(signed.size)
        if merkle.root_hash(tree.read, signed.size) != signed.root:
            raise self._not_as_signed("has another root than was signed")
        self._cut_entries(signed.size)
        return tree

    def _signed_head(self) -> Checkpoint:
        try:
            signed = parse_checkpoint(self.checkpoint())
        except ValueError as err:
            raise TrustDomainError(f"log's checkpoint is damaged: {self._folder}: {err}") from err
        try:
            verify_signature(self._key, signed.signature, signed.text.encode())
        except InvalidSignature as err:
            raise self._not_as_signed("has a checkpoint that is not signed by its key") from err
        return signed

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
        end, line = 0, b""
        with path.open("a+b") as entries:
            entries.seek(0)
            for _ in range(size):
                end += len(line := entries.readline())
            if _index_of(line) != size - 1:
                raise TrustDomainError(f"log's entries are damaged: {path}", hint=_RESTORE)
            entries.truncate(end)

    def _not_before_the_last(self, tree: "_Tree", time: int) -> int:
        last = self._time_in(_last_line(self._folder / "entries")) if tree.size else time
        if last - time > _CLOCK_SLACK_SECONDS:
            raise TrustDomainError(
                f"the clock stands {last - time} s before the log's last entry",
                hint=CLOCK_HINT,
            )
        return max(time, last)

    def _time_in(self, line: bytes) -> int:
        try:
            return int(json.loads(line)["time"])
        except (ValueError, KeyError, TypeError, OverflowError) as err:
            raise TrustDomainError(f"log's entries are damaged: {self._folder}", hint=_RESTORE) from err


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
    except (ValueError, KeyError, TypeError, OverflowError):
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
