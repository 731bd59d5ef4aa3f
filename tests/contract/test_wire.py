"""The documents that callers read, byte for byte: results, events, records, manifests, statements and errors.

Where a change to one is meant, `python -m tests.contract.wire` writes them anew, and the diff is the review.
"""

from pathlib import Path

import pytest

from tests.contract.wire import CASES, FOLDER, documents, errors, render
from tests.unit.executor.run.test_journey import World


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_prints_and_leaves_is_as_it_was(case: str, tmp_path: Path, home: Path) -> None:
    found = render(documents(case, World(tmp_path, home)))
    assert found == (FOLDER / f"{case}.json").read_text(encoding="utf-8")


def test_what_a_refusal_prints_is_as_it_was() -> None:
    assert render(errors()) == (FOLDER / "errors.json").read_text(encoding="utf-8")


def test_no_case_is_without_a_file_and_no_file_without_a_case() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*CASES, "errors"}
