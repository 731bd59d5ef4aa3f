"""Export a graph model to TorchScript by tracing, in a form that is equal byte for byte from equal models.

Tracing and not scripting: torch_geometric's GCNConv scripts and saves, but the file does not load (torch 2.13,
torch_geometric 2.8.1, measured 2026-11). A tracer warning means that a shape was baked in, so it is an error here.
"""

import io
import warnings
import zipfile

import torch
from torch import Tensor

_STAMP = (1980, 1, 1, 0, 0, 0)


def script_model(model: torch.nn.Module, x: Tensor, edge_index: Tensor) -> bytes:
    """Return the model as a TorchScript archive.

    Args:
        model: In eval mode; called as `model(x, edge_index)`.
        x: Sample features, float32, shape [N, F].
        edge_index: Sample edges, int64, shape [2, E].

    Raises:
        torch.jit.TracerWarning: The trace would hold for the sample's size only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, (x, edge_index), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return normalise(buffer.getvalue())


def normalise(archive: bytes) -> bytes:
    """Return a TorchScript archive that the policy's inventory knows every member of.

    Leaves out debug records (source paths), the shapes of the traced sample and the random serialisation id.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            name = item.filename.partition("/")[2]
            if name.endswith(".debug_pkl") or name == ".data/serialization_id" or name.startswith("traced_inputs"):
                continue
            target.writestr(zipfile.ZipInfo(f"model/{name}", _STAMP), source.read(item))
    return out.getvalue()
