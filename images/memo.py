"""What a layer came out as before: lets a new lock of an unchanged layer skip building it again.

Only `lock` asks. What it writes is a claim that `build` and `verify` then hold against bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from images.atomic import write_file
from images.encoding import canonical_json, sha256_hex
from images.lock import OS, LockedInput
from images.oci import Layer
from images.recipe import Recipe


class LayerMemo:
    """Layers by all that their bytes depend on: inputs, recipe, interpreter, and the builder's own code.

    Args:
        root: Folder, made when first written to.
        recipe: The rules.
        plan: Names and inputs of the layers.
    """

    def __init__(self, root: Path, recipe: Recipe, plan: Sequence[tuple[str, tuple[LockedInput, ...]]]) -> None:
        self._root = root
        wire = recipe.to_wire()
        for field in ("own_layer", "user", "env", "entrypoint"):  # they cut and describe layers, and fill none
            del wire[field]
        code = [sha256_hex(p.read_bytes()) for p in sorted(Path(__file__).parent.glob("*.py"))]
        compiler = [i.sha256 for i in dict(plan)[OS] if i.name in recipe.compiler]
        self._keys = {
            name: sha256_hex(canonical_json([name == OS, [[i.name, i.sha256] for i in items], compiler, wire, code]))
            for name, items in plan
        }

    def get(self, name: str) -> Layer | None:
        """Return what a layer came out as, or None."""
        try:
            known = json.loads((self._root / self._keys[name]).read_bytes())
            return Layer(name=name, sha256=bytes.fromhex(known["sha256"]).hex(), size=int(known["size"]))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None

    def put(self, layer: Layer) -> None:
        """Note what a layer came out as."""
        write_file(self._root / self._keys[layer.name], canonical_json({"sha256": layer.sha256, "size": layer.size}))
