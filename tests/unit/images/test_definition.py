"""Definitions: what a person edits, read strictly."""

from pathlib import Path

import pytest

from images.definition import load_definition
from images.errors import LockError
from images.lock import lock_path

CPU = lock_path("cpu").with_name("cpu.toml").read_text()


def test_a_definition_that_extends_another_changes_what_it_names_and_no_more() -> None:
    cpu, cuda = load_definition("cpu"), load_definition("cuda")
    assert (cuda.roots.debs, cuda.signers, cuda.release) == (cpu.roots.debs, cpu.signers, cpu.release)
    assert cuda.roots.wheels != cpu.roots.wheels
    assert set(cpu.recipe.drop) < set(cuda.recipe.drop)
    assert cuda.recipe.keep == cpu.recipe.keep


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epoch = 1767225600", "epoch = 'today'"),
        ('release = "bookworm"', ""),
        ('user = "65532:65532"', ""),
        ("signers = [", "signers = 1 #"),
        ('name = "cpu"', 'name = "cpu'),
        ('name = "cpu"', 'name = "cuda"'),
        ('name = "cpu"', 'name = "cpu"\nsurprise = 1'),
        ('roots = ["python3.11", "libstdc++6"]', 'roots = "python3.11"'),
        ('roots = ["python3.11", "libstdc++6"]', 'roots = ["-oDPkg::Pre-Invoke::=id"]'),
        ('roots = ["python3.11", "libstdc++6"]', "roots = [1]"),
        ('roots = ["python3.11", "libstdc++6"]', "roots = []"),
        ('"torch==2.13.0+cpu"', '"--index-url=x"'),
        ("[config]", "[config]\nvolumes = []"),
        ('name = "cpu"', 'extends = "cpu"\nname = "cpu"'),
    ],
)
def test_a_malformed_definition_is_refused_by_name(tmp_path: Path, old: str, new: str) -> None:
    assert old in CPU
    (tmp_path / "cpu.toml").write_text(CPU.replace(old, new, 1))
    with pytest.raises(LockError, match=r"malformed: cpu\.toml"):
        load_definition("cpu", tmp_path)


def test_an_image_without_a_definition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="no image definition"):
        load_definition("absent", tmp_path)
