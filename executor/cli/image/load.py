"""`executor image load NAME`: see to it that the engine has the image. Asks it by digest first."""

import argparse
from typing import TextIO

from executor.cli.image.workshop import image_wire, open_workshop, print_result, say, warn_of_edited_sources
from executor.sandbox.docker import DockerEngine
from executor.sandbox.engine_images import find_image, load_image
from images.lock import read_lock


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Load an image, building what is missing."""
    lock = read_lock(args.name)
    engine, image, sent = DockerEngine(), lock.image, 0
    if find_image(engine, image) is None:
        workshop = open_workshop()
        workshop.build(lock)
        say("loading the image into the engine")
        sent = load_image(engine, image, workshop.open_layer)
    else:
        warn_of_edited_sources(lock)
    print_result(out, image_wire(image) | {"layers_sent": sent}, image.image_id, as_json=args.json)
    return 0
