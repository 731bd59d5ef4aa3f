"""Libraries of custom operators: no byte but the listed ones reaches a loader, and what one registers is told."""

import hashlib
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

plugins: Any = import_module("worker.plugins")
SOURCE = Path(__file__).parents[2] / "data/plugins/twice_onnxruntime.c"
FAILING = "void *RegisterCustomOps(void *options, void *base) { return base; }\n"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    built = tmp_path / "libtwice.so"
    marker = f'-DMARKER="{tmp_path / "marker"}"'
    subprocess.run(["gcc", "-shared", "-fPIC", marker, "-o", built, SOURCE], check=True)
    return built


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Options:
    """As much of onnxruntime's session options as is used."""

    def __init__(self) -> None:
        self.registered: list[str] = []

    def register_custom_ops_library(self, path: str) -> None:
        self.registered.append(path)


def test_the_listed_library_is_given_to_the_session_and_what_it_registers_is_told(library: Path) -> None:
    options = Options()
    assert plugins.load_for_onnxruntime(options, library, digest(library)) == ["graph.example::Twice"]
    assert options.registered == [str(library)]
    assert (library.parent / "marker").exists()


def test_another_byte_reaches_no_loader(library: Path) -> None:
    listed, options = digest(library), Options()
    library.write_bytes(library.read_bytes() + b"\0")
    for load in (lambda: plugins.load_for_onnxruntime(options, library, listed), lambda: load_torch(library, listed)):
        with pytest.raises(plugins.PluginError, match="the policy lists"):
            load()
    assert options.registered == []
    assert not (library.parent / "marker").exists()


def load_torch(library: Path, sha256: str) -> None:
    plugins.load_for_torch(library, sha256)


def test_an_entry_point_that_reports_an_error_is_one(tmp_path: Path) -> None:
    source, built = tmp_path / "a.c", tmp_path / "liba.so"
    source.write_text(FAILING)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", built, source], check=True)
    with pytest.raises(plugins.PluginError, match="reports an error"):
        plugins.load_for_onnxruntime(Options(), built, digest(built))
