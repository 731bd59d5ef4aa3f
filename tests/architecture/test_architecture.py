"""ARCHITECTURE.md against the sources: the rooms, what each imports, and the files that it names."""

import re
from pathlib import Path

import pytest

from tests.architecture.structure import JOURNEY, ROOT, measure

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def rooms_in_the_text() -> dict[str, frozenset[str]]:
    found = {}
    for line in TEXT.split("## The rooms")[1].split("\n## ")[0].splitlines():
        if line.startswith("| ") and "imports" not in line:
            name, _, imports = (cell.strip() for cell in line.strip("|").split("|"))
            found[name.strip("`/")] = frozenset(filter(None, imports.split(", ")))
    return found


def test_the_table_of_rooms_is_what_they_import() -> None:
    found = measure().rooms
    assert rooms_in_the_text() == dict(found)


def test_the_rooms_stand_in_the_order_of_the_journey() -> None:
    listed = list(rooms_in_the_text())
    assert listed[:-2] == [room for room in reversed(JOURNEY) if room not in ("ground", "schema")]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:executor|images|signing|tests)/[\w/.]+\.\w+)`", TEXT))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (Path(ROOT) / path).is_file() or "NAME" in path
