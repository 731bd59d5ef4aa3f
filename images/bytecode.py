"""Compile Python sources with the image's own interpreter, so that the bytecode is the image's and not the builder's.

Between 3.11.7 and 3.11.2, 21 of 8,093 files compile to other bytes under the same magic number (measured 2026-11), so
the builder's interpreter will not do. The image's CPython is unpacked beside its libc and started through the image's
own loader: no container and no privilege. It only compiles; nothing that it reads is executed.
"""

import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from images.errors import ImageError
from images.tar import Entry, Kind

_SECONDS_MAX = 1200
_TAG = "cpython-311"

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
    """The image's CPython, unpacked into a scratch directory for as long as the context lasts."""

    def __init__(self, os_entries: Sequence[Entry], *, version: str) -> None:
        self._entries = os_entries
        self._version = version
        self._scratch = tempfile.TemporaryDirectory(prefix="executor-bytecode-")
        self._root = Path(self._scratch.name)

    def __enter__(self) -> "ImageInterpreter":
        wanted = (f"usr/lib/python{self._version}/", "usr/lib/x86_64-linux-gnu/", f"usr/bin/python{self._version}")
        links = []
        for entry in self._entries:
            if not entry.path.startswith(wanted):
                continue
            target = self._root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind is Kind.FILE:
                target.write_bytes(entry.data)
                target.chmod(0o755 if entry.executable else 0o644)
            elif entry.kind is Kind.SYMLINK and "/" not in entry.target:
                links.append((target, entry.target))
        for target, name in links:
            target.symlink_to(name)
        return self

    def __exit__(self, *exc: object) -> None:
        self._scratch.cleanup()

    def compile(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield an unchecked-hash `.pyc` (PEP 552) for every `.py` that compiles, in the order given.

        Files that do not compile (templates, tests of the parser) are left without bytecode.
        """
        sources = [e for e in entries if e.kind is Kind.FILE and e.path.endswith(".py")]
        with tempfile.TemporaryFile() as request:
            for entry in sources:
                for part in (entry.path.encode(), entry.data):
                    request.write(struct.pack(">I", len(part)) + part)
            request.seek(0)
            done = subprocess.run(
                self._command(), stdin=request, capture_output=True, timeout=_SECONDS_MAX, check=False, env=self._env()
            )
        if done.returncode != 0:
            raise ImageError(
                f"the image's interpreter failed as a compiler: {done.stderr.decode(errors='replace')[-300:]}"
            )
        offset = 0
        for entry in sources:
            (size,) = struct.unpack_from(">I", done.stdout, offset)
            code = done.stdout[offset + 4 : offset + 4 + size]
            offset += 4 + size
            if code:
                yield Entry(path=_cache_path(entry.path), kind=Kind.FILE, data=code)

    def _command(self) -> list[str]:
        libraries = self._root / "usr/lib/x86_64-linux-gnu"
        loader = libraries / "ld-linux-x86-64.so.2"
        program = self._root / f"usr/bin/python{self._version}"
        return [str(loader), "--library-path", str(libraries), str(program), "-S", "-B", "-c", _COMPILER]

    def _env(self) -> dict[str, str]:
        return {"PYTHONHOME": str(self._root / "usr"), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}


def _cache_path(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{_TAG}.pyc"
