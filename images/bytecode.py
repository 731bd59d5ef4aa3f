"""Compile Python sources with the image's own interpreter, so that the bytecode is the image's and not the builder's.

Between 3.11.7 and 3.11.2, 21 of 8,093 files compile to other bytes under the same magic number (measured 2026-11), so
the builder's interpreter will not do. The image's CPython is unpacked beside its libc and started through the image's
own loader: no container and no privilege. It only compiles; nothing that it reads is executed.
"""

import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

from images.atomic import write_file
from images.encoding import canonical_json, sha256_hex
from images.errors import ImageError
from images.tar import Entry, Kind

_SECONDS_MAX = 1200
_LIBRARIES = {"amd64": ("usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2")}
Bytecode = Mapping[str, bytes]

# Runs in the image's interpreter. Sources come in and bytecode goes out as length-prefixed pairs.
_COMPILER = """
import importlib.util, struct, sys
from importlib._bootstrap_external import _code_to_hash_pyc
source, sink = sys.stdin.buffer, sys.stdout.buffer
def take():
    size = source.read(4)
    return source.read(struct.unpack('>I', size)[0]) if size else None
while (path := take()) is not None:
    text = take()
    try:
        code = compile(text, '/' + path.decode(), 'exec', dont_inherit=True, optimize=0)
        result = bytes(_code_to_hash_pyc(code, importlib.util.source_hash(text), False))
    except (SyntaxError, ValueError):
        result = b''
    sink.write(struct.pack('>I', len(result)) + result)
    sink.flush()
"""


class ImageInterpreter:
    """The image's CPython, unpacked into a scratch directory for as long as the context lasts.

    Args:
        entries: The files of the packages that it needs to compile.
        version: Its minor version, such as `3.11`.
        architecture: Debian architecture that it runs on.

    Raises:
        ImageError: It cannot run here, or an entry is missing.
    """

    def __init__(self, entries: Sequence[Entry], *, version: str, architecture: str) -> None:
        machine = os.uname().machine
        if architecture not in _LIBRARIES or machine != "x86_64":
            raise ImageError(
                f"bytecode for {architecture} cannot be compiled on {machine}",
                hint="build on a machine of the image's own architecture; amd64 is the only one so far",
            )
        self._entries = entries
        self._version = version
        self._folder, self._loader = _LIBRARIES[architecture]
        self._scratch = tempfile.TemporaryDirectory(prefix="executor-bytecode-")
        self._root = Path(self._scratch.name)

    def __enter__(self) -> "ImageInterpreter":
        links = []
        for entry in self._entries:
            target = self._root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind is Kind.FILE:
                target.write_bytes(entry.data)
                target.chmod(0o700)
            elif entry.kind is Kind.SYMLINK and "/" not in entry.target:
                links.append((target, entry.target))
        for target, name in links:
            target.symlink_to(name)
        return self

    def __exit__(self, *exc: object) -> None:
        self._scratch.cleanup()

    def compile(self, sources: Sequence[Entry]) -> dict[str, bytes]:
        """Return an unchecked-hash `.pyc` (PEP 552) by path for every source that compiles.

        Files that do not compile (templates, tests of the parser) are left without bytecode.
        """
        request = b"".join(_framed(e) for e in sources)
        try:
            done = subprocess.run(
                self._command(),
                input=request,
                capture_output=True,
                timeout=_SECONDS_MAX,
                check=False,
                env=self._env(),
                cwd=self._root,
            )
        except subprocess.TimeoutExpired as err:
            raise ImageError(f"the image's interpreter did not compile within {_SECONDS_MAX} s") from err
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace")[-300:]
            raise ImageError(f"the image's interpreter failed as a compiler: {reason}")
        return {self._cache_path(e.path): code for e, code in zip(sources, _codes(done.stdout), strict=True) if code}

    def _command(self) -> list[str]:
        libraries = self._root / self._folder
        program = self._root / f"usr/bin/python{self._version}"
        return [
            str(libraries / self._loader),
            "--library-path",
            str(libraries),
            str(program),
            "-S",
            "-P",  # nothing is imported from the folder that the builder happens to stand in
            "-B",
            "-c",
            _COMPILER,
        ]

    def _env(self) -> dict[str, str]:
        return {"PYTHONHOME": str(self._root / "usr"), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}

    def _cache_path(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        tag = "cpython-" + self._version.replace(".", "")
        return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"


class UseOfBytecode(Enum):
    """What a build does with bytecode that was compiled before."""

    KEEP = "take it, and keep what is new"
    READ = "take it, and keep nothing"
    IGNORE = "compile everything anew, and keep nothing"


class BytecodeCache:
    """Bytecode by what it was made of: the interpreter's packages, and path and digest of each source.

    It is filled by this machine's own compilations only and never fetched. Whatever comes out of it is still held
    against the layer digests that the lock expects.

    Args:
        root: Folder, made when first written to.
        interpreter: Digests of the packages that the interpreter is made of.
        use: Whether to take from it and to add to it.
    """

    def __init__(self, root: Path, *, interpreter: Sequence[str], use: UseOfBytecode) -> None:
        self._root = root
        self._use = use
        self._made_with = sha256_hex(canonical_json([sorted(interpreter), _COMPILER]))

    def key(self, sources: Sequence[Entry]) -> str:
        """Return what the bytecode of these sources is called."""
        return sha256_hex(canonical_json([self._made_with, [[e.path, e.digest] for e in sources]]))

    def get(self, key: str) -> dict[str, bytes] | None:
        """Return bytecode by path, or None where there is none or it is damaged."""
        if self._use is UseOfBytecode.IGNORE:
            return None
        try:
            data = (self._root / key).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        frames = _codes(data[32:])
        try:
            return {path.decode(): code for path, code in zip(frames, frames, strict=True)}
        except (struct.error, ValueError):
            return None

    def put(self, key: str, code: Bytecode) -> None:
        """Keep bytecode."""
        if self._use is not UseOfBytecode.KEEP:
            return
        data = b"".join(_frame(part) for item in code.items() for part in (item[0].encode(), item[1]))
        write_file(self._root / key, hashlib.sha256(data).digest() + data)


def sources_among(entries: Sequence[Entry]) -> list[Entry]:
    """Return the Python sources, in order."""
    return [e for e in entries if e.kind is Kind.FILE and e.path.endswith(".py")]


def compile_groups(
    groups: Sequence[Sequence[Entry]], interpreter: ImageInterpreter, *, jobs: int
) -> list[dict[str, bytes]]:
    """Compile groups of sources side by side; the result does not depend on how many at a time.

    A wheel's sources are read in the thread that compiles them, and no wheel is shared between groups.
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(interpreter.compile, groups))


def _framed(entry: Entry) -> bytes:
    return _frame(entry.path.encode()) + _frame(entry.read())


def _frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _codes(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        (size,) = struct.unpack_from(">I", data, offset)
        yield data[offset + 4 : offset + 4 + size]
        offset += 4 + size
