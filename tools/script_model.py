"""Export a graph model to TorchScript by tracing, in a form that is equal byte for byte from equal models.

Tracing and not scripting: torch_geometric's GCNConv scripts and saves, but the file does not load (torch 2.13,
torch_geometric 2.8.1, measured 2026-11). A tracer warning means that a size may have been baked in. Layers that compare
sizes only to check them, as GATv2Conv and TransformerConv do, warn as well, so the trace is then tried on other graphs,
and refused where it differs.
"""

import io
import warnings
import zipfile

import torch
from torch import Tensor

from tools.check_export import difference, graphs_of_other_sizes

_STAMP = (1980, 1, 1, 0, 0, 0)


def script_model(model: torch.nn.Module, x: Tensor, edge_index: Tensor) -> bytes:
    """Return the model as a TorchScript archive.

    Args:
        model: In eval mode; called as `model(x, edge_index)`.
        x: Sample features, float32, shape [N, F].
        edge_index: Sample edges, int64, shape [2, E].

    Raises:
        ValueError: The trace holds for the sample's size only.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("always", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, (x, edge_index), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    if doubts := [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]:
        _check_other_sizes(traced, model, x, edge_index, doubt=str(doubts[0].message))
    return normalise(buffer.getvalue())


@torch.no_grad()
def _check_other_sizes(
    traced: torch.nn.Module, model: torch.nn.Module, x: Tensor, edge_index: Tensor, *, doubt: str
) -> None:
    for case in graphs_of_other_sizes(x, edge_index, seed=0):
        try:
            found = difference(traced(case.x, case.edge_index).numpy(), model(case.x, case.edge_index).numpy())
        except (RuntimeError, ValueError) as err:
            raise ValueError(f"the trace fails on a graph of another size, {case.name}: {err}; {doubt}") from err
        if found.max_abs > found.allowed:
            raise ValueError(f"the trace differs on a graph of another size, {case.name}: {doubt}")


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
