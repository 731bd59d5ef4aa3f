"""Kind `replay`: load each model with its real runtime in a clean container, and replay the test vectors.

Only reached by artifacts whose static inventory passed the policy. Each model is loaded in a process of its own, so
that one cannot change how the other runs.
"""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from worker.forked import in_child
from worker.job import Job
from worker.plugins import load_for_onnxruntime, load_for_torch, torch_registry

from tools.check_export import ATOL, RTOL, difference

Vectors = dict[str, dict[str, Any]]
Plugins = list[dict[str, str]]


def run(job: Job) -> dict[str, Any]:
    """Return, for each model, what its runtime sees, what it registered, and the difference on every test vector."""
    vectors = _load_vectors(job.inputs[job.params["vectors"]]) if job.params["vectors"] else {}
    plugins = list(job.params["plugins"].values())
    models = {}
    for name, form in job.params["models"].items():
        replay = {"onnx": _replay_onnx, "torchscript": _replay_torchscript, "pt2": _replay_pt2}[form]
        models[name] = in_child(functools.partial(replay, plugins, job.inputs[name], vectors, job.threads))
    return {"models": models, "atol": ATOL, "rtol": RTOL, "environment": _environment()}


def _load_vectors(path: Path) -> Vectors:
    cases: Vectors = {}
    with numpy.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            case, _, part = key.rpartition(".")
            cases.setdefault(case, {})[part] = arrays[key]
    for case, parts in cases.items():
        if "expected" not in parts or len(parts) < 2:
            raise ValueError(f"test vector {case!r} needs inputs and 'expected', it has {sorted(parts)}")
    return cases


def _replay_onnx(plugins: Plugins, path: Path, vectors: Vectors, threads: int) -> dict[str, Any]:
    import onnxruntime

    registered: set[str] = set()

    def fresh() -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.load_model_format", "ONNX")  # and no other format that it may see
        for plugin in plugins:
            if plugin["runtime"] == "onnxruntime":
                registered.update(load_for_onnxruntime(options, Path(plugin["path"]), plugin["sha256"]))
        return options

    operators = _operators_of_session(path, fresh())
    options = fresh()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}

    def call(inputs: dict[str, Any]) -> Any:
        return session.run(None, {k: v for k, v in inputs.items() if k in wanted})[0]

    return {"cases": _compare(call, vectors), "operators": operators, "registered": sorted(registered)}


def _operators_of_session(path: Path, options: Any) -> list[str]:
    """List the operators of all nodes, in subgraphs too, as onnxruntime has them before it optimises anything."""
    import onnxruntime

    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    nodes = [node for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()]
    return sorted({f"{node.domain}::{node.op_type}" for node in nodes})


def _load_torch_plugins(plugins: Plugins) -> None:
    for plugin in plugins:
        if plugin["runtime"] == "torch":
            load_for_torch(Path(plugin["path"]), plugin["sha256"])


def _replay_torchscript(plugins: Plugins, path: Path, vectors: Vectors, threads: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    before = torch_registry()
    _load_torch_plugins(plugins)
    model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    operators = _loaded_operators(model)

    def call(inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return model(*(torch.from_numpy(v) for v in inputs.values())).numpy()

    cases = _compare(call, vectors)
    return {"cases": cases, "operators": operators, "registered": sorted(torch_registry() - before)}


def _replay_pt2(plugins: Plugins, path: Path, vectors: Vectors, threads: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    _register_what_torch_registers_late()
    before = torch_registry()
    _load_torch_plugins(plugins)
    program = torch.export.load(io.BytesIO(path.read_bytes()))
    model = program.module()
    nodes = [n for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule) for n in m.graph.nodes]

    def call(inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return model(*(torch.from_numpy(v) for v in inputs.values())).numpy()

    operators = sorted({_target_label(node.target) for node in nodes if node.op not in ("placeholder", "output")})
    cases = _compare(call, vectors)
    return {"cases": cases, "operators": operators, "registered": sorted(torch_registry() - before)}


def _register_what_torch_registers_late() -> None:
    """Take a program of our own through all steps: torch's modules that they import have operators, too."""
    import torch

    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    torch.export.load(buffer).module()(torch.zeros(1))


def _target_label(target: Any) -> str:
    """Spell what a node calls as the inventory does: `aten::view.default`, `_operator::ge`."""
    if hasattr(target, "_schema"):
        namespace, _, name = target._schema.name.partition("::")
        return f"{namespace}::{name}.{target._schema.overload_name or 'default'}"
    return f"{getattr(target, '__module__', '?')}::{getattr(target, '__name__', target)}"


def _loaded_operators(model: Any) -> list[str]:
    """List the kinds of all nodes in every method of every submodule: what the loader made of the code."""
    found: set[str] = set()
    for module in model.modules():
        for name in module._c._method_names():
            blocks = [module._c._get_method(name).inlined_graph]
            while blocks:
                for node in blocks.pop().nodes():
                    found.add(node.kind())
                    blocks.extend(node.blocks())
                    blocks.extend(node.g(a) for a in node.attributeNames() if node.kindOf(a) == "g")
    return sorted(found)


def _compare(call: Callable[[dict[str, Any]], Any], vectors: Vectors) -> list[dict[str, Any]]:
    results = []
    for name, parts in vectors.items():
        inputs = {k: v for k, v in parts.items() if k != "expected"}
        found = difference(call(inputs), parts["expected"])
        results.append(
            {
                "case": name,
                "shape": list(parts["expected"].shape),
                "max_abs": found.max_abs,
                "allowed": found.allowed,
                "argmax_agreement": found.argmax_agreement,
            }
        )
    return results


def _environment() -> dict[str, Any]:
    """Return what only torch itself knows."""
    import torch

    return {"cuda": torch.version.cuda or "cpu", "cudnn": str(torch.backends.cudnn.version() or "none")}
