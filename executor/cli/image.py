"""`executor image lock|build NAME`: pin what an image is made of, build it from the pins, hand it to the engine."""

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO

from executor.errors import RequestError
from executor.home import open_home
from images.build import Builder, Image, check_expected
from images.definition import load_definition
from images.errors import LockError
from images.inputs import InputStore, fetch_missing
from images.lock import LockedInput, load_lock, lock_path
from images.resolve import lock_bytes, resolve_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do with which image."""
    parser.add_argument("action", choices=("lock", "build"))
    parser.add_argument("name", help="image name, such as cpu")
    parser.add_argument("--upgrade", action="store_true", help="lock: resolve all packages anew, not only the worker")
    parser.add_argument("--no-load", action="store_true", help="build: leave the engine alone")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Lock or build an image."""
    image = _lock(args.name, upgrade=args.upgrade) if args.action == "lock" else _build(args.name)
    if args.action == "build" and not args.no_load:
        _load(image)
    wire = {
        "schema": "executor.image/v1",
        "name": args.name,
        "image_id": image.image_id,
        "manifest": image.manifest_digest,
        "layers": {layer.name: f"sha256:{layer.sha256}" for layer in image.layers},
    }
    out.write((json.dumps(wire, indent=2) if args.json else image.image_id) + "\n")
    return 0


def _build(name: str) -> Image:
    """Build from the lock, and insist on the digests that it expects."""
    lock = load_lock(name)
    image = _build_inputs(name, lock.inputs)
    check_expected(image, lock)
    return image


def _lock(name: str, *, upgrade: bool) -> Image:
    """Write the lock: new packages on request or at first, else only the digests that the sources now give."""
    if not lock_path(name).parent.joinpath("worker").is_dir():
        raise RequestError("locking needs a checkout of the project", hint="an installed distribution has no worker")
    definition = load_definition(name)
    try:
        inputs = None if upgrade else load_lock(name).inputs
    except LockError:
        inputs = None
    if inputs is None:
        inputs = resolve_inputs(definition, _store())
    image = _build_inputs(name, inputs)
    lock_path(name).write_bytes(lock_bytes(definition, inputs, image))
    return image


def _build_inputs(name: str, inputs: tuple[LockedInput, ...]) -> Image:
    definition, store = load_definition(name), _store()
    fetched = fetch_missing(definition, inputs, store)
    if fetched:
        _say(f"fetched {fetched} packages")
    checkout = Path(__file__).resolve().parents[2]
    return Builder(definition, store=store, cache=open_home().layers, checkout=checkout, say=_say).build(inputs)


def _load(image: Image) -> None:
    from executor.sandbox.docker import DockerEngine

    engine = DockerEngine()
    if engine.image(image.image_id) is None:
        _say("loading the image into the engine")
        engine.load_image(image.archive())


def _store() -> InputStore:
    return InputStore(open_home().cas / "packages")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
