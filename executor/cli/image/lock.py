"""`executor image lock NAME`: pin what an image is made of. Needs a checkout: the worker's sources are pinned too."""

import argparse
from collections.abc import Sequence
from typing import BinaryIO, TextIO

from executor.cli.image.diff import render
from executor.cli.image.workshop import Workshop, image_wire, open_workshop, print_result, say
from executor.errors import RequestError
from images.atomic import write_file
from images.build import Builder, blob_of_layer
from images.bytecode import UseOfBytecode
from images.definition import load_definition
from images.diff import diff_locks
from images.errors import LockError
from images.inputs import CHECKOUT
from images.lock import ImageLock, SignedIndex, load_lock, lock_path, parse_lock
from images.memo import LayerMemo
from images.oci import Layer, make_image
from images.resolve import Resolver, lock_bytes


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Write the lock, and say what changed in it."""
    if not (CHECKOUT / "images/worker").is_dir():
        raise RequestError("locking needs a checkout of the project", hint="an installed distribution has no worker")
    workshop, path = open_workshop(), lock_path(args.name)
    before = _readable(args.name) if path.exists() else None
    old = load_lock(args.name) if path.exists() and args.upgrade != "" else None
    seen = before.indexes if before else ()
    data = _lock(args.name, workshop, old, upgrade=args.upgrade or None, seen=seen)
    new = parse_lock(data)
    write_file(path, data, mode=0o644)
    changes = render(diff_locks(before, new)) if before else "locked anew"
    print_result(out, image_wire(new.image), f"{changes}\n{new.image.image_id}", as_json=args.json)
    return 0


def _readable(name: str) -> ImageLock | None:
    """The lock so far, to compare with. One that is damaged is no hindrance to making it anew."""
    try:
        return load_lock(name)
    except LockError:
        return None


def _lock(
    name: str, workshop: Workshop, old: ImageLock | None, *, upgrade: str | None, seen: Sequence[SignedIndex]
) -> bytes:
    definition = load_definition(name)
    if upgrade and not old:
        raise RequestError(f"image {name!r} has no lock in which to upgrade {upgrade!r}")
    resolver = Resolver(definition, workshop.store, current=old, upgrade=upgrade, seen=seen)
    resolver.check()
    if old:
        workshop.fetch_packages(old)
    resolved = resolver.resolve(CHECKOUT)
    inputs = resolved[0]
    builder = workshop.builder(definition.recipe, inputs, bytecode=UseOfBytecode.KEEP)
    memo = workshop.layer_memo(definition.recipe, inputs)
    layers = tuple(_layer(n, builder, memo, workshop) for n in builder.layers)
    return lock_bytes(definition, resolved, make_image(name, definition.recipe, layers))


def _layer(name: str, builder: Builder, memo: LayerMemo, workshop: Workshop) -> Layer:
    """Take a layer's digest from an earlier build of the very same parts by the very same code, else build it."""
    known = memo.get(name)
    if known is not None and workshop.store.has(blob_of_layer(known)):
        return known
    say(f"building layer {name}")
    made: list[Layer] = []

    def fill(file: BinaryIO) -> str:
        made.append(builder.write(name, file))
        return made[0].sha256

    workshop.store.create(fill)
    memo.put(made[0])
    return made[0]
