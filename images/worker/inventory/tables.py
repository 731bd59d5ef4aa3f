"""Arrow IPC files and Parquet files: plain columns, no extension types, no free metadata, one reading.

Extension types are how a table makes its reader run something: `arrow.py_extension_type` is a pickle that pyarrow
loaded when it opened the file (CVE-2023-47248). An Arrow file is two files in one, a stream from its front and a list
of blocks at its end; both must give the same batches, of bytes that lie in the file as they are. Offsets and lengths
are checked in full, because most readers do not. Of a Parquet file the footer is read, and its column chunks must fill
the file.
Layouts: arrow.apache.org/docs/format/Columnar.html, parquet.apache.org/docs/file-format, read 2026-11.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import ipc, parquet
from worker.inventory.report import FACTS_MAX, Data, Inventory

_ARROW_MARK = b"ARROW1"
_PARQUET_MARK = b"PAR1"
_CONTINUATION = b"\xff\xff\xff\xff"
_FOOTER_BYTES_MAX = 16 << 20
_BATCHES_MAX = 10_000
_COLUMNS_MAX = 10_000
_TYPE_DEPTH_MAX = 16
_NAME_LENGTH_MAX = 200
_ALIGNMENT = 64
_VALUES_MAX = 1 << 33
_UNPACKED_BYTES_MAX = 64 << 30
_EXTENSION_KEY = b"ARROW:extension:"
_SCHEMA_KEY = b"ARROW:schema"
_WRITER = re.compile(r"[A-Za-z0-9 .()+-]{0,80}")
_RUNS = "an extension type: its reader runs code of its own"
_FREE = "free metadata is not released"


@dataclass(frozen=True, slots=True)
class _Ids:
    extension: str
    metadata: str


_ARROW = _Ids("ARROW-EXTENSION-TYPE", "ARROW-METADATA")
_PARQUET = _Ids("PARQUET-EXTENSION-TYPE", "PARQUET-METADATA")


def arrow_inventory(data: Data) -> Inventory:
    """List the columns of an Arrow IPC file."""
    report = Inventory("arrow")
    view = memoryview(data)
    try:
        size = int.from_bytes(view[-10:-6], "little")
        footer = len(view) - 10 - size
        if len(view) < 24 or view[-6:] != _ARROW_MARK or not 8 < size <= min(_FOOTER_BYTES_MAX, len(view) - 18):
            raise ValueError("it does not end in a footer")
        _no_extension(report, view[footer:])
        bodies = _messages(report, view, footer)
        file = ipc.open_file(pyarrow.py_buffer(view))
        stream = ipc.open_stream(pyarrow.py_buffer(view[8:footer]))
        _schema(report, file.schema, _ARROW)
        if file.metadata:
            report.find("ARROW-METADATA", "footer", _FREE)
        _batches(report, file, stream, view, bodies)
    except (pyarrow.ArrowException, ValueError, OverflowError, NotImplementedError, OSError) as err:
        report.find("ARROW-MALFORMED", "file", f"not one plain Arrow file: {err}")
    return report


def _messages(report: Inventory, view: memoryview, footer: int) -> list[tuple[int, int]]:
    """Walk over every message of the stream, and return where the bodies of those behind the schema lie.

    They and the end mark fill the file up to the footer.

    Raises:
        ValueError: They leave a gap, or reach into the footer.
    """
    position, count = 8, 0
    bodies = []
    while view[position : position + 8] != _CONTINUATION + b"\0\0\0\0":
        count += 1
        body = position + 8 + int.from_bytes(view[position + 4 : position + 8], "little")
        if view[position : position + 4] != _CONTINUATION or body % 8 or body > footer or count > _BATCHES_MAX:
            raise ValueError("not the beginning of a message, or more messages than allowed")
        _no_extension(report, view[position:body])
        message = ipc.read_message(pyarrow.py_buffer(view[position:footer]))
        position = body + (message.body.size if message.body is not None else 0)
        bodies.append((body, position))
    if position + 8 != footer:
        raise ValueError("bytes between the messages and the footer")
    return bodies[1:]


def _no_extension(report: Inventory, part: memoryview) -> None:
    if _EXTENSION_KEY in bytes(part):
        report.find(_ARROW.extension, "file", _RUNS)


def _batches(report: Inventory, file: Any, stream: Any, view: memoryview, bodies: list[tuple[int, int]]) -> None:
    if not stream.schema.equals(file.schema, check_metadata=True):
        raise ValueError("the stream and the footer have different schemas")
    if len(bodies) != file.num_record_batches:
        raise ValueError("messages that are no batches, or that the footer does not name")
    for index, body in enumerate(bodies):
        batch, metadata = file.get_batch_with_custom_metadata(index)
        other = stream.read_next_batch()
        if metadata:
            report.find("ARROW-METADATA", f"batch {index}", _FREE)
        base = pyarrow.py_buffer(view).address
        if any(not base <= address <= address + size <= base + len(view) for address, size in _addresses(batch)):
            report.find("ARROW-COMPRESSED", f"batch {index}", "its bytes are not those of the columns")
            return
        if _spans(batch) != _spans(other):
            raise ValueError(f"the stream and the footer have different batches {index}")
        batch.validate(full=True)
        _no_other_bytes(batch, view, body, base)


def _spans(batch: Any) -> list[tuple[Any, ...]]:
    return [
        (len(column), column.offset, column.null_count, *[b and (b.address, b.size) for b in column.buffers()])
        for column in batch.columns
    ]


def _no_other_bytes(batch: Any, view: memoryview, body: tuple[int, int], base: int) -> None:
    """The columns fill the body of their message, but for zeros that align them (64 bytes at most)."""
    position, end = body
    for address, size in [*sorted(_addresses(batch)), (base + end, 0)]:
        gap = view[position : address - base]
        if len(gap) >= _ALIGNMENT or any(gap):
            raise ValueError("bytes in a batch that are of no column")
        position = max(position, address - base + size)


def _addresses(batch: Any) -> Iterator[tuple[int, int]]:
    for column in batch.columns:
        yield from ((b.address, b.size) for b in column.buffers() if b is not None and b.size)


def parquet_inventory(data: Data) -> Inventory:
    """List the columns of a Parquet file."""
    report = Inventory("parquet")
    view = memoryview(data)
    try:
        size = int.from_bytes(view[-8:-4], "little")
        if len(view) < 12 or view[-4:] != _PARQUET_MARK or not 0 < size <= min(_FOOTER_BYTES_MAX, len(view) - 12):
            raise ValueError("it does not end in a plain footer")
        file = parquet.ParquetFile(pyarrow.BufferReader(pyarrow.py_buffer(view)))
        _key_values(report, file.metadata.metadata or {})
        _schema(report, file.schema_arrow.remove_metadata(), _PARQUET)
        if file.metadata.serialized_size != size or not _WRITER.fullmatch(file.metadata.created_by or ""):
            raise ValueError("bytes in the footer that are not of it, or a writer's name that is none")
        _chunks(file.metadata, len(view) - 8 - size)
    except (pyarrow.ArrowException, ValueError, OverflowError, NotImplementedError, OSError) as err:
        report.find("PARQUET-MALFORMED", "file", f"not one plain Parquet file: {err}")
    return report


def _key_values(report: Inventory, pairs: dict[bytes, bytes]) -> None:
    """Accept no metadata but Arrow's own copy of the schema, and only a plain one."""
    for key, value in pairs.items():
        if key != _SCHEMA_KEY:
            report.find(_PARQUET.metadata, key.decode("ascii", "backslashreplace"), _FREE)
            continue
        text = base64.b64decode(value, validate=True)  # its error is a ValueError
        if _EXTENSION_KEY in text:
            report.find(_PARQUET.extension, "schema", _RUNS)
        _schema(report, ipc.read_schema(pyarrow.py_buffer(text)), _PARQUET)


def _chunks(metadata: Any, footer: int) -> None:
    if metadata.num_row_groups > _BATCHES_MAX:
        raise ValueError(f"more than {_BATCHES_MAX} row groups")
    chunks, values, unpacked, rows = [], 0, 0, 0
    for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
        rows += group.num_rows
        for chunk in (group.column(index) for index in range(group.num_columns)):
            if chunk.file_path:
                raise ValueError("a column lies in another file")
            if chunk.is_stats_set:
                raise ValueError("statistics, which readers believe and nobody has checked")
            if chunk.has_offset_index or chunk.has_column_index or chunk.bloom_filter_offset is not None:
                raise ValueError("a page index or a bloom filter: bytes that no column accounts for")
            start = chunk.data_page_offset
            if chunk.has_dictionary_page:
                start = min(start, chunk.dictionary_page_offset)
            chunks.append((start, chunk.total_compressed_size))
            values += chunk.num_values
            unpacked += chunk.total_uncompressed_size
    if rows != metadata.num_rows or values > _VALUES_MAX or unpacked > _UNPACKED_BYTES_MAX:
        raise ValueError("rows that do not add up, or more values than allowed")
    position = len(_PARQUET_MARK)
    for start, size in sorted(chunks):
        if start != position or size < 0:
            raise ValueError("column chunks overlap, or leave a gap")
        position += size
    if position != footer:
        raise ValueError("bytes between the columns and the footer")


def _schema(report: Inventory, schema: Any, ids: _Ids) -> None:
    if schema.metadata:
        report.find(ids.metadata, "schema", _FREE)
    if len(schema) > _COLUMNS_MAX:
        raise ValueError(f"more than {_COLUMNS_MAX} columns")
    for field in schema:
        _field(report, field, ids, field.name, 0)
    report.facts.setdefault("columns", {f.name[:200]: str(f.type)[:200] for f in list(schema)[:FACTS_MAX]})


def _field(report: Inventory, field: Any, ids: _Ids, place: str, depth: int) -> None:
    """Look at a column and at all that it is made of."""
    if depth > _TYPE_DEPTH_MAX:
        raise ValueError(f"types are nested deeper than {_TYPE_DEPTH_MAX}")
    if not field.name.isprintable() or len(field.name) > _NAME_LENGTH_MAX:
        raise ValueError("a column's name is no printable text, or longer than allowed")
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != b"PARQUET:field_id"}
    if isinstance(field.type, pyarrow.BaseExtensionType) or any(key.startswith(_EXTENSION_KEY) for key in metadata):
        report.find(ids.extension, place, _RUNS)
    elif metadata:
        report.find(ids.metadata, place, _FREE)
    kind = field.type
    if pyarrow.types.is_dictionary(kind) and ids is _ARROW:
        raise ValueError("a dictionary-encoded column, whose values lie in messages of their own")
    if pyarrow.types.is_dictionary(kind):
        _field(report, pyarrow.field("dictionary", kind.value_type), ids, f"{place}.dictionary", depth + 1)
    for index in range(kind.num_fields):
        inside = kind.field(index)
        _field(report, inside, ids, f"{place}.{inside.name}", depth + 1)
