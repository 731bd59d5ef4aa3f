"""Arrays, tables, safetensors and documents: what runs, what lies, and what two readers take for two."""

import io
import json
import struct

import numpy
import pyarrow
from archives import npy, npz
from pickled import FIRES
from pyarrow import ipc, parquet
from sample import MARKER, Sample, mark_where


class Call:
    def __reduce__(self):
        import os

        return os.mkdir, (MARKER,)


def numpy_load(path):
    loaded = numpy.load(path, allow_pickle=True)
    return [loaded[name] for name in loaded.files] if hasattr(loaded, "files") else loaded


def header(text, *, version=b"\x01\x00", body=b""):
    raw = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(raw)) + raw + body


def arrays():
    objects = npy(numpy.array([Call()], dtype=object))
    yield Sample("array", "objects", objects, numpy_load, ".npy")
    yield Sample("array", "objects in an archive", npz(("a.npy", objects)), numpy_load, ".npz")
    structured = npy(numpy.array([(1, Call())], dtype=[("a", "i4"), ("b", object)]))
    yield Sample("array", "objects in a field", structured, numpy_load, ".npy")
    for name, data in (
        ("a pickle by that name", FIRES),
        ("promises more", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}")),
        ("holds more", npy(numpy.zeros(3)) + b"x"),
        ("a header that is evaluated", header("__import__('os')")),
        (
            "a remark in the header",
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } # x", body=bytes(4)),
        ),
        (
            "a key twice",
            header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", body=bytes(4)),
        ),
        ("a negative size", header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}")),
        ("another version", header("{}", version=b"\x09\x00")),
        ("no array in the archive", npz(("a.npy", b"text"))),
        ("another member in the archive", npz(("a.txt", npy(numpy.zeros(1))))),
    ):
        yield Sample("array", name, data, None, ".npz" if data[:2] == b"PK" else ".npy")


READING = False  # whether a consumer is at work, and not the maker of the samples


class Known(pyarrow.ExtensionType):
    """An extension type whose reader runs code: as any reader that knows one does."""

    def __init__(self):
        super().__init__(pyarrow.int64(), "tests.known")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        mark_where(READING)
        return cls()


def arrow(table, **options):
    out = io.BytesIO()
    with ipc.new_file(out, table.schema, **options) as writer:
        writer.write_table(table)
    return out.getvalue()


def as_parquet(table, *, write_statistics=False, **options):
    out = io.BytesIO()
    parquet.write_table(table, out, write_statistics=write_statistics, **options)
    return out.getvalue()


def arrow_load(path):
    global READING
    READING = True
    pyarrow.register_extension_type(Known())
    return ipc.open_file(path).read_all()


def parquet_load(path):
    global READING
    READING = True
    pyarrow.register_extension_type(Known())
    return parquet.read_table(path)


def stream_and_file(path):
    data = path.read_bytes()
    mark_where(ipc.open_stream(data[8:]).read_all() != ipc.open_file(data).read_all())


def varint(value):
    """Spell a number as Parquet's footer does: zigzag, seven bits at a time."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def footer_changed(data, old, new):
    """Return a Parquet file with a number in its footer changed, where it first stands."""
    start = len(data) - 8 - struct.unpack_from("<i", data, len(data) - 8)[0]
    place = data.index(varint(old), start)
    assert len(varint(old)) == len(varint(new))
    return data[:place] + varint(new) + data[place + len(varint(old)) :]


def elsewhere(table):
    """Return a Parquet file of a footer alone, whose columns lie in another file."""
    whole, out = io.BytesIO(), io.BytesIO()
    collected = []
    parquet.write_table(table, whole, metadata_collector=collected, write_statistics=False)
    collected[0].set_file_path("other.parquet")
    collected[0].write_metadata_file(out)
    return out.getvalue()


def noted_batch():
    out = io.BytesIO()
    batch = pyarrow.record_batch({"a": [1]})
    with ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch, custom_metadata={"note": "secret"})
    return out.getvalue()


def noted_footer():
    out = io.BytesIO()
    batch = pyarrow.record_batch({"a": [1]})
    with ipc.new_file(out, batch.schema, metadata={"note": "secret"}) as writer:
        writer.write_batch(batch)
    return out.getvalue()


def repeated_batch():
    """Return an Arrow file of two batches, whose footer names the first one twice."""
    out = io.BytesIO()
    with ipc.new_file(out, pyarrow.schema([("a", pyarrow.int64())])) as writer:
        for number in (1, 2):
            writer.write_batch(pyarrow.record_batch({"a": [number]}))
    data = out.getvalue()
    first = data.index(b"\xff\xff\xff\xff", 16)
    second = data.index(b"\xff\xff\xff\xff", first + 8)
    place = data.rindex(struct.pack("<q", second))
    return data[:place] + struct.pack("<q", first) + data[place + 8 :]


def nested(depth):
    """Return a column of lists in lists."""
    column = pyarrow.array([1])
    for _ in range(depth):
        column = pyarrow.ListArray.from_arrays([0, len(column)], column)
    return pyarrow.table({"a": column})


def tables():
    plain = pyarrow.table({"a": [1, 2, 3], "s": ["x", "yy", "z"]})
    known = pyarrow.table({"a": pyarrow.ExtensionArray.from_storage(Known(), pyarrow.array([1, 2]))})
    inside = pyarrow.table(
        {"a": pyarrow.StructArray.from_arrays([known["a"].chunk(0)], names=["b"])},
    )
    noted = plain.replace_schema_metadata({"note": "secret"})
    field = pyarrow.table(
        [plain["a"]], schema=pyarrow.schema([pyarrow.field("a", pyarrow.int64(), metadata={"k": "v"})])
    )
    lies = bytearray(arrow(pyarrow.table({"s": ["abcdefgh" * 40]})))
    place = lies.index(struct.pack("<ii", 0, 320))
    lies[place + 4 : place + 8] = struct.pack("<i", 1 << 30)
    made = arrow(plain)
    end = made.rindex(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    footer, renamed = end + 8, arrow(pyarrow.table({"aaaa": [1]}))
    batch = made.index(b"\xff\xff\xff\xff", 16)
    moved = made[:batch] + made[batch:end] + made[batch:]  # the stream has the batch twice, the footer once
    for name, data, load in (
        ("an extension type", arrow(known), arrow_load),
        ("an extension type in a struct", arrow(inside), arrow_load),
        ("metadata", arrow(noted), None),
        ("metadata of a column", arrow(field), None),
        ("a column's name that steers a terminal", arrow(pyarrow.table({"\x1b[2J": [1]})), None),
        ("compressed", arrow(plain, options=ipc.IpcWriteOptions(compression="zstd")), None),
        ("offsets beyond the column", bytes(lies), None),
        ("a batch that only the stream has", moved, stream_and_file),
        ("cut off", made[:-1], None),
        ("bytes before the footer", made[:footer] + bytes(8) + made[footer:], None),
        ("an end mark in front", made[:batch] + bytes.fromhex("ffffffff00000000") + made[batch:], stream_and_file),
        ("a schema that is cut", made[:60], None),
        ("a footer longer than the file", made[:-10] + struct.pack("<i", 1 << 30) + made[-6:], None),
        ("bytes in front of a message", made[:batch] + bytes(8) + made[batch:], None),
        ("another schema in the footer", b"bbbb".join(renamed.rsplit(b"aaaa", 1)), None),
        ("more columns than allowed", arrow(pyarrow.table({f"c{n}": [1] for n in range(10_001)})), None),
        ("lists in lists", arrow(nested(20)), None),
        ("a batch in the footer twice", repeated_batch(), stream_and_file),
        ("a dictionary", arrow(pyarrow.table({"a": pyarrow.array(["x", "y"]).dictionary_encode()})), None),
        ("metadata of a batch", noted_batch(), None),
        ("metadata of the footer", noted_footer(), None),
        ("bytes between columns", made.replace(b"xyyz" + bytes(4), b"xyyzABCD", 1), None),
    ):
        yield Sample("arrow", name, data, load, ".arrow")
    table = as_parquet(plain)
    footer_size = struct.unpack_from("<i", table, len(table) - 8)[0]
    long = as_parquet(pyarrow.table({"a": list(range(77)), "b": list(range(77))}), use_dictionary=False)
    second = parquet.ParquetFile(io.BytesIO(long)).metadata.row_group(0).column(1).data_page_offset
    for name, data, load in (
        ("an extension type", as_parquet(known), parquet_load),
        ("an extension type in a struct", as_parquet(inside), parquet_load),
        ("statistics", as_parquet(plain, write_statistics=True), None),
        ("a column's name that steers a terminal", as_parquet(pyarrow.table({"\x1b[2J": [1]})), None),
        ("bytes behind the footer", table[:-8] + b"secret" + struct.pack("<i", footer_size + 6) + b"PAR1", None),
        ("metadata", as_parquet(noted), None),
        ("metadata of a column", as_parquet(field), None),
        ("a page index", as_parquet(plain, write_page_index=True), None),
        ("bytes before the footer", table[:100] + bytes(8) + table[100:], None),
        ("cut off", table[:-1], None),
        ("an encrypted footer", table[:-4] + b"PARE", None),
        ("a footer longer than the file", table[:-8] + struct.pack("<i", 1 << 30) + b"PAR1", None),
        ("two files", table + table, None),
        ("a schema in it that is no text", table.replace(b"/////", b"!!!!!", 1), None),
        ("columns in another file", elsewhere(plain), None),
        ("rows that do not add up", footer_changed(long, 77, 78), None),
        ("a gap between columns", footer_changed(long, second, second + 1), None),
        ("more columns than allowed", as_parquet(pyarrow.table({f"c{n}": [1] for n in range(10_001)})), None),
        ("lists in lists", as_parquet(nested(20)), None),
        ("more row groups than allowed", as_parquet(pyarrow.table({"a": [1] * 10_001}), row_group_size=1), None),
    ):
        yield Sample("parquet", name, data, load, ".parquet")


def tensors(header_, body=bytes(16)):
    raw = header_ if isinstance(header_, bytes) else json.dumps(header_).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def first_and_last(path):
    """Read a header as readers do that keep the first of two equal names, and as those that keep the last."""
    data = path.read_bytes()
    text = data[8 : 8 + struct.unpack_from("<Q", data)[0]]
    first = json.loads(text, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    mark_where(first != json.loads(text))


def safetensors():
    def entry(begin, end):
        return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}

    twice = (
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}'
    )
    yield Sample("safetensors", "a tensor twice", tensors(twice), first_and_last, ".safetensors")
    for name, data in (
        ("metadata", tensors({"__metadata__": {"k": "v"}, "a": entry(0, 16)})),
        ("an overlap", tensors({"a": entry(0, 16), "b": entry(8, 16)})),
        ("a hole", tensors({"a": entry(0, 4), "b": entry(8, 16)})),
        ("beyond the file", tensors({"a": entry(0, 1 << 30)})),
        ("bytes behind", tensors({"a": entry(0, 16)}, bytes(17))),
        ("another size", tensors({"a": entry(0, 16) | {"shape": [1 << 40, 1 << 40]}})),
        ("no header", tensors(b"{}x")),
        ("another field", tensors({"a": entry(0, 16) | {"code": "x"}})),
        ("a name with a path", tensors({"../a": entry(0, 16)})),
    ):
        yield Sample("safetensors", name, data, None, ".safetensors")


def documents():
    for name, data, ending in (
        ("steers a terminal", b"a\x1b]0;title\x07", ".txt"),
        ("turns text around", "a\u202eb".encode(), ".txt"),
        ("no text", b"\xff\xfe\x00", ".txt"),
        ("a pickle in text", f"cposix\nmkdir\n(V{MARKER}\ntR.".encode(), ".txt"),
        ("an array of a hundred megabytes", b"[" + b"1," * (50 << 20) + b"1]", ".json"),
        ("deeper than any", b"[" * 1_000_000, ".json"),
        ("a library", b"\x7fELF\x02\x01\x01" + bytes(64), ".txt"),
        ("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(64), ".h5"),
        ("compressed", b"\x1f\x8b\x08" + bytes(64), ".json"),
    ):
        yield Sample("document", name, data, None, ending)


def samples():
    yield from arrays()
    yield from tables()
    yield from safetensors()
    yield from documents()
