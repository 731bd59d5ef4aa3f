"""Every text file and every text of a program names its encoding: a locale must not decide what is read or signed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for package in ("executor", "policy", "signing", "images") for p in (ROOT / package).rglob("*.py"))
# Callables that open text, and where their mode stands; None: always text.
OPENERS = {"open": 1, "fdopen": 1, "read_text": None, "write_text": None, "TextIOWrapper": None}


def unnamed(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that leave the encoding of a text to the locale."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        if "encoding" in keywords or None in keywords:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if any(is_true(keywords.get(option)) for option in ("text", "universal_newlines")):
            yield node.lineno
        if name in ("read_text", "write_text", "TextIOWrapper") or (name in OPENERS and is_text(node, name, keywords)):
            yield node.lineno


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def is_text(node: ast.Call, name: str, keywords: dict[str | None, ast.expr]) -> bool:
    method = isinstance(node.func, ast.Attribute)
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    if owner in ("os", "tarfile", "zipfile") and name == "open":
        return False
    place = 0 if method and name == "open" else 1
    mode = keywords.get("mode") or (node.args[place] if len(node.args) > place else None)
    if mode is None:
        return not method or owner in ("io", "os") or "path" in owner.lower()
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_leaves_its_encoding_to_the_locale(path: Path) -> None:
    assert list(unnamed(ast.parse(path.read_bytes()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "path.read_text()",
        "path.write_text(x)",
        "open(p)",
        "open(p, 'w')",
        "path.open()",
        "path.open('w')",
        "os.fdopen(3)",
        "subprocess.run(c, text=True)",
        "io.TextIOWrapper(raw)",
    ],
)
def test_one_that_does_is_found(text: str) -> None:
    assert list(unnamed(ast.parse(text))) == [1]


@pytest.mark.parametrize(
    "text",
    [
        "path.read_text(encoding='utf-8')",
        "open(p, 'rb')",
        "path.open('wb')",
        "os.open(p, flags)",
        "store.open(blob)",
        "open(p, 'w', encoding='ascii')",
        "subprocess.run(c)",
        "path.read_bytes()",
    ],
)
def test_one_that_does_not_is_passed_over(text: str) -> None:
    assert list(unnamed(ast.parse(text))) == []
