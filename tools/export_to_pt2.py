"""Export a graph model with torch.export: any number of nodes and edges, nothing of the machine and of the sample."""

import io
import json
import zipfile
from typing import Any

import torch
from torch import Tensor

_STAMP = (1980, 1, 1, 0, 0, 0)
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"


def export_to_pt2(model: torch.nn.Module, x: Tensor, edge_index: Tensor) -> bytes:
    """Return the model as a PT2 archive, called as `program.module()(x, edge_index)` once loaded.

    Args:
        model: In eval mode; called as `model(x, edge_index)`.
        x: Sample features, float32, shape [N, F]. N is free from 1 on in the result.
        edge_index: Sample edges, int64, shape [2, E], E at least 2. E is free in the result.

    Raises:
        ValueError: The model is in training mode, or the sample has fewer than two edges.
    """
    if model.training:
        raise ValueError("the model is in training mode: call eval() before export")
    if edge_index.shape[1] < 2:
        raise ValueError("the sample graph needs two edges at least")
    shapes = ({0: torch.export.Dim("num_nodes", min=1)}, {1: torch.export.Dim("num_edges")})
    program = torch.export.export(model, (x, edge_index), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return normalise(buffer.getvalue())


def normalise(archive: bytes) -> bytes:
    """Return a PT2 archive in the one form that the policy's inventory accepts.

    Leaves out the sample inputs (the job's own data, as a pickle), stack traces and other metadata of nodes, and the
    serialisation id. Guards, which loading would run, are left out too: the program's own assertions remain.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            name, content = item.filename.partition("/")[2], source.read(item)
            if name == ".data/serialization_id":
                continue
            if name == _SAMPLE_INPUTS:
                content = b""
            elif name.endswith(".json"):
                content = _canonical(json.loads(content))
            target.writestr(zipfile.ZipInfo(f"model/{name}", _STAMP), content)
    return out.getvalue()


def _canonical(document: dict[str, Any]) -> bytes:
    if "graph_module" in document:
        document["guards_code"] = []
        document["graph_module"]["metadata"] = {}
        for node in document["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
