"""What the image says of itself, without importing any of it."""

import importlib.metadata
import platform

_PACKAGES = ("torch", "torch_geometric", "onnx", "onnxruntime", "numpy", "pyarrow")


def environment() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter to an export.

    `cuda` and `cudnn` are added by the replay, which has torch loaded; a build of torch for CPU says so in its version.
    """
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions} | _cpu_only(versions["torch"])


def _cpu_only(torch_version: str) -> dict[str, str]:
    return {"cuda": "cpu", "cudnn": "none"} if torch_version.endswith("+cpu") else {}
