"""Text of others, made harmless."""

import pytest

from executor.text import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\nerror: b", "a\\nerror: b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("", ""),
    ],
)
def test_what_could_pass_for_a_line_of_ours_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
