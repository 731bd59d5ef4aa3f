"""Libraries of custom operators: loaded only where their bytes are those that the policy lists.

Opening a library runs its constructors, whatever comes of the rest: `register_custom_ops_library` of onnxruntime opens
it and then looks for its entry point (measured 2026-11). So the digest is taken before anything opens it. The files lie
on a read-only mount that the host filled from its store, where nothing changes between the two.
"""

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Places in onnxruntime's table of functions (onnxruntime_c_api.h, struct OrtApi), which only ever grows at its end.
_CREATE_DOMAIN, _DOMAIN_ADD = 26, 27
_API_FUNCTIONS = 512
_CHUNK_BYTES = 1 << 20

_Status = ctypes.c_void_p
_Function = ctypes.CFUNCTYPE(_Status)
_CreateDomain = ctypes.CFUNCTYPE(_Status, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p))
_AddOperator = ctypes.CFUNCTYPE(_Status, ctypes.c_void_p, ctypes.c_void_p)
_GetName = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)
_GetAPI = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
_GetVersion = ctypes.CFUNCTYPE(ctypes.c_char_p)


class PluginError(Exception):
    """A library is not the one that the policy lists."""


def checked(path: Path, sha256: str) -> str:
    """Return the path of a library, once its bytes are the listed ones.

    Raises:
        PluginError: They are not. Nothing has opened the library as one.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise PluginError(f"library has sha256 {digest.hexdigest()}, the policy lists {sha256}: {path.name}")
    return str(path)


def load_for_onnxruntime(options: Any, path: Path, sha256: str) -> list[str]:
    """Give a session's options the operators of a library, and return `domain::name` of each that it registers.

    Raises:
        PluginError: The bytes are not the listed ones.
    """
    library = checked(path, sha256)
    registered = recorded(library)
    options.register_custom_ops_library(library)
    return registered


def load_for_torch(path: Path, sha256: str) -> None:
    """Load a library of torch operators.

    Raises:
        PluginError: The bytes are not the listed ones.
    """
    library = checked(path, sha256)
    import torch

    torch.ops.load_library(library)


def torch_registry() -> frozenset[str]:
    """Return `namespace::name.overload` of all operators that torch knows."""
    import torch

    names: list[str] = torch._C._dispatch_get_all_op_names()
    return frozenset(name if "." in name.partition("::")[2] else f"{name}.default" for name in names)


def recorded(library: str) -> list[str]:
    """Return `domain::name` of all operators that a library hands to onnxruntime.

    onnxruntime tells nobody what it was given. So the library is given a table of functions of which the two that take
    domains and operators write them down, and all others say that they did what they were asked.
    """
    domains: list[str] = []
    found: list[str] = []

    def create(name: bytes, out: Any) -> None:
        domains.append(name.decode("ascii", "backslashreplace"))
        out[0] = len(domains)

    def add(domain: int, operator: int) -> None:
        # struct OrtCustomOp: uint32_t version, then pointers, of which the second is GetName.
        get_name = _GetName(ctypes.c_void_p.from_address(operator + 2 * ctypes.sizeof(ctypes.c_void_p)).value or 0)
        name = (get_name(operator) or b"").decode("ascii", "backslashreplace")
        found.append(f"{domains[domain - 1]}::{name}")

    kept: list[Any] = [_Function(lambda: None)] * _API_FUNCTIONS
    kept[_CREATE_DOMAIN], kept[_DOMAIN_ADD] = _CreateDomain(create), _AddOperator(add)
    table = (ctypes.c_void_p * _API_FUNCTIONS)(*(ctypes.cast(f, ctypes.c_void_p).value for f in kept))
    _register(library, lambda _: ctypes.addressof(table))
    return sorted(set(found))


def _register(library: str, get_api: Callable[[int], int]) -> None:
    """Call a library's entry point as onnxruntime does: with options, and with where the table of functions is."""
    entry = ctypes.CDLL(library).RegisterCustomOps
    entry.restype = ctypes.c_void_p
    entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    functions = (_GetAPI(get_api), _GetVersion(lambda: b"0"))
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(f, ctypes.c_void_p).value for f in functions))
    options = ctypes.create_string_buffer(4096)
    if entry(ctypes.addressof(options), ctypes.addressof(base)):
        raise PluginError("the library's entry point reports an error")
