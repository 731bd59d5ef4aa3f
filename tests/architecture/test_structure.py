"""The structure of the host packages against bounds, which come down as the trunk is re-cut and never go up."""

from pathlib import Path

import pytest

from tests.architecture.structure import Structure, measure

# Mappings from text to anything: what is left belongs to borders where JSON comes in or goes out.
ANY_MAPPINGS_MAX = {"executor": 141, "policy": 4, "signing": 36, "images": 71}
LONG_CLASSES = {
    "executor/pool/supervisor.py:Pool",
    "executor/run/journey.py:Run",
    "executor/sandbox/docker.py:DockerEngine",
    "executor/sandbox/session.py:Session",
    "images/registry.py:Registry",
}
UNTESTED_MAX = 91


@pytest.fixture(scope="module")
def found() -> Structure:
    return measure()


def test_nothing_of_the_executor_is_outside_its_rooms(found: Structure) -> None:
    assert all(found.files.values())
    assert found.files["ground"] <= 8


def test_no_module_reaches_itself_through_others(found: Structure) -> None:
    assert found.circles == ()


def test_no_room_imports_a_later_one(found: Structure) -> None:
    assert found.upward == ()


def test_mappings_to_anything_become_fewer(found: Structure) -> None:
    assert {package: n for package, n in found.any_mappings.items() if n > ANY_MAPPINGS_MAX[package]} == {}


def test_no_class_and_no_function_becomes_long(found: Structure) -> None:
    assert set(found.long_classes) <= LONG_CLASSES
    assert found.long_functions == ()


def test_modules_without_a_test_of_their_name_become_fewer(found: Structure) -> None:
    assert len(found.untested) <= UNTESTED_MAX


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """A package with one fault of each kind."""
    for package in ("executor", "policy", "signing", "images"):
        (tmp_path / package).mkdir()
    for name, text in {
        "executor/errors.py": "from executor.sandbox.slot import x\n",
        "executor/sandbox/slot.py": "from executor.errors import y\nA = dict[str, Any]\n",
        "policy/long.py": "class Long:\n" + "    x = 1\n" * 200 + "def long():\n" + "    pass\n" * 60,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    seen = measure(tmp_path)
    assert seen.circles == (("executor.errors", "executor.sandbox.slot"),)
    assert seen.upward == ("executor.errors -> executor.sandbox.slot",)
    assert seen.any_mappings["executor"] == 1
    assert seen.long_classes == ("policy/long.py:Long",)
    assert seen.long_functions == ("policy/long.py:long",)
    assert seen.untested == ("executor/errors.py", "executor/sandbox/slot.py", "policy/long.py")
    assert (seen.files["ground"], seen.files["sandbox"], seen.files["job"]) == (1, 1, 0)
