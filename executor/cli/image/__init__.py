"""`executor image ACTION`: pin what an image is made of, build it from the pins, check, compare, publish, load."""

import argparse
import importlib
from typing import TextIO

_NAME = "image name, such as cpu, or the path of a lock file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions; the module of the same name in this package does each."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, *, subject: str = _NAME) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object, on failure too"
        )
        if subject:
            command.add_argument("name", help=subject)
        return command

    lock = action(
        "lock",
        "resolve packages and pin them, and write the digests that must come out",
        subject="image name, such as cpu",
    )
    lock.add_argument("--upgrade", nargs="?", const="", metavar="PACKAGE", help="take newer packages: all, or this one")
    build = action("build", "build the image's layers into the cache, from the lock alone")
    build.add_argument("--output", metavar="FILE", help="also write the archive: OCI layout and docker-archive in one")
    action("load", "hand the image to the engine; does nothing where the engine has it")
    verify = action("verify", "recompute every digest of the lock, and write nothing")
    verify.add_argument("--daemon", action="store_true", help="also compare the engine's stored copy, file by file")
    verify.add_argument("--recompile", action="store_true", help="compile all bytecode anew, cached or not")
    _add_comparing(action("diff", "say what changed between two locks", subject=""))
    sbom = action("sbom", "print the image's bill of materials")
    sbom.add_argument("--format", choices=("spdx", "cyclonedx"), default="spdx", help="SPDX 2.3 or CycloneDX 1.6")
    push = action("push", "publish the image with its inputs, lock, SBOMs and signed provenance to an OCI registry")
    pull = action("pull", "fetch the image from an OCI registry, by the digests of the lock")
    for remote in (push, pull):
        remote.add_argument("repository", help="HOST[:PORT]/PATH; plain HTTP is spoken to loopback only")
    pull.add_argument("--inputs", action="store_true", help="fetch the packages that the image is built from")


def _add_comparing(diff: argparse.ArgumentParser) -> None:
    diff.add_argument("old", help=_NAME)
    diff.add_argument("new", help=_NAME)
    diff.add_argument(
        "--no-substitution", action="store_true", help="exit with 22 where a version kept its name and has other bytes"
    )


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Do one action."""
    code: int = importlib.import_module(f"executor.cli.image.{args.action}").execute(args, out)
    return code
