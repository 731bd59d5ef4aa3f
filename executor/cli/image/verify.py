"""`executor image verify NAME`: recompute every digest, write nothing, and say REPRODUCED or what differs."""

import argparse
import secrets
from collections.abc import Sequence
from typing import Any, TextIO

from executor.cli.image.workshop import image_wire, look_at_workshop, print_result, say, warn_of_edited_sources
from executor.errors import ImageMismatchError
from executor.exits import Exit
from executor.state.home import open_home
from images.audit import ExpectedTree, Finding
from images.bytecode import UseOfBytecode
from images.errors import InputError
from images.inputs import missing_inputs
from images.lock import ImageLock, read_lock
from images.verify import Reproduction, reproduce

_SECONDS = 3600
_SHOWN_MAX = 20


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Verify an image from its inputs, and the engine's copy of it where asked."""
    workshop, lock = look_at_workshop(), read_lock(args.name)
    warn_of_edited_sources(lock)
    if missing := missing_inputs(lock.inputs, workshop.store):
        raise InputError(
            f"not in the cache: {missing[0]}, and {len(missing) - 1} other inputs",
            hint=f"executor image build {args.name} fetches them; verifying writes nothing",
        )
    tree = ExpectedTree()
    use = UseOfBytecode.IGNORE if args.recompile else UseOfBytecode.READ
    builder = workshop.builder(lock.recipe, lock.inputs, bytecode=use)
    result = reproduce(lock, builder, observe=tree.observe if args.daemon else None)
    altered = _audit(lock, tree) if args.daemon and not result.differences else []
    wire = image_wire(lock.image) | result.to_wire() | _status(result, altered)
    if args.daemon:
        wire["altered_in_engine"] = [{"path": f.path, "alteration": f.alteration.value} for f in altered]
    print_result(out, wire, _render(lock, result, altered, daemon=args.daemon), as_json=args.json)
    return int(Exit.IMAGE_MISMATCH if result.differences or altered else Exit.RELEASED)


def _audit(lock: ImageLock, tree: ExpectedTree) -> Sequence[Finding]:
    """Compare what a container of the engine's image would see with what the lock builds.

    Raises:
        ImageMismatchError: The engine does not have the image.
    """
    from executor.sandbox.docker import DockerEngine
    from executor.sandbox.engine_images import container_root, find_image
    from executor.state.owner import labels_for

    engine = DockerEngine()
    image_id = find_image(engine, lock.image)
    if image_id is None:
        raise ImageMismatchError(
            f"the engine does not have image {lock.name!r} ({lock.image.image_id})",
            hint=f"load it: executor image load {lock.name}",
        )
    say("comparing the engine's copy, file by file")
    run_id = f"image-audit-{secrets.token_hex(4)}"
    labels = labels_for(open_home(), run_id, wall_seconds=_SECONDS)
    return tree.compare(container_root(engine, image_id, name=f"sealed-executor-{run_id}", labels=labels))


def _status(result: Reproduction, altered: Sequence[Finding]) -> dict[str, Any]:
    word = "differs" if result.differences else "altered" if altered else "reproduced"
    return {"status": word, "exit_code": int(Exit.RELEASED if word == "reproduced" else Exit.IMAGE_MISMATCH)}


def _render(lock: ImageLock, result: Reproduction, altered: Sequence[Finding], *, daemon: bool) -> str:
    if result.differences:
        lines = [f"DIFFERS {d.what}: expected {d.expected}, got {d.actual}" for d in result.differences]
        return "\n".join(lines)
    origin = f"{result.compiled} sources compiled anew" if result.compiled else "bytecode compiled here before"
    lines = [f"REPRODUCED {lock.name} {lock.expect.image_id} ({len(lock.inputs)} inputs, {origin})"]
    if daemon and not altered:
        lines.append("ENGINE INTACT: a container would see what the lock builds, and nothing else")
    lines += [f"ENGINE ALTERED {f}" for f in altered[:_SHOWN_MAX]]
    if len(altered) > _SHOWN_MAX:
        lines.append(f"and {len(altered) - _SHOWN_MAX} more; --json lists them")
    return "\n".join(lines)
