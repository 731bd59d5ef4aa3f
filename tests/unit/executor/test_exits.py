"""The exit codes, which callers depend on."""

import re
from pathlib import Path

from executor.exits import Exit

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_code_and_no_other() -> None:
    table = README.split("### Exit codes")[1].split("\n#")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {int(code) for code in Exit}
