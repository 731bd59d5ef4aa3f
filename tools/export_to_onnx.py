"""Export a graph model to ONNX: any number of nodes and edges, one file, nothing of the machine that made it."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

# What no runtime needs to compute; the policy's inventory refuses it (worker.inventory.onnx_model.FREE_FIELDS).
_FREE_FIELDS = frozenset(
    {
        *("doc_string", "metadata_props", "denotation", "overload", "segment", "quantization_annotation"),
        *("configuration", "device_configurations"),
    }
)
OPSET = 20  # torch 2.13's default for the dynamo exporter; onnxruntime 1.32 opens 20 to 28


def export_to_onnx(model: torch.nn.Module, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> bytes:
    """Return the model as ONNX with inputs `x` and `edge_index`, `batch` where it takes one, and output `logits`.

    Args:
        model: In eval mode; called as `model(x, edge_index)`, or `model(x, edge_index, batch)`.
        x: Sample features, float32, shape [N, F]. N becomes the free dimension `num_nodes`,
            of 1 or more.
        edge_index: Sample edges, int64, shape [2, E], E at least 2. E becomes `num_edges`.
        batch: Sample assignment of nodes to graphs, int64, shape [N], for models that pool over graphs. The number of
            graphs stays free, too.

    Raises:
        ValueError: The model is in training mode, or the sample has fewer than two edges. In both cases the
            exporter would succeed and the file would be wrong, or fail for an unrelated reason.
    """
    if model.training:
        raise ValueError("the model is in training mode: call eval() before export")
    if edge_index.shape[1] < 2:
        raise ValueError("the sample graph needs two edges at least")
    # One node at least: GATConv asks whether there are none, which the exporter must be able to answer.
    nodes = torch.export.Dim("num_nodes", min=1)
    inputs, shapes = [x, edge_index], [{0: nodes}, {1: torch.export.Dim("num_edges")}]
    if batch is not None:
        inputs, shapes = [*inputs, batch], [*shapes, {0: nodes}]
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            model,
            tuple(inputs),
            path,
            input_names=["x", "edge_index", "batch"][: len(inputs)],
            output_names=["logits"],
            dynamic_shapes=tuple(shapes),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=True,
        )
        return strip(path.read_bytes())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says on every run: absent torchvision, its own deprecations, its progress."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(before)


def strip(data: bytes) -> bytes:
    """Return an ONNX file in the one form that the policy's inventory accepts.

    Leaves out stack traces, documentation and metadata (78 % of a small file, with source paths in it), imports of
    domains that nothing uses, and every choice of how protobuf is written.
    """
    model = onnx.ModelProto.FromString(data)
    _clear(model)
    used = {node.domain for graph in (model.graph, *model.functions) for node in graph.node} | {""}
    imports = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    stripped: bytes = model.SerializeToString(deterministic=True)
    return stripped


def _clear(message: Any) -> None:
    for descriptor, value in message.ListFields():
        if descriptor.name in _FREE_FIELDS:
            message.ClearField(descriptor.name)
        elif descriptor.message_type is not None:
            for item in value if descriptor.is_repeated else [value]:
                _clear(item)
