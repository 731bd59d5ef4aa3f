"""`executor image ACTION`: pin what an image is made of, build it from the pins, check, compare, publish, load."""

import argparse
import importlib
from typing import TextIO

_NAME = "image name, such as cpu, or the path of a lock file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions; the module of the same name in this package does each."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object, on failure too"
        )
        return command

    lock = action("lock", "resolve packages and pin them, and write the digests that must come out")
    lock.add_argument("name", help="image name, such as cpu")
    lock.add_argument(
        "--upgrade",
        nargs="?",
        const="",
        metavar="PACKAGE",
        help="take newer packages: all, or this one and what it needs",
    )
    build = action("build", "build the image's layers into the cache, from the lock alone")
    build.add_argument("name", help=_NAME)
    build.add_argument("--output", metavar="FILE", help="also write the archive: OCI layout and docker-archive in one")
    load = action("load", "hand the image to the engine; does nothing where the engine has it")
    load.add_argument("name", help=_NAME)
    verify = action("verify", "recompute every digest of the lock, and write nothing")
    verify.add_argument("name", help=_NAME)
    verify.add_argument("--daemon", action="store_true", help="also compare the engine's stored copy, file by file")
    verify.add_argument(
        "--recompile", action="store_true", help="compile all bytecode anew instead of taking the cache's"
    )
    diff = action("diff", "say what changed between two locks")
    diff.add_argument("old", help=_NAME)
    diff.add_argument("new", help=_NAME)
    diff.add_argument(
        "--no-substitution",
        action="store_true",
        help="exit with 22 where a version kept its name and changed its bytes",
    )
    sbom = action("sbom", "print the image's bill of materials")
    sbom.add_argument("name", help=_NAME)
    sbom.add_argument(
        "--format", choices=("spdx", "cyclonedx"), default="spdx", help="SPDX 2.3 or CycloneDX 1.6, as JSON"
    )
    for name, text in (
        ("push", "publish the image with its inputs, lock, SBOMs and signed provenance to an OCI registry"),
        ("pull", "fetch the image from an OCI registry, by the digests of the lock"),
    ):
        remote = action(name, text)
        remote.add_argument("name", help=_NAME)
        remote.add_argument("repository", help="HOST[:PORT]/PATH; plain HTTP is spoken to loopback only")
        if name == "pull":
            remote.add_argument("--inputs", action="store_true", help="fetch the packages that the image is built from")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Do one action."""
    code: int = importlib.import_module(f"executor.cli.image.{args.action}").execute(args, out)
    return code
