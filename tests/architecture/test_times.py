"""Every constant of time in the product is on file, with what it judges and what it rests on."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TABLE: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests/architecture/times.toml").read_text())
KINDS = {"measured", "promise", "patience", "interval", "clock"}
NAME = re.compile(r"_?([A-Z]+_)*(SECONDS|SHARE|TICK|TIMEOUT|RETRIES|TRIES|PAUSES|LOOKS|PER_[A-Z]+)(_[A-Z]+)*")
KEYWORD = re.compile(r"timeout|tries|retries|interval|(\w+_)?seconds(_max)?")
# Calls that wait, and which of their arguments says for how long.
WAITS = dict.fromkeys(("sleep", "settimeout", "wait", "join", "alarm", "poll", "select", "get", "timeout"), 0)
WAITS |= dict.fromkeys(("setitimer", "wait_for", "create_connection"), 1)


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield every constant of time with its value: those with names, and numbers where something waits for so long."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from named(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from named(node.target, node.value)
        elif isinstance(node, ast.ClassDef):
            yield from fields(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and KEYWORD.fullmatch(str(key.value)) and is_number(value):
                    yield str(key.value), ast.unparse(value)
        elif isinstance(node, ast.Call):
            yield from waited(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args.posonlyargs + node.args.args
            pairs = list(zip(reversed(arguments), reversed(node.args.defaults), strict=False))
            pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
            for argument, default in pairs:
                if KEYWORD.fullmatch(argument.arg) and is_number(default):
                    yield f"{node.name}.{argument.arg}", ast.unparse(default)


def named(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from named(one, its)
    elif isinstance(target, ast.Name) and NAME.fullmatch(target.id):
        yield target.id, ast.unparse(value)


def fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the defaults of a class's fields, pydantic's among them."""
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is not None:
            defaults = [k.value for k in getattr(field.value, "keywords", ()) if k.arg == "default"] or [field.value]
            if KEYWORD.fullmatch(field.target.id) and is_number(defaults[0]):
                yield f"{node.name}.{field.target.id}", ast.unparse(defaults[0])


def waited(node: ast.Call) -> Iterator[tuple[str, str]]:
    called = ast.unparse(node.func).rpartition(".")[2]
    position = WAITS.get(called)
    if position is not None and len(node.args) > position and is_number(node.args[position]):
        yield called, ast.unparse(node.args[position])
    for keyword in node.keywords:
        if keyword.arg and KEYWORD.fullmatch(keyword.arg) and is_number(keyword.value):
            yield f"{called}.{keyword.arg}", ast.unparse(keyword.value)


def is_number(value: ast.expr) -> bool:
    """Whether an expression is a number other than zero, which does not wait: numbers, and what is made of them."""
    leaves = [leaf for leaf in ast.walk(value) if isinstance(leaf, ast.expr)]
    plain = all(isinstance(leaf, (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple)) for leaf in leaves)
    numbers = [leaf.value for leaf in leaves if isinstance(leaf, ast.Constant)]
    return plain and all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers) and any(numbers)


def product() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for package in ("executor", "policy", "signing", "images", "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            times = list(constants(ast.parse(path.read_text())))
            assert len(dict(times)) == len(times), f"two constants of {module} have one name: {times}"
            if times:
                found[module] = dict(times)
    return found


def table() -> dict[str, dict[str, dict[str, str]]]:
    """Return the table's rows by module: TOML has folders as tables within tables."""

    def rows(prefix: str, part: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
        for name, value in part.items():
            if "kind" in value:
                yield prefix, name, value
            else:
                yield from rows(f"{prefix}.{name}".lstrip("."), value)

    found: dict[str, dict[str, dict[str, str]]] = {}
    for module, name, row in rows("", TABLE):
        found.setdefault(module, {})[name] = row
    return found


def test_every_constant_of_time_is_on_file_with_its_value() -> None:
    on_file = {module: {name: row["value"] for name, row in rows.items()} for module, rows in table().items()}
    assert product() == on_file


def test_each_says_what_it_judges_and_what_it_rests_on() -> None:
    for module, rows in table().items():
        for name, row in rows.items():
            assert set(row) == {"value", "kind", "judges", "rests_on"}, f"{module}.{name}"
            assert row["kind"] in KINDS, f"{module}.{name}"
            assert row["judges"], f"{module}.{name}"
            judges = not row["judges"].startswith("nothing")
            assert not judges or row["rests_on"] or row["kind"] == "clock", f"{module}.{name}"
            assert not (judges and row["kind"] == "interval") or "labels" in row["judges"], f"{module}.{name}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("_X_SECONDS = 3", {"_X_SECONDS": "3"}),
        ("LOOKS_MAX: int = 3", {"LOOKS_MAX": "3"}),
        ("A_SECONDS, B_SHARE = 1, 0.5", {"A_SECONDS": "1", "B_SHARE": "0.5"}),
        ("def f():\n    time.sleep(0.1)", {"sleep": "0.1"}),
        ("thread.join(5)", {"join": "5"}),
        ("ask(home, seconds=2 * 3)", {"ask.seconds": "2 * 3"}),
        ("requests.get(url, timeout=(1, 2.0))", {"get.timeout": "(1, 2.0)"}),
        ("def f(x, timeout=3): pass", {"f.timeout": "3"}),
        ("def f(*, wall_seconds=3.0): pass", {"f.wall_seconds": "3.0"}),
        ("async def f(timeout=3): await asyncio.wait_for(x, 5)", {"f.timeout": "3", "wait_for": "5"}),
        ("class A(B):\n    wall_seconds: float = Field(default=3.0, gt=0)", {"A.wall_seconds": "3.0"}),
        ("LIMITS = {'idle_seconds': 30.0, 'pids': 3}", {"idle_seconds": "30.0"}),
        ("poll.poll(0); ask(seconds=limit); ', '.join(names); MASK = 3", {}),
    ],
)
def test_a_new_constant_of_time_is_found(source: str, found: dict[str, str]) -> None:
    assert dict(constants(ast.parse(source))) == found
