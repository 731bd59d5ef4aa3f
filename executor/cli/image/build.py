"""`executor image build NAME`: build what the lock pins. Needs no engine and no root."""

import argparse
from pathlib import Path
from typing import TextIO

from executor.cli.image.workshop import Workshop, image_wire, open_workshop, print_result
from executor.errors import RequestError
from images.atomic import replacing
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
    try:
        with replacing(target.parent, lambda: target, mode=0o644) as file:
            for chunk in image.archive(workshop.open_layer):
                file.write(chunk)
    except OSError as err:
        raise RequestError(f"cannot write the archive: {target}: {err.strerror}") from err
