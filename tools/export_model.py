"""Export one trained graph model to every format of a release, with the test vectors that prove them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tools.check_export import Case, make_test_vectors
from tools.export_to_onnx import export_to_onnx
from tools.script_model import script_model

_SAMPLE_NODES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The files of a release, in memory."""

    onnx: bytes
    torchscript: bytes
    test_vectors: bytes

    def files(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield name, role and content of each."""
        yield "model.onnx", "model", self.onnx
        yield "model.pt", "model", self.torchscript
        yield "test-vectors.npz", "test-vectors", self.test_vectors


def export_model(model: torch.nn.Module, cases: list[Case]) -> Exported:
    """Export a model, using a small graph as the sample so that no size of the real one can be baked in.

    Args:
        model: Called as `model(x, edge_index)`. It is copied, and the copy put into eval mode.
        cases: Graphs for the test vectors; features of the first serve for the sample.
    """
    ready = copy.deepcopy(model).eval()
    x = cases[0].x[:_SAMPLE_NODES]
    ring = torch.arange(len(x))
    edges = torch.stack([ring, ring.roll(1)])
    sample = torch.cat([edges, edges.flip(0)], dim=1)
    with torch.no_grad():
        return Exported(
            onnx=export_to_onnx(ready, x, sample),
            torchscript=script_model(ready, x, sample),
            test_vectors=make_test_vectors(ready, cases),
        )
