"""ONNX: every operator in the main graph, in subgraphs at any depth, in functions and in training graphs.

Only protobuf parsing is used (ModelProto.FromString). `onnx.load` would follow external data, and the checker passes
custom domains, overridden standard operators and opset 9999 alike (measured 2026-11).
"""

from typing import Any

import onnx
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from worker.inventory.onnx_skeleton import skeleton
from worker.inventory.report import FACTS_MAX, Data, Inventory

_DEPTH_MAX = 16
_MESSAGE_DEPTH_MAX = 80
_PRODUCER_LENGTH_MAX = 100
# Which no runtime needs to compute: text, hints to tools and to devices.
FREE_FIELDS = frozenset(
    {
        *("doc_string", "metadata_props", "denotation", "overload", "segment", "quantization_annotation"),
        *("configuration", "device_configurations"),
    }
)
_TENSOR_VALUES = ("float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data")
_ATTRIBUTE_VALUES = (
    *("f", "i", "s", "t", "g", "tp", "sparse_tensor", "floats", "ints", "strings", "tensors", "graphs"),
    *("type_protos", "sparse_tensors"),
)


def inventory(data: Data) -> Inventory:
    """List what an ONNX file uses."""
    report = Inventory("onnx")
    if data[4:8] == b"ORTM":
        report.find("ONNX-POLYGLOT", "file", "onnxruntime would read another format in it")
    try:
        plain = skeleton(data)
    except ValueError as err:
        report.find("ONNX-MALFORMED", "file", f"not plain protobuf: {err}")
        return report
    try:
        model = onnx.ModelProto.FromString(plain)
    except DecodeError as err:
        report.find("ONNX-MALFORMED", "file", str(err))
        return report
    report.facts = {
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip()[:100],
        "opset_imports": {o.domain[:200]: o.version for o in model.opset_import[:FACTS_MAX]},
        "inputs": [_value(v) for v in model.graph.input[:FACTS_MAX]],
        "outputs": [_value(v) for v in model.graph.output[:FACTS_MAX]],
    }
    if sum(map(len, (model.producer_name, model.producer_version, model.domain))) > _PRODUCER_LENGTH_MAX:
        report.find("ONNX-METADATA", "producer", f"more than {_PRODUCER_LENGTH_MAX} characters on who made it")
    if not model.graph.node:
        report.find("ONNX-EMPTY-GRAPH", "graph", "the main graph has no node")
    if model.SerializeToString(deterministic=True) != plain:
        report.find("ONNX-FORM", "file", "not in the one form that tools.export_to_onnx.strip leaves")
    domains = [o.domain for o in model.opset_import]
    if not domains or len(set(domains)) != len(domains) or len(domains) > FACTS_MAX:
        named = ", ".join(repr(domain) for domain in domains[:20])
        report.find("ONNX-OPSET-IMPORT", "opset_import", f"no domain, or one of them twice: {named}")
    _messages(report, model, "model", 0)
    _graph(report, model.graph, "graph", 0)
    for function in model.functions:
        _function(report, function)
    for index, training in enumerate(model.training_info):
        report.find("ONNX-TRAINING-INFO", f"training_info[{index}]", "training graphs are not released")
        _graph(report, training.algorithm, f"training_info[{index}].algorithm", 0)
        _graph(report, training.initialization, f"training_info[{index}].initialization", 0)
    return report


def _messages(report: Inventory, message: Any, place: str, depth: int) -> None:
    """Look at every message for what no consumer needs: unknown fields, documentation and free metadata."""
    if depth > _MESSAGE_DEPTH_MAX:
        report.find("ONNX-DEPTH", place, f"messages are nested deeper than {_MESSAGE_DEPTH_MAX}")
        return
    if len(UnknownFieldSet(message)):
        report.find("ONNX-UNKNOWN-FIELD", place, "a field that ONNX does not define")
    for descriptor, value in message.ListFields():
        inside = f"{place}.{descriptor.name}"
        if descriptor.name in FREE_FIELDS:
            report.find("ONNX-METADATA", inside, "documentation and free metadata are not released")
        elif descriptor.message_type is not None:
            repeated = value if descriptor.is_repeated else [value]
            for item in repeated:
                _messages(report, item, inside, depth + 1)


def _function(report: Inventory, function: Any) -> None:
    place = f"function {function.domain}::{function.name}"
    report.find("ONNX-LOCAL-FUNCTION", place, "a local function can redefine an operator for some readers only")
    for index, node in enumerate(function.node):
        _node(report, node, f"{place}/node[{index}]", 0)


def _graph(report: Inventory, graph: Any, place: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        report.find("ONNX-DEPTH", place, f"subgraphs are nested deeper than {_DEPTH_MAX}")
        return
    for index, node in enumerate(graph.node):
        _node(report, node, f"{place}/node[{index}]", depth)
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) != len(names):
        report.find("ONNX-TWO-VALUES", place, "two initializers of one name")
    for tensor in graph.initializer:
        _tensor(report, tensor, f"{place}/initializer {tensor.name}")
    for sparse in graph.sparse_initializer:
        _tensor(report, sparse.values, f"{place}/sparse_initializer {sparse.values.name}")
        _tensor(report, sparse.indices, f"{place}/sparse_initializer {sparse.values.name}")


def _node(report: Inventory, node: Any, place: str, depth: int) -> None:
    label = f"{place} {node.name}" if node.name else place
    report.use(node.domain, node.op_type, label)
    for attribute in node.attribute:
        inside = f"{place}.{attribute.name}"
        if sum(descriptor.name in _ATTRIBUTE_VALUES for descriptor, _ in attribute.ListFields()) > 1:
            report.find("ONNX-TWO-VALUES", inside, "an attribute with values of two kinds")
        if attribute.HasField("g"):
            _graph(report, attribute.g, inside, depth + 1)
        for graph in attribute.graphs:
            _graph(report, graph, inside, depth + 1)
        if attribute.HasField("t"):
            _tensor(report, attribute.t, inside)
        for tensor in attribute.tensors:
            _tensor(report, tensor, inside)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            _tensor(report, sparse.values, inside)
            _tensor(report, sparse.indices, inside)


def _tensor(report: Inventory, tensor: Any, place: str) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        report.find("ONNX-EXTERNAL-DATA", place, "the tensor points outside of the file")
    if sum(descriptor.name in _TENSOR_VALUES for descriptor, _ in tensor.ListFields()) > 1:
        report.find("ONNX-TWO-VALUES", place, "a tensor with values of two kinds")


def _value(value: Any) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    known = onnx.TensorProto.DataType.values()
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "unknown"
    return {"name": value.name, "dtype": dtype, "shape": shape}
