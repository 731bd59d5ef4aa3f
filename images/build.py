"""Build layers from locked inputs: the same bytes from the same lock, on any machine.

Nothing here needs root, a container engine or a shell, and no code of any package is run. A layer is built, hashed and
held against the lock while it is written; one that differs is not kept.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from images.bytecode import Bytecode, BytecodeCache, ImageInterpreter, compile_groups, sources_among
from images.errors import NotReproducedError, UnsafeEntryError
from images.layers import Group, arrange, compiler_entries, layer_groups
from images.lock import ImageLock, LockedInput, layer_plan
from images.oci import Layer
from images.recipe import Recipe
from images.store import Blob, BlobStore
from images.tar import Entry, Kind, write_tar

Say = Callable[[str], None]


class Builder:
    """Builds the layers of one image, in order.

    Args:
        recipe: The rules.
        inputs: The locked inputs.
        store: Where they lie.
        bytecode: Bytecode that was compiled before.
        say: Told what is being done, for a person who waits.
    """

    def __init__(
        self, recipe: Recipe, inputs: Sequence[LockedInput], *, store: BlobStore, bytecode: BytecodeCache, say: Say
    ) -> None:
        self._recipe = recipe
        self._inputs = tuple(inputs)
        self._store = store
        self._say = say
        self._cache = bytecode
        self._owners: dict[str, tuple[str, tuple[object, ...]]] = {}
        self.compiled = 0
        self.layers = dict(layer_plan(recipe, self._inputs))

    def write(self, name: str, out: BinaryIO, *, observe: Callable[[Entry], Entry] | None = None) -> Layer:
        """Write one layer.

        Args:
            name: Of the layer.
            out: Where its bytes go.
            observe: Sees each entry before it is written, and may wrap its content.

        Raises:
            InputError: An input is missing, or not what the lock names.
            UnsafeEntryError: An input holds what no image may hold, or two inputs disagree on a path.
        """
        with ExitStack() as open_files:
            groups = layer_groups(
                name, self.layers[name], recipe=self._recipe, store=self._store, open_files=open_files
            )
            code = self._bytecode(groups)
            plain = [e for group in groups for e in group]
            entries = arrange([*plain, *(Entry(path=p, kind=Kind.FILE, data=d) for p, d in code.items())])
            self._claim(name, entries)
            written = write_tar(out, map(observe, entries) if observe else entries, epoch=self._recipe.epoch)
        return Layer(name=name, sha256=written.sha256, size=written.size)

    def _claim(self, name: str, entries: Iterable[Entry]) -> None:
        """Refuse a layer that would cover a file of a lower one: which of them counts must not depend on the order."""
        for entry in entries:
            owner, identity = self._owners.setdefault(entry.path, (name, entry.identity))
            if identity != entry.identity:
                raise UnsafeEntryError(f"layers {owner!r} and {name!r} bring other content for one path: {entry.path}")

    def _bytecode(self, groups: Sequence[Group]) -> Bytecode:
        sources = [found for group in groups if (found := sources_among(group))]
        keys = [self._cache.key(s) for s in sources]
        known: dict[str, Bytecode] = {key: code for key in keys if (code := self._cache.get(key)) is not None}
        wanted = [(k, s) for k, s in zip(keys, sources, strict=True) if k not in known]
        if wanted:
            known |= self._compile(wanted)
        return {path: data for key in keys for path, data in known[key].items()}

    def _compile(self, wanted: Sequence[tuple[str, Sequence[Entry]]]) -> dict[str, Bytecode]:
        """The largest group starts first, so that the threads end together."""
        ordered = sorted(wanted, key=lambda w: -sum(e.size for e in w[1]))
        count = sum(len(s) for _, s in ordered)
        self._say(f"compiling {count} Python sources")
        recipe = self._recipe
        files = compiler_entries(self._inputs, recipe=recipe, store=self._store)
        with ImageInterpreter(files, version=recipe.python, architecture=recipe.architecture) as interpreter:
            made = compile_groups([s for _, s in ordered], interpreter, jobs=os.cpu_count() or 1)
        self.compiled += count
        for (key, _), code in zip(ordered, made, strict=True):
            self._cache.put(key, code)
        return {key: code for (key, _), code in zip(ordered, made, strict=True)}


def build_layers(lock: ImageLock, builder: Builder, store: BlobStore, *, say: Say) -> int:
    """See to it that the store has every layer that a lock expects.

    Returns:
        How many layers were built; the others were there.

    Raises:
        NotReproducedError: A layer came out otherwise than the lock expects. It is not kept.
        InputError: An input is missing, or not what the lock names.
    """
    built = 0
    for expected in lock.expect.layers:
        if store.intact(blob_of_layer(expected)):
            continue
        say(f"building layer {expected.name}")
        store.create(_expecting(expected, builder, lock.name))
        built += 1
    return built


def blob_of_layer(layer: Layer) -> Blob:
    """Return a layer as the store knows it."""
    return Blob(name=f"layer {layer.name}", sha256=layer.sha256, size=layer.size)


def _expecting(expected: Layer, builder: Builder, image: str) -> Callable[[BinaryIO], str]:
    def fill(out: BinaryIO) -> str:
        layer = builder.write(expected.name, out)
        if layer != expected:
            raise NotReproducedError(
                f"layer {expected.name!r} of image {image!r} came out as sha256:{layer.sha256},"
                f" the lock expects sha256:{expected.sha256}",
                hint="the lock was made by another version of the builder, or is wrong: see `executor image verify`",
            )
        return layer.sha256

    return fill
