"""Images in an engine: hand one over, and look at what the engine really has of it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from executor.errors import HostError
from executor.sandbox.engine import Engine
from images.oci import Image, Layer


def find_image(engine: Engine, image: Image) -> str | None:
    """Return the digest under which an engine has an image, or None.

    Docker's classic store names an image by its configuration's digest, the containerd store by its manifest's. Both
    are pinned, and nothing else is accepted.
    """
    for digest in (image.image_id, image.manifest_digest):
        facts = engine.image(digest)
        if facts is not None and facts.image_id in (image.image_id, image.manifest_digest):
            return facts.image_id
    return None


def load_image(engine: Engine, image: Image, open_layer: Callable[[Layer], BinaryIO]) -> int:
    """Hand an image to an engine, which checks every layer's digest that it reads.

    A classic store takes an archive without the layers that it has (measured 2026-11 on 20.10: 0.2 s in place of 13 s),
    so that a change of the last layer costs no more than that layer. Whatever refuses that gets the whole archive.

    Args:
        engine: Which does not have the image yet.
        image: The image.
        open_layer: Gives the bytes of a layer, checked.

    Returns:
        How many layers were sent.

    Raises:
        HostError: The engine refused it, or has it not after all.
    """
    present = _layers_present(engine, image)
    if present:
        with contextlib.suppress(HostError):
            engine.load_image(image.archive(open_layer, without=present))
            if find_image(engine, image) is not None:
                return len(image.layers) - len(present)
    engine.load_image(image.archive(open_layer))
    if find_image(engine, image) is None:
        raise HostError(f"the engine took image {image.name!r} and does not have {image.image_id}")
    return len(image.layers)


def container_root(engine: Engine, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> Iterator[bytes]:
    """Yield, as a tar stream, the root that a container of an image would see. No code of the image is run."""
    container = engine.create_inert(image_id, name=name, labels=labels)
    try:
        yield from engine.export(container)
    finally:
        engine.remove(container)


def _layers_present(engine: Engine, image: Image) -> frozenset[str]:
    """The longest run of our layers, from the bottom, that some image of the engine has."""
    ours = [f"sha256:{layer.sha256}" for layer in image.layers]
    best = 0
    for chain in engine.layer_chains():
        common = 0
        while common < min(len(ours), len(chain)) and ours[common] == chain[common]:
            common += 1
        best = max(best, common)
    return frozenset(layer.sha256 for layer in image.layers[:best])
