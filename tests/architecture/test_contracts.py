"""What the layout promises, checked: imports, files, and the README's commands."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = ("executor", "policy", "signing", "images")
WORKER = [*(ROOT / "images/worker").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
SOURCES = [p for name in HOST for p in (ROOT / name).rglob("*.py") if "worker" not in p.relative_to(ROOT).parts]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            found.add(node.module or "")
    return found


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKER, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_worker_and_the_tools_import_no_host_package(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops.isdisjoint(HOST)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_host_module_imports_the_worker_or_unpickles(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops.isdisjoint({"worker", "tools", "pickle", "marshal", "shelve", "torch", "onnx", "numpy"})


def test_process_1_of_the_container_imports_no_torch() -> None:
    for name in ("supervisor", "frames", "__main__"):
        assert "torch" not in {n.partition(".")[0] for n in imports(ROOT / f"images/worker/{name}.py")}


def test_no_module_has_the_name_of_one_of_the_standard_library() -> None:
    for path in SOURCES:
        assert path.stem not in sys.stdlib_module_names or path.stem.startswith("__"), path


def test_only_one_module_imports_the_engines_client() -> None:
    users = [p.relative_to(ROOT).as_posix() for p in SOURCES if "docker" in {n.partition(".")[0] for n in imports(p)}]
    assert users == ["executor/sandbox/docker.py"]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_four_packages_and_nothing_of_the_far_side(wheel_files: set[str]) -> None:
    tops = {n.partition("/")[0] for n in wheel_files if ".dist-info" not in n}
    assert tops == {*HOST, "sealed_executor-0.1.0.data"}
    assert [n for n in wheel_files if ".data/" in n] == ["sealed_executor-0.1.0.data/scripts/executor"]
    assert not [n for n in wheel_files if n.startswith(("images/worker", "tools", "tests"))]


def test_the_wheel_holds_the_data_that_a_run_needs(wheel_files: set[str]) -> None:
    needed = {
        "images/cpu.lock.json",
        "policy/profiles/standard.toml",
        "policy/operators/onnx.toml",
        "policy/operators/torchscript.toml",
        "policy/seccomp/cpu.json",
        "policy/seccomp/gvisor.json",
    }
    assert needed <= wheel_files


def test_the_root_holds_what_the_design_names_and_nothing_else() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tops = {line.partition("/")[0] for line in done.stdout.splitlines()}
    assert tops <= {
        *HOST,
        "tools",
        "tests",
        "examples",
        "Makefile",
        "pyproject.toml",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE",
        ".ci",
        ".gitignore",
    }


README = (ROOT / "README.md").read_text()


def test_the_readme_names_only_subcommands_that_exist() -> None:
    from executor.cli.app import COMMANDS

    named = set(re.findall(r"^(?: {4}|\$ )executor ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_the_readme_has_the_two_commands_on_its_first_screen() -> None:
    first = "\n".join(README.splitlines()[:40])
    assert "make demo" in first
    assert "make test" in first


def test_the_readme_lists_every_exit_code() -> None:
    from executor.exits import Exit

    rows = set(re.findall(r"^\| (\d+) \|", README, re.MULTILINE))
    assert rows == {str(int(code)) for code in Exit}


def test_no_file_names_a_package_host_or_a_path_of_a_machine() -> None:
    private = [ROOT, Path.home()]
    if ROOT.parent not in (Path("/"), Path("/tmp")):  # a clone may lie there, and code names /tmp for what it is
        private.append(ROOT.parent)
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in done.stdout.splitlines():
        text = (ROOT / name).read_bytes()
        assert not re.search(rb"https?://[^ \"']*/(simple|pool|dists)(/|$)", text), name
        assert not [p for p in private if f"{p}/".encode() in text], name
