"""Kind `inventory`: list statically what the quarantined artifacts hold. Runs in a clean container, without torch."""

from typing import Any

from worker.environment import environment
from worker.inventory import Inventory, npz, onnx_model, pickles, safetensors, sniff, torchscript
from worker.job import Job

_READERS = {
    "onnx": onnx_model.inventory,
    "torchscript": torchscript.inventory,
    "npz": npz.inventory,
    "safetensors": safetensors.inventory,
    "checkpoint": pickles.checkpoint_inventory,
    "pickle": pickles.inventory,
}


def run(job: Job) -> dict[str, Any]:
    """Return the inventory of every input, by its name, and what the image is."""
    artifacts = {name: _inventory(path.read_bytes()).to_wire() for name, path in job.inputs.items()}
    return {"artifacts": artifacts, "environment": environment()}


def _inventory(data: bytes) -> Inventory:
    found = sniff(data)
    reader = _READERS.get(found)
    return reader(data) if reader else Inventory(found)
