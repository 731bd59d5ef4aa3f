"""What the actions share: where inputs, layers and bytecode lie, and how an image is described."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from executor.cli import printing
from executor.state.home import open_home
from images.build import Builder, blob_of_layer, build_layers
from images.bytecode import BytecodeCache, UseOfBytecode
from images.inputs import CHECKOUT, SOURCE_FOLDERS, fetch_inputs, sha256_of_file
from images.lock import ImageLock, LockedInput, layer_plan
from images.memo import LayerMemo
from images.oci import Image, Layer
from images.recipe import Recipe
from images.store import BlobStore

SCHEMA = "executor.image/v1"


@dataclass(frozen=True, slots=True)
class Workshop:
    """A store of inputs and layers, a folder of bytecode, and a folder of notes on what layers came out as."""

    store: BlobStore
    bytecode: Path
    memo: Path

    def builder(self, recipe: Recipe, inputs: Sequence[LockedInput], *, bytecode: UseOfBytecode) -> Builder:
        """Return a builder of an image from its recipe and inputs."""
        interpreter = [i.sha256 for i in inputs if i.kind == "deb" and i.name in recipe.compiler]
        cache = BytecodeCache(self.bytecode, interpreter=interpreter, use=bytecode)
        return Builder(recipe, inputs, store=self.store, bytecode=cache, say=say)

    def open_layer(self, layer: Layer) -> BinaryIO:
        """Open a layer that was built, hashed again."""
        return self.store.open(blob_of_layer(layer))

    def build(self, lock: ImageLock) -> int:
        """See to it that every layer is in the store; return how many had to be built.

        Raises:
            NotReproducedError: One came out otherwise than the lock expects.
        """
        warn_of_edited_sources(lock)
        if all(self.store.intact(blob_of_layer(y)) for y in lock.expect.layers):
            return 0
        self.fetch(lock)
        builder = self.builder(lock.recipe, lock.inputs, bytecode=UseOfBytecode.KEEP)
        built = build_layers(lock, builder, self.store, say=say)
        memo = self.layer_memo(lock.recipe, lock.inputs)
        for layer in lock.expect.layers:
            memo.put(layer)
        return built

    def layer_memo(self, recipe: Recipe, inputs: Sequence[LockedInput]) -> LayerMemo:
        """Return the notes on what the layers of an image came out as."""
        return LayerMemo(self.memo, recipe, layer_plan(recipe, inputs))

    def fetch(self, lock: ImageLock) -> None:
        """See to it that every input is in the store."""
        if fetched := fetch_inputs(lock, lock.inputs, self.store):
            say(f"fetched {fetched} inputs")

    def fetch_packages(self, lock: ImageLock) -> None:
        """See to it that every package is in the store; a new lock takes the sources from the checkout."""
        packages = [i for i in lock.inputs if i.kind != "source"]
        if fetched := fetch_inputs(lock, packages, self.store):
            say(f"fetched {fetched} packages")


def open_workshop() -> Workshop:
    """Return the workshop of the state directory."""
    home = open_home()
    return Workshop(BlobStore(home.blobs), home.bytecode, home.memo)


def look_at_workshop() -> Workshop:
    """Return the workshop for an action that writes nothing, not even a folder."""
    cas = open_home().root / "cas"
    return Workshop(BlobStore(cas / "blobs"), cas / "bytecode", cas / "memo")


def warn_of_edited_sources(lock: ImageLock) -> None:
    """The lock counts, and not the checkout: say so to a person who edited the worker and expects to see it."""
    here = [i for i in lock.of_kind("source") if (CHECKOUT / i.name).is_file()]
    edited = [i.name for i in here if sha256_of_file(CHECKOUT / i.name) != i.sha256]
    known = {i.name for i in here}
    edited += [
        name
        for folder in SOURCE_FOLDERS
        for path in (CHECKOUT / folder).rglob("*.py")
        if here and (name := path.relative_to(CHECKOUT).as_posix()) not in known
    ]
    if edited:
        say(
            f"warning: {sorted(edited)[0]} is not what the lock pins; the image has what the lock pins.\n"
            f"  To put it into the image: executor image lock {lock.name}"
        )


def image_wire(image: Image) -> dict[str, Any]:
    """Return the JSON form of an image."""
    return {
        "schema": SCHEMA,
        "name": image.name,
        "image_id": image.image_id,
        "manifest": image.manifest_digest,
        "layers": {layer.name: f"sha256:{layer.sha256}" for layer in image.layers},
    }


def print_result(out: TextIO, wire: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result for programs or for people."""
    out.write((json.dumps(wire, indent=2) if as_json else text) + "\n")


def say(text: str) -> None:
    """Tell a person who waits."""
    printing.say(sys.stderr, text)
