"""Each check of the gate, taken out: a test fails, or the check was not tested.

A check is a statement that reports a finding or refuses. Those of modules that need the image's libraries are taken out
in the sandbox and held against the corpus, whose findings `test_corpus.py` holds to the word; the others in a copy of
the project, against their unit tests.
"""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import SCRIPTS, Host

pytestmark = pytest.mark.mutants
ROOT = Path(__file__).parents[2]
WORKER, TESTS = "images/worker/inventory", "tests/unit/worker"
SIGNING = "tests/unit/signing"
RELEASES = [f"{SIGNING}/test_{n}.py" for n in ("release_verification", "wrong_types", "mutated_releases")]
CERTIFIED = [f"{SIGNING}/test_{n}.py" for n in ("certificate", "untrue_signers", "rotation", "bundle", "robustness")]
MODULES = {
    "signing/bundle.py": [f"{SIGNING}/test_bundle.py", *RELEASES],
    "signing/certificate.py": [f"{SIGNING}/test_certificate.py"],
    "signing/certified.py": [*CERTIFIED, RELEASES[0]],
    "signing/chain.py": RELEASES,
    "signing/der.py": CERTIFIED,
    "signing/ecdsa.py": CERTIFIED,
    "signing/evidence.py": [f"{SIGNING}/test_untrue_signers.py", *RELEASES],
    "signing/layout.py": [*RELEASES, f"{SIGNING}/test_robustness.py"],
    "signing/manifest.py": [f"{SIGNING}/test_manifest.py", *RELEASES],
    "signing/merkle.py": [f"{SIGNING}/test_merkle.py", f"{SIGNING}/test_log.py"],
    "signing/note.py": [f"{SIGNING}/test_log.py", *CERTIFIED],
    "signing/record.py": [f"{SIGNING}/test_record.py", f"{SIGNING}/test_wrong_types.py"],
    "signing/reproduction.py": [*RELEASES, "tests/unit/executor/reproduction/test_reproduce.py"],
    "signing/statement.py": [f"{SIGNING}/test_manifest.py", *RELEASES],
    "signing/trust.py": CERTIFIED,
    "signing/verify.py": [*RELEASES, f"{SIGNING}/test_rotation.py"],
    f"{WORKER}/zip_layout.py": [f"{TESTS}/test_zip_layout.py"],
    f"{WORKER}/torchscript.py": [f"{TESTS}/test_torchscript.py"],
    f"{WORKER}/pickles.py": [f"{TESTS}/test_pickles.py"],
    f"{WORKER}/pt2.py": [f"{TESTS}/test_pt2.py"],
    f"{WORKER}/shapes.py": [f"{TESTS}/test_pt2.py"],
    f"{WORKER}/safetensors.py": [f"{TESTS}/test_safetensors.py"],
    f"{WORKER}/onnx_skeleton.py": [f"{TESTS}/test_onnx_skeleton.py"],
    f"{WORKER}/elf.py": [f"{TESTS}/test_elf.py"],
    f"{WORKER}/documents.py": [f"{TESTS}/test_sniff.py"],
    f"{WORKER}/report.py": [f"{TESTS}/test_sniff.py", f"{TESTS}/test_torchscript.py"],
    "images/worker/plugins.py": ["tests/unit/worker/test_plugins.py"],
    "policy/decision.py": ["tests/unit/policy/test_decision.py", "tests/unit/policy/test_plugins.py"],
    "policy/model.py": ["tests/unit/policy"],
    "policy/load.py": ["tests/unit/policy"],
    "policy/egress.py": ["tests/unit/policy/test_egress.py"],
}


@dataclass(frozen=True)
class Mutant:
    """One check taken out of one module."""

    module: str
    line: int
    source: str
    text: str


def is_check(node: ast.stmt) -> bool:
    """Whether a statement reports a finding, refuses, or gathers the findings of others."""
    if isinstance(node, ast.Raise):
        return isinstance(node.exc, ast.Call)
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id == "findings"
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    if isinstance(value, ast.Yield | ast.YieldFrom):
        return True
    called = value.func if isinstance(value, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("find", "_find", "append") and value_is_finding(called)


def value_is_finding(called: ast.Attribute) -> bool:
    return called.attr != "append" or (isinstance(called.value, ast.Name) and called.value.id == "findings")


def mutants(module: str) -> Iterator[Mutant]:
    """Yield the module without one of its checks, for each."""
    source = (ROOT / module).read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and is_check(node):
            assert node.end_lineno is not None
            indent = " " * node.col_offset
            # A generator stays one, and an empty body stays a body.
            nothing = "yield from ()" if isinstance(getattr(node, "value", None), ast.Yield | ast.YieldFrom) else "pass"
            changed = [*lines[: node.lineno - 1], indent + nothing, *lines[node.end_lineno :]]
            yield Mutant(module, node.lineno, "\n".join(changed) + "\n", lines[node.lineno - 1].strip())


def passes(module: str, copy: Path) -> bool:
    """Run the tests of a module."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *MODULES[module]]
    try:
        return subprocess.run(command, cwd=copy, capture_output=True, timeout=300, check=False).returncode == 0
    except subprocess.TimeoutExpired:  # without a check something has no end: that is noticed
        return False


def survives(mutant: Mutant, copy: Path) -> bool:
    """Run the tests of a module with the mutant in its place; it survives where all of them pass."""
    place = copy / mutant.module
    original = place.read_text()
    place.write_text(mutant.source)
    try:
        return passes(mutant.module, copy)
    finally:
        place.write_text(original)


def copied(folder: Path) -> Path:
    for part in ("executor", "images", "policy", "signing", "tests", "tools", "pyproject.toml", "README.md"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / part)
    (folder / "build").symlink_to(ROOT / "build")  # Sigstore's packages, which some tests verify with
    return folder


def test_no_check_can_be_taken_out_unnoticed(tmp_path: Path) -> None:
    everything = [mutant for module in MODULES for mutant in mutants(module)]
    assert len(everything) > 100

    def run(number: int) -> list[str]:
        copy = copied(tmp_path / str(number))
        assert [m for m in list(MODULES)[number::2] if not passes(m, copy)] == [], "tests that fail show nothing"
        mine = everything[number::2]
        return [f"{m.module}:{m.line}: {m.text}" for m in mine if survives(m, copy)]

    with ThreadPoolExecutor(2) as pool:
        survivors = [line for found in pool.map(run, range(2)) for line in found]
    print(f"\n{len(everything)} checks taken out, {len(survivors)} unnoticed", *survivors, sep="\n")
    assert survivors == []


def test_no_check_that_needs_the_images_libraries_can_be_taken_out_unnoticed(home: Path, tmp_path: Path) -> None:
    host = Host(tmp_path)
    job = host.script_job(
        "mutants",
        {"name": "mutants.json", "role": "report"},
        code={"path": str(SCRIPTS / "corpus"), "entry": "mutants.py"},
        limits={"wall_seconds": 300, "memory_bytes": 2 << 30, "tmp_bytes": 256 << 20, "pids": 128},
    )
    done, target = host.run(job)
    assert done.code == 0, (done.json.get("outcome"), done.stderr)
    seen = json.loads((target / "artifacts/mutants.json").read_text())
    print(f"\n{seen['tried']} checks taken out in the sandbox, {len(seen['survivors'])} unnoticed")
    assert seen["survivors"] == []
