"""`executor version`."""

import argparse
import json
from typing import TextIO

from executor import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is nothing to choose."""


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print the version."""
    if args.json:
        out.write(json.dumps({"schema": "executor.version/v1", "version": __version__}) + "\n")
    else:
        out.write(__version__ + "\n")
    return 0
