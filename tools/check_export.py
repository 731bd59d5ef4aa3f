"""Hold exported models against the model that they came from, on graphs of other sizes than the sample."""

import io
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

# |a - b|_inf <= ATOL + RTOL * |b|_inf. Elementwise relative error says nothing near zero, and absolute error grows
# with a node's degree: 2e-3 at magnitude 2904 on 100,000 edges (measured 2026-11).
ATOL = 1e-5
RTOL = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One graph: `x` float32 [N, F], `edge_index` int64 [2, E]."""

    name: str
    x: Tensor
    edge_index: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far an output is from the expected one, both float [N, C].

    Attributes:
        max_abs: Largest absolute difference.
        allowed: ATOL + RTOL times the largest expected magnitude.
        argmax_agreement: Share of rows with the same largest column, 0 to 1.
    """

    max_abs: float
    allowed: float
    argmax_agreement: float


def graphs_of_other_sizes(x: Tensor, edge_index: Tensor, *, seed: int) -> list[Case]:
    """Return the whole graph, about a third of it, a small one, one without edges and a single node with a loop."""
    generator = torch.Generator().manual_seed(seed)
    third = max(2, len(x) // 3)
    kept = torch.randperm(len(x), generator=generator)[:third].sort().values
    small = torch.randint(0, 7, (2, 11), generator=generator)
    rows = [x[torch.arange(n) % len(x)] for n in (7, 5, 1)]
    return [
        Case(name="whole", x=x, edge_index=edge_index),
        Case(name="third", x=x[kept], edge_index=_induced(edge_index, kept, len(x))),
        Case(name="small", x=rows[0], edge_index=small),
        Case(name="no-edges", x=rows[1], edge_index=torch.empty((2, 0), dtype=torch.int64)),
        Case(name="loop", x=rows[2], edge_index=torch.zeros((2, 1), dtype=torch.int64)),
    ]


@torch.no_grad()
def make_test_vectors(model: torch.nn.Module, cases: list[Case]) -> bytes:
    """Return an NPZ with `NAME.x`, `NAME.edge_index` and `NAME.expected` (the model's own output) for every case."""
    arrays = {}
    for case in cases:
        arrays[f"{case.name}.x"] = case.x.numpy()
        arrays[f"{case.name}.edge_index"] = case.edge_index.numpy()
        arrays[f"{case.name}.expected"] = model(case.x, case.edge_index).numpy()
    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def difference(actual: Any, expected: Any) -> Difference:
    """Measure an output against the expected one.

    Raises:
        ValueError: Another shape, another dtype, or a value that is not finite.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise ValueError(f"got {actual.dtype}{actual.shape}, expected {expected.dtype}{expected.shape}")
    if not (numpy.isfinite(actual).all() and numpy.isfinite(expected).all()):
        raise ValueError("an output is not finite")
    if expected.size == 0:
        raise ValueError("an empty output proves nothing")
    agreement = (actual.argmax(axis=-1) == expected.argmax(axis=-1)).mean()
    return Difference(
        max_abs=float(numpy.abs(actual - expected).max()),
        allowed=float(ATOL + RTOL * numpy.abs(expected).max()),
        argmax_agreement=float(agreement),
    )


def _induced(edge_index: Tensor, kept: Tensor, nodes: int) -> Tensor:
    position = torch.full((nodes,), -1, dtype=torch.int64)
    position[kept] = torch.arange(len(kept))
    mapped = position[edge_index]
    return mapped[:, (mapped >= 0).all(dim=0)]
