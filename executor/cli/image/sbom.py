"""`executor image sbom NAME`: the bill of materials, made from the lock alone."""

import argparse
from typing import TextIO

from images.lock import read_lock
from images.sbom import cyclonedx, spdx


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print it. It is JSON with and without `--json`."""
    lock = read_lock(args.name)
    out.write((spdx(lock) if args.format == "spdx" else cyclonedx(lock)).decode())
    return 0
