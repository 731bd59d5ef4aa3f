"""Kind `compare`: say which tensors of two artifacts differ, and how far. For `executor reproduce`.

Only reached by artifacts whose inventory passed the policy: they are loaded, each pair in a process of its own.
"""

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from worker.forked import in_child
from worker.job import Job

_TENSORS_MAX = 50  # of those that differ, the farthest apart first
_NAMES_MAX = 20
Tensors = dict[str, Any]


def run(job: Job) -> dict[str, Any]:
    """Return, for each pair, the tensors that differ; `atol` and `rtol` say what is near enough."""
    pairs = {}
    for name, form in job.params["formats"].items():
        old, new = job.inputs[f"old/{name}"], job.inputs[f"new/{name}"]
        work = functools.partial(_compare, form, old, new, job.params["atol"], job.params["rtol"])
        pairs[name] = in_child(work)
    return {"artifacts": pairs}


def _compare(form: str, old: Path, new: Path, atol: float, rtol: float) -> dict[str, Any]:
    reader = _READERS.get(form)
    if reader is None:
        return {"error": f"tensors of format {form!r} are not compared"}
    one, two = reader(old), reader(new)
    differing = [d for n in sorted(one.keys() & two.keys()) if (d := difference(n, one[n], two[n], atol, rtol))]
    differing.sort(key=lambda d: -float(d["max_abs"]))
    return {
        "tensors": differing[:_TENSORS_MAX],
        "count": len(differing),
        "within": all(d["within"] for d in differing) and one.keys() == two.keys(),
        "missing": sorted(one.keys() - two.keys())[:_NAMES_MAX],
        "added": sorted(two.keys() - one.keys())[:_NAMES_MAX],
    }


def difference(name: str, old: Any, new: Any, atol: float, rtol: float) -> dict[str, Any] | None:
    """Return how far two tensors are apart, or None where they hold the same bytes."""
    found = {"name": name[:300], "shape": list(old.shape), "dtype": str(old.dtype)}
    if old.shape != new.shape or old.dtype != new.dtype:
        return found | {"max_abs": _FAR, "max_rel": _FAR, "within": False, "elements": int(old.size)}
    if old.tobytes() == new.tobytes():
        return None
    if old.dtype.kind not in "fiub":
        return found | {"max_abs": _FAR, "max_rel": _FAR, "within": False, "elements": int((old != new).sum())}
    a, b = old.astype(numpy.float64), new.astype(numpy.float64)
    with numpy.errstate(all="ignore"):
        apart = numpy.where(numpy.isnan(a) & numpy.isnan(b), 0.0, numpy.abs(a - b))
        apart = numpy.where(numpy.isnan(apart), _FAR, numpy.minimum(apart, _FAR))
        relative = numpy.minimum(numpy.where(apart == 0, 0.0, apart / numpy.abs(a)), _FAR)
        within = bool((apart <= atol + rtol * numpy.abs(a)).all())
    # The same numbers in other bytes, such as a negative zero, are within; they are said nevertheless.
    return found | {
        "max_abs": float(apart.max()),
        "max_rel": float(relative.max()),
        "within": within,
        "elements": int((apart > 0).sum()),
    }


def _onnx(path: Path) -> Tensors:
    import onnx

    model = onnx.load_model_from_string(path.read_bytes())
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                tensors[f"node {number} {node.op_type} {attribute.name}"] = onnx.numpy_helper.to_array(attribute.t)
    return tensors


def _torchscript(path: Path) -> Tensors:
    import torch

    model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return {name: _array(t) for name, t in model.state_dict().items()}


def _pt2(path: Path) -> Tensors:
    import torch

    program = torch.export.load(io.BytesIO(path.read_bytes()))
    held = {**program.state_dict, **{n: t for n, t in program.constants.items() if isinstance(t, torch.Tensor)}}
    return {name: _array(t) for name, t in held.items()}


def _array(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # a type that numpy lacks, such as bfloat16
        return tensor.float().numpy()


def _npz(path: Path) -> Tensors:
    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _npy(path: Path) -> Tensors:
    return {"array": numpy.load(path, allow_pickle=False)}


_FAR = sys.float_info.max  # where no number says how far: another shape or type, or no number
_READERS: dict[str, Callable[[Path], Tensors]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "pt2": _pt2,
    "npz": _npz,
    "npy": _npy,
}
