"""Options of the command line that several subcommands have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def named_path(text: str) -> Path:
    """Return a path that was named; an unset variable must not mean the working directory."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"not a path: {text!r}; is a variable unset?")
    return Path(text)


class Once(argparse.Action):
    """An option that counts once: of two values neither is taken, for one of them would go unheeded."""

    def __call__(  # noqa: D102 - argparse's
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest, None) is not None:
            parser.error(f"{option_string} is given twice")
        setattr(namespace, self.dest, values)
