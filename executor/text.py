"""Text of others on a terminal or in a log: names and messages must not be able to pass for lines of ours."""


def printable(text: str) -> str:
    """Return text on one line, with what is not printable escaped: line breaks, terminal controls, stray bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
