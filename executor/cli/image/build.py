"""`executor image build NAME`: build what the lock pins. Needs no engine and no root."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import TextIO

from executor.cli.image.workshop import Workshop, image_wire, open_workshop, print_result
from executor.errors import RequestError
from images.lock import read_lock
from images.oci import Image


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Build an image into the cache, and into an archive where asked."""
    workshop, lock = open_workshop(), read_lock(args.name)
    built = workshop.build(lock)
    if args.output:
        _write(workshop, lock.image, Path(args.output))
    wire = image_wire(lock.image) | {"layers_built": built}
    print_result(out, wire, lock.image.image_id, as_json=args.json)
    return 0


def _write(workshop: Workshop, image: Image, target: Path) -> None:
    """Write the archive aside and rename it, so that it is whole or absent."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as err:
        raise RequestError(f"cannot write the archive: {target}: {err.strerror}") from err
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in image.archive(workshop.open_layer):
                file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
