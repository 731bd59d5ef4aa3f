"""Pickles and checkpoints that run something when they are loaded, by ways that scanners of modules miss."""

import io
import pickle
import struct
import zipfile

import torch
from sample import MARK, MARKER, Sample

from tools.script_model import normalise

# Module, name and arguments of what is called. Each is harmless: it makes MARKER.
CALLS = [
    ("posix", "mkdir", (MARKER,)),
    ("os", "mkdir", (MARKER,)),
    ("os", "makedirs", (MARKER,)),
    ("builtins", "eval", (MARK,)),
    ("builtins", "exec", (MARK,)),
    ("builtins", "open", (MARKER, "w")),
    ("io", "open", (MARKER, "w")),
    ("_io", "FileIO", (MARKER, "w")),
    ("timeit", "timeit", (MARK, "pass", None, 1)),
    ("cProfile", "run", (MARK,)),
    ("profile", "run", (MARK,)),
    ("pdb", "run", (MARK,)),
    ("doctest", "testsource", ("os", "os")),
    ("logging", "FileHandler", (MARKER,)),
    ("sqlite3", "connect", (MARKER + "/../marker",)),
    ("zipfile", "ZipFile", (MARKER, "w")),
    ("tarfile", "open", (MARKER, "w")),
    ("gzip", "open", (MARKER, "w")),
    ("bz2", "open", (MARKER, "w")),
    ("shutil", "copyfile", ("/etc/passwd", MARKER)),
    ("numpy", "save", (MARKER, [1])),
    ("torch", "save", ([1], MARKER)),
    ("torch.serialization", "os.mkdir", (MARKER,)),
    ("torch.hub", "os.mkdir", (MARKER,)),
    ("numpy.lib._npyio_impl", "os.mkdir", (MARKER,)),
    ("code", "interact", ("",)),
]


class Call:
    def __init__(self, arguments):
        self.arguments = arguments


def text(value):
    """Spell a string or a number as protocol 4 does."""
    if value is None:
        return b"N"
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, list):
        return b"]" + b"".join(text(v) + b"a" for v in value)
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def body(module, name, arguments):
    return text(module) + text(name) + b"\x93(" + b"".join(map(text, arguments)) + b"tR"


def calling(module, name, arguments):
    return b"\x80\x04" + body(module, name, arguments) + b"."


def by_text(module, name, arguments):
    """The same in protocol 0, which is plain text."""
    return f"c{module}\n{name}\n(".encode() + b"".join(f"V{a}\n".encode() for a in arguments) + b"tR."


def load(path):
    return pickle.loads(path.read_bytes())


def torch_load(path):
    return torch.load(path, weights_only=False)


def checkpoint(pickled, **members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **members}.items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), content)
    return out.getvalue()


def saved(value):
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


FIRES = calling("posix", "mkdir", (MARKER,))
HIDDEN = b"\x80\x04" + text("os") + b"\x8c\x05mkdir\x94Nh\x000" + b"\x93(" + text(MARKER) + b"tR."
BY_MEMO = b"\x80\x04(\x8c\x05posixq\x07\x8c\x05mkdirq\x080h\x07h\x08\x93(" + text(MARKER) + b"tR."
INSTANCE = f"(V{MARKER}\niposix\nmkdir\n.".encode()
OBJECT = b"\x80\x04(" + text("posix") + text("mkdir") + b"\x93" + text(MARKER) + b"o."


def samples():
    for module, name, arguments in CALLS:
        yield Sample("pickle", f"{module}.{name}", calling(module, name, arguments), load)
    for module, name, arguments in (CALLS[0], CALLS[3], CALLS[5]):
        yield Sample("pickle", f"text of {module}.{name}", by_text(module, name, arguments), load)
    for name, data in (
        ("by memo", BY_MEMO),
        ("instance", INSTANCE),
        ("object", OBJECT),
        ("cut off behind the call", FIRES[:-1]),
        ("bytes behind the end", FIRES + b"more"),
        ("a second pickle behind the first", pickle.dumps(1) + FIRES),
        ("copyreg extension", b"\x80\x02\x82\x01."),
        ("persistent id", b"Px\n."),
        ("name put together", b"\x80\x04" + text("po") + text("six") + b"\x86\x93."),
        ("a hundred thousand nothings", b"N" * 150_000 + b"."),
        ("huge integer", b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + bytes(1 << 20) + b"."),
    ):
        yield Sample("pickle", name, data, load)
    plain = saved({"w": torch.zeros(3)})
    legacy = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    for name, data in (
        ("calls", checkpoint(FIRES)),
        ("calls by a dotted name", checkpoint(calling("torch.serialization", "os.mkdir", (MARKER,)))),
        ("calls in text", checkpoint(by_text("posix", "mkdir", (MARKER,)))),
        ("as torch writes it, with descriptors and padding", plain),
        ("a second program", checkpoint(FIRES, **{"bytecode.pkl": b"x"})),
        ("a library", checkpoint(FIRES, **{"extra.so": b"\x7fELF"})),
        ("the old format", legacy.getvalue()),
        ("the old format, calling", FIRES + legacy.getvalue()),
        ("a pickle before a plain archive", FIRES + normalise(plain)),
        ("two archives", checkpoint(FIRES) + normalise(plain)),
        ("two archives the other way round", normalise(plain) + checkpoint(FIRES)),
        ("cut off", checkpoint(FIRES)[:-1]),
        ("no directory", checkpoint(FIRES)[:-60]),
    ):
        yield Sample("checkpoint", name, data, torch_load, ".pt")
