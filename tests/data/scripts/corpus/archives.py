"""Plain ZIP rules: archives that two readers take for two."""

import io
import struct
import warnings
import zipfile

import numpy
import torch
from pickled import FIRES, checkpoint, torch_load
from sample import Sample, mark_where

from tools.script_model import normalise

warnings.simplefilter("ignore")


def npz(*members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def npy(value):
    out = io.BytesIO()
    numpy.save(out, value)
    return out.getvalue()


def changed(data, mark, offset, value, *, last=False):
    """Return an archive with two bytes of one header set."""
    place = data.rindex(mark) if last else data.index(mark)
    return data[: place + offset] + struct.pack("<H", value) + data[place + offset + 2 :]


def first_local_member(path):
    """Read an archive from its front, as readers of streams do, and compare with one that goes by the directory."""
    data = path.read_bytes()
    place = data.index(b"PK\x03\x04")
    name_length, _ = struct.unpack_from("<HH", data, place + 26)
    name = data[place + 30 : place + 30 + name_length].decode("latin-1")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        mark_where(name != archive.namelist()[0] or archive.getinfo(name).header_offset != place)


def samples():
    one, two = npy(numpy.zeros(3)), npy(numpy.ones(3))
    plain = npz(("a.npy", one), ("b.npy", two))
    local, central, end = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
    weights = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, weights)
    twice = io.BytesIO(normalise(weights.getvalue()))
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("model/data.pkl", FIRES)
    yield Sample("zip", "a member twice, of which the last calls", twice.getvalue(), torch_load, ".pt")
    for name, data in (
        ("another name in front", plain.replace(b"a.npy", b"x.npy", 1)),
        ("a name twice", npz(("a.npy", one), ("a.npy", two))),
        ("an archive behind another", npz(("a.npy", one)) + npz(("a.npy", two))),
        ("bytes in front", b"PK junk" + plain),
    ):
        yield Sample("zip", name, data, first_local_member, ".npz")
    for name, data in (
        ("bytes behind", plain + b"x"),
        ("a comment", plain[:-2] + struct.pack("<H", 4) + b"note"),
        ("encrypted, says the directory", changed(plain, central, 8, 1)),
        ("encrypted, says the member", changed(plain, local, 6, 1)),
        ("a folder, says the directory", changed(plain, central, 38, 16)),
        ("another method in front", changed(plain, local, 8, 8)),
        ("another disk", changed(plain, end, 4, 1)),
        ("a count that is too small", changed(changed(plain, end, 8, 1), end, 10, 1)),
        ("a checksum that is wrong", changed(plain, central, 16, 1)),
        ("a version that nobody reads", changed(plain, central, 6, 99)),
        ("bzip2", npz(("a.npy", one), method=zipfile.ZIP_BZIP2)),
        ("a path upwards", npz(("../a.npy", one))),
        ("an absolute path", npz(("/a.npy", one))),
        ("an archive within", npz(("a.npy", npz(("b.npy", one))))),
        ("no member", npz()),
        ("a checkpoint within", npz(("a.npy", checkpoint(FIRES)))),
    ):
        yield Sample("zip", name, data, None, ".npz")
