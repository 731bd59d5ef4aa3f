"""Measures the structure of the host packages: `python -m tests.architecture.structure` prints it.

Read from the sources alone. `test_structure.py` holds the figures against bounds.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("executor", "policy", "signing", "images")
# The rooms of `executor` in the order of the journey, from the ground up: a room imports what comes before it.
JOURNEY = (
    "schema",
    "ground",
    "transfer",
    "sandbox",
    "state",
    "pool",
    "egress",
    "job",
    "inspection",
    "release",
    "recovery",
    "run",
    "reproduction",
    "doctor",
    "cli",
)
CLASS_LINES_MAX = 200
FUNCTION_LINES_MAX = 60
_MAPPINGS = frozenset(f"{name}[str, Any]" for name in ("dict", "Mapping", "MutableMapping"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file: its dotted name, its path in the checkout, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The top package that the module is in."""
        return self.path.parts[0]

    @property
    def room(self) -> str:
        """The folder of `executor` that the module is in, or `ground`. The program itself is the command line."""
        if self.path.name == "__main__.py":
            return "cli"
        return self.path.parts[1] if len(self.path.parts) > 2 else "ground"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What was measured.

    Attributes:
        files: Files in each room of `executor`.
        any_mappings: Mappings from text to anything, in annotations and aliases, by package.
        long_classes: Classes of more than 200 lines, as `path:name`.
        long_functions: Functions of more than 60 lines, docstring included, as `path:name`.
        untested: Modules that have no test file of their name, as paths.
        circles: Modules that import one another, each group sorted.
        upward: Imports within `executor` against the order of the journey, as `from -> to`.
        rooms: Which rooms of `executor` each of them imports.
    """

    files: Mapping[str, int]
    any_mappings: Mapping[str, int]
    long_classes: tuple[str, ...]
    long_functions: tuple[str, ...]
    untested: tuple[str, ...]
    circles: tuple[tuple[str, ...], ...]
    upward: tuple[str, ...]
    rooms: Mapping[str, frozenset[str]]


def measure(root: Path = ROOT) -> Structure:
    """Measure the packages of a checkout."""
    modules = [module for package in PACKAGES for module in _modules(root, package)]
    arrows = {module.name: _imports(module, {m.name for m in modules}) for module in modules}
    rooms = {m.name: m.room for m in modules if m.package == "executor"}
    tests = {path.stem for path in (root / "tests").rglob("test_*.py")}
    return Structure(
        files={room: sum(1 for found in rooms.values() if found == room) for room in JOURNEY},
        any_mappings={
            package: sum(_count_mappings(m.tree) for m in modules if m.package == package) for package in PACKAGES
        },
        long_classes=tuple(_long(modules, (ast.ClassDef,), CLASS_LINES_MAX)),
        long_functions=tuple(_long(modules, (ast.FunctionDef, ast.AsyncFunctionDef), FUNCTION_LINES_MAX)),
        untested=tuple(
            str(m.path) for m in modules if not m.path.stem.startswith("__") and f"test_{m.path.stem}" not in tests
        ),
        circles=tuple(_circles(arrows)),
        upward=tuple(
            f"{name} -> {target}"
            for name, room in sorted(rooms.items())
            for target in sorted(arrows[name])
            if target in rooms and JOURNEY.index(rooms[target]) > JOURNEY.index(room)
        ),
        rooms={
            room: frozenset(
                rooms[target]
                for name, own in rooms.items()
                if own == room
                for target in arrows[name]
                if rooms.get(target, room) != room
            )
            for room in JOURNEY
        },
    )


def _modules(root: Path, package: str) -> Iterator[Module]:
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(name=name, path=path.relative_to(root), tree=ast.parse(path.read_text(encoding="utf-8")))


def _imports(module: Module, known: set[str]) -> set[str]:
    """Return the modules that a module imports, wherever in it. The worker's own names are relative to its folder."""
    prefix = "images." if module.name.startswith("images.worker") else ""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {prefix + alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{prefix}{node.module}.{alias.name}" for alias in node.names} | {prefix + node.module}
    return {name for name in found if name in known and name != module.name}


def _count_mappings(tree: ast.Module) -> int:
    return sum(1 for node in ast.walk(tree) if isinstance(node, ast.Subscript) and ast.unparse(node) in _MAPPINGS)


def _long(modules: Iterable[Module], kinds: tuple[type[ast.stmt], ...], lines: int) -> Iterator[str]:
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, kinds) and (node.end_lineno or node.lineno) - node.lineno + 1 > lines:
                assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                yield f"{module.path}:{node.name}"


def _circles(arrows: Mapping[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Yield the groups of modules that reach one another. A package that imports its own part is no circle."""
    reach = {name: _reachable(name, arrows) for name in arrows}
    seen: set[str] = set()
    for name in sorted(arrows):
        group = {other for other in reach[name] if name in reach[other]}
        if len(group) > 1 and name not in seen:
            seen |= group
            yield tuple(sorted(group))


def _reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    found, ahead = {start}, [start]
    while ahead:
        new = arrows[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def main() -> None:
    """Print what was measured."""
    found = measure()
    print("files:", ", ".join(f"{room} {count}" for room, count in found.files.items()))
    print("mappings to Any:", ", ".join(f"{package} {count}" for package, count in found.any_mappings.items()))
    for title, names in (
        (f"classes over {CLASS_LINES_MAX} lines", found.long_classes),
        (f"functions over {FUNCTION_LINES_MAX} lines", found.long_functions),
        ("modules without a test of their name", found.untested),
        ("import circles", [" <-> ".join(group) for group in found.circles]),
        ("arrows against the journey", found.upward),
    ):
        print(f"{title}: {len(names)}", *names, sep="\n  ")


if __name__ == "__main__":
    main()
