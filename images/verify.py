"""Recompute every digest of a lock from its inputs, keeping nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from images.build import Builder
from images.lock import ImageLock
from images.oci import Layer, make_image
from images.tar import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What did not come out: a layer, `config` or `manifest`, and both digests as `sha256:` and hex."""

    what: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came out.

    Attributes:
        layers: As they came out.
        differences: None where the lock was reproduced.
        compiled: How many sources were compiled anew; the bytecode of the others was compiled on this machine before.
    """

    layers: tuple[Layer, ...]
    differences: tuple[Difference, ...]
    compiled: int

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "layers": {y.name: f"sha256:{y.sha256}" for y in self.layers},
            "differences": [{"what": d.what, "expected": d.expected, "actual": d.actual} for d in self.differences],
            "sources_compiled": self.compiled,
        }


class Nowhere:
    """A sink for bytes that are only hashed."""

    def write(self, data: bytes) -> int:
        """Take bytes and drop them."""
        return len(data)


def reproduce(lock: ImageLock, builder: Builder, *, observe: Callable[[Entry], Entry] | None = None) -> Reproduction:
    """Build everything into nowhere and compare.

    Args:
        lock: What is expected.
        builder: Made from the lock's own recipe and inputs.
        observe: Sees each entry of each layer, in order.

    Raises:
        InputError: An input is missing, or not what the lock names.
    """
    sink: BinaryIO = Nowhere()  # type: ignore[assignment]
    layers = tuple(builder.write(name, sink, observe=observe) for name in builder.layers)
    image = make_image(lock.name, lock.recipe, layers)
    expected = {y.name: f"sha256:{y.sha256}" for y in lock.expect.layers}
    actual = {y.name: f"sha256:{y.sha256}" for y in layers}
    pairs = [(f"layer {n}", expected.get(n, "nothing"), actual.get(n, "nothing")) for n in expected | actual]
    pairs += [
        ("config", lock.expect.image_id, image.image_id),
        ("manifest", lock.expect.manifest, image.manifest_digest),
    ]
    found = tuple(Difference(what=w, expected=e, actual=a) for w, e, a in pairs if e != a)
    return Reproduction(layers=layers, differences=found, compiled=builder.compiled)
