"""Quarantine: where a job's outputs land, hashed in the same pass that writes them.

Names, counts and sizes are enforced before a byte is written. The files are numbered: a name that a job chose never
becomes a path here.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from executor.errors import JobError
from executor.transfer.inputs import is_native

_HEAD_BYTES = 4
# Of each frame of an output but its last. The worker sends 1 MiB; in frames of one byte, 0.1 s of a job's CPU time cost
# the host 5.6 s (2026-11).
PIECE_BYTES_MIN = 1 << 16


class LimitExceededError(JobError):
    """A limit on what a job may send was reached; `limit` names the field of the job file."""

    code = "E-JOB-LIMIT"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A received output.

    Attributes:
        name: Its declared name.
        role: Its declared role.
        size: In bytes, as counted here.
        sha256: In hex, as hashed here.
        path: The numbered file that holds it.
    """

    name: str
    role: str
    size: int
    sha256: str
    path: Path


class Quarantine:
    """Receives outputs one at a time.

    Args:
        folder: An empty folder of the host's.
        declared: Roles by declared name. Any other name is refused.
        bytes_max: Ceiling on all outputs together.
        file_bytes_max: Ceiling on each of them.
        files_max: Ceiling on their number.
    """

    def __init__(
        self, folder: Path, *, declared: Mapping[str, str], bytes_max: int, file_bytes_max: int, files_max: int
    ) -> None:
        self._folder = folder
        self._declared = declared
        self._bytes_max = bytes_max
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._received = 0
        self._open: _OpenArtifact | None = None
        self.artifacts: list[Artifact] = []
        self._begun: set[str] = set()

    @property
    def bytes_received(self) -> int:
        """Bytes written so far, in all files."""
        return self._received

    def begin(self, message: Mapping[str, Any]) -> None:
        """Start an output.

        Raises:
            LimitExceededError: One file too many, or announced larger than what is left.
            JobError: Undeclared, sent twice, another role than declared, or inside another output.
        """
        name, role, size = message.get("name"), message.get("role"), message.get("size")
        if self._open is not None:
            raise JobError("an output began inside another")
        if not isinstance(name, str) or name not in self._declared:
            raise JobError(f"output is not declared in the job: {str(name)[:120]!r}")
        if name in self._begun:
            raise JobError(f"output was sent twice: {name!r}")
        if role != self._declared[name]:
            raise JobError(f"output {name!r} was declared with role {self._declared[name]!r}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise JobError(f"output {name!r} has no size")
        if len(self.artifacts) >= self._files_max:
            raise LimitExceededError(f"more than {self._files_max} outputs", limit="output_files")
        if size > self._file_bytes_max:
            raise LimitExceededError(f"an output over {self._file_bytes_max} bytes", limit="output_file_bytes")
        if self._received + size > self._bytes_max:
            raise LimitExceededError(f"outputs over {self._bytes_max} bytes", limit="output_bytes")
        self._begun.add(name)
        self._open = _OpenArtifact(name, self._declared[name], size, self._folder / f"{len(self.artifacts):04d}")

    def write(self, data: bytes) -> None:
        """Take bytes of the open output.

        Raises:
            JobError: No output is open, it is longer than announced, or those before were too few.
        """
        if self._open is None:
            raise JobError("output bytes outside of an output")
        self._open.write(data)
        self._received += len(data)

    def end(self, message: Mapping[str, Any]) -> Artifact:
        """Finish the open output.

        Raises:
            JobError: No output is open, or size or digest are not what was announced.
        """
        if self._open is None:
            raise JobError("an output ended that had not begun")
        artifact = self._open.finish(message.get("sha256"))
        self._open = None
        self.artifacts.append(artifact)
        return artifact

    def close(self) -> None:
        """Drop an output that never ended."""
        if self._open is not None:
            self._open.abandon()
            self._open = None


class _OpenArtifact:
    def __init__(self, name: str, role: str, size: int, path: Path) -> None:
        self.name, self.role, self.size, self.path = name, role, size, path
        self._digest = hashlib.sha256()
        self._written = self._last = 0
        self._head = b""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # World-readable inside a private folder: the inspecting container reads it under another user.
        self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o644), "wb")
        os.fchmod(self._file.fileno(), 0o444)

    def write(self, data: bytes) -> None:
        if self._written + len(data) > self.size:
            raise JobError(f"output {self.name!r} is longer than the {self.size} bytes announced")
        if 0 < self._last < PIECE_BYTES_MIN:
            raise JobError(
                f"output {self.name!r} came in a frame of {self._last} bytes: {PIECE_BYTES_MIN} is the least"
            )
        self._last = len(data)
        self._head = (self._head + data)[:_HEAD_BYTES] if self._written < _HEAD_BYTES else self._head
        self._file.write(data)
        self._digest.update(data)
        self._written += len(data)

    def finish(self, claimed: object) -> Artifact:
        self._file.close()
        actual = self._digest.hexdigest()
        if self._written != self.size:
            raise JobError(f"output {self.name!r} has {self._written} bytes, announced were {self.size}")
        if is_native(self._head):
            # Inspections see it in a mount that a runtime may have made executable.
            raise JobError(f"output {self.name!r} is a native library or program")
        if claimed != actual:
            raise JobError(f"output {self.name!r} does not have the digest that the job claims")
        return Artifact(name=self.name, role=self.role, size=self._written, sha256=actual, path=self.path)

    def abandon(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)
