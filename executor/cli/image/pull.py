"""`executor image pull NAME REPOSITORY`: fetch an image, or what it is built from, by the digests of the lock."""

import argparse
from typing import TextIO

from executor.cli.image.remote import open_registry
from executor.cli.image.workshop import image_wire, open_workshop, print_result, say
from images.build import blob_of_layer
from images.inputs import blob_of
from images.lock import read_lock
from images.publish import pull_blobs


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Fetch layers or inputs into the cache."""
    lock, workshop = read_lock(args.name), open_workshop()
    registry = open_registry(args.repository)
    layers, inputs = map(blob_of_layer, lock.expect.layers), map(blob_of, lock.inputs)
    fetched = pull_blobs(registry, inputs if args.inputs else layers, workshop.store, say=say)
    next_step = f"executor image {'build' if args.inputs else 'load'} {args.name}"
    text = f"{lock.image.image_id}\npulled {fetched} {'inputs' if args.inputs else 'layers'}; next: {next_step}"
    print_result(out, image_wire(lock.image) | {"blobs_fetched": fetched}, text, as_json=args.json)
    return 0
