"""Two libraries of custom operators, built and listed: how a plugin comes about, from source to policy.

The compiler is the machine's own (`.ci/compiler` sees to one). torch's headers come out of the wheel that the image is
locked to; in place of its library stands an empty one of the same name, so that what is bound to is what the symbols
say.
"""

import hashlib
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from images.lock import load_lock
from policy.load import FOLDER
from tests.integration.workshop import complete_home

SOURCES = Path(__file__).parents[1] / "data/plugins"
PROFILE = "plugged"
OPERATORS = {"onnxruntime": "graph.example::Twice", "torch": "graph_example::twice.default"}
_TARGET = "0x020d000000000000"  # torch 2.13: the oldest that the library works with (torch/headeronly/version.h)


@dataclass(frozen=True)
class Library:
    """A built library.

    Attributes:
        runtime: What loads it.
        path: Where it is.
        marker: The file that its constructor makes.
    """

    runtime: str
    path: Path
    marker: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def build(runtime: str, folder: Path, *, marker: Path | None = None) -> Library:
    """Build the example for a runtime. Without a marker its constructor does nothing."""
    path, seen = folder / f"libtwice_{runtime}.so", marker or folder / "never"
    options = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-Wl,-soname,{path.name}", "-o", str(path)]
    if marker is not None:
        options.append(f'-DMARKER="{marker}"')
    if runtime == "onnxruntime":
        command = ["gcc", *options, str(SOURCES / "twice_onnxruntime.c")]
    else:
        includes = [f"-I{headers(folder)}", f"-DTORCH_TARGET_VERSION={_TARGET}"]
        subprocess.run(
            ["gcc", "-shared", "-Wl,-soname,libtorch_cpu.so", "-o", folder / "libtorch_cpu.so", "-xc", "/dev/null"],
            check=True,
        )
        options += ["-Wl,--no-as-needed", f"-L{folder}", "-ltorch_cpu"]
        command = ["g++", "-std=c++20", *includes, str(SOURCES / "twice_torch.cpp"), *options]
    subprocess.run(command, check=True, timeout=900)
    return Library(runtime, path, seen)


@cache
def headers(folder: Path) -> Path:
    """Take torch's headers out of the wheel that the image is locked to."""
    (wheel,) = [i for i in load_lock("cpu").inputs if i.kind == "wheel" and i.name == "torch"]
    target = folder / "headers"
    with zipfile.ZipFile(complete_home().blobs / wheel.sha256[:2] / wheel.sha256) as archive:
        archive.extractall(target, [n for n in archive.namelist() if n.startswith("torch/include/")])
    return target / "torch/include"


def listed(*libraries: Library, folder: Path, facts: dict[str, dict[str, Any]]) -> Path:
    """Write a policy of the standard profile with these plugins, and return its folder.

    Args:
        libraries: What to list.
        folder: Where to write.
        facts: What `executor policy inventory` says of each, by the runtime.
    """
    policy = folder / "policy"
    for part in ("profiles", "plugins"):
        (policy / part).mkdir(parents=True)
    for part in ("operators", "seccomp"):
        (policy / part).symlink_to(FOLDER / part)
    for library in libraries:
        text = entry(library, facts[library.runtime])
        (policy / f"plugins/twice-{library.runtime}.toml").write_text(text)
    names = ", ".join(f'"twice-{library.runtime}"' for library in libraries)
    profile = (FOLDER / "profiles/standard.toml").read_text()
    profile = profile.replace('name = "standard"', f'name = "{PROFILE}"')
    profile = profile.replace("\nonnx_opset", f"\nplugins = [{names}]\nonnx_opset", 1)
    (policy / f"profiles/{PROFILE}.toml").write_text(profile)
    (policy / "profiles/standard.toml").symlink_to(FOLDER / "profiles/standard.toml")
    return policy


def entry(library: Library, facts: dict[str, Any]) -> str:
    """Return the policy's file for a library, from what the inventory says of it."""
    operator = OPERATORS[library.runtime]
    version = {i.name: i.version for i in load_lock("cpu").inputs}[library.runtime]
    return f"""schema = "executor.policy-plugin/v1"
id = "PLUGIN-TWICE-{library.runtime.upper()}"
name = "twice-{library.runtime}"
runtime = "{library.runtime}"
sha256 = "{library.sha256}"
size_bytes = {facts["size_bytes"]}
soname = "{facts["soname"]}"
needed = {facts["needed"]}
abi = "{facts["abi"]}"
built_against = {{ {library.runtime} = "{version}" }}
operators = ["{operator}"]
reason = "The example of the tests, which doubles its input"
reviewer = "security-review"
reviewed = 2026-11-24
allows = ["{operator}"]
denies = ["{operator.partition("::")[0]}::thrice"]

[recipe]
source = "tests/data/plugins"
commit = "{"0" * 40}"
builder = "sha256:{"0" * 64}"
command = "tests/integration/plugins.py"
""".replace('::thrice"]', '::Thrice"]' if library.runtime == "onnxruntime" else '::thrice.default"]')
