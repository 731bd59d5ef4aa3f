"""`executor image push NAME REPOSITORY`: publish an image with all that it takes to check and to rebuild it."""

import argparse
from datetime import UTC, datetime
from typing import TextIO

from executor import __version__
from executor.cli.image.remote import open_registry
from executor.cli.image.workshop import image_wire, open_workshop, print_result, say
from executor.release.signer import open_host_signer
from executor.state.home import Home, open_home
from images.lock import ImageLock, read_lock
from images.provenance import image_provenance
from images.publish import LOCK_TYPE, Document, push_image
from images.sbom import CYCLONEDX_TYPE, SPDX_TYPE, cyclonedx, spdx
from signing.bundle import MEDIA_TYPE as BUNDLE_TYPE
from signing.statement import PREDICATE_PROVENANCE, Statement


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Build what is missing, sign the provenance, and publish everything by digest."""
    lock, workshop = read_lock(args.name), open_workshop()
    registry = open_registry(args.repository)
    workshop.build(lock)
    workshop.fetch(lock)
    documents = [
        Document(media_type=LOCK_TYPE, data=lock.raw),
        Document(media_type=SPDX_TYPE, data=spdx(lock)),
        Document(media_type=CYCLONEDX_TYPE, data=cyclonedx(lock)),
        Document(media_type=BUNDLE_TYPE, data=_signed_provenance(lock, open_home())),
    ]
    push_image(registry, lock, workshop.store, documents, say=say)
    reference = f"{args.repository}@{lock.expect.manifest}"
    print_result(out, image_wire(lock.image) | {"reference": reference}, reference, as_json=args.json)
    return 0


def _signed_provenance(lock: ImageLock, home: Home) -> bytes:
    """Return a Sigstore bundle over the image's manifest, by whoever signs on this host."""
    now = datetime.now(UTC)
    statement = Statement(
        subjects={f"image/{lock.name}": lock.expect.manifest[7:]},
        predicate_type=PREDICATE_PROVENANCE,
        predicate=image_provenance(lock, builder_version=__version__),
    )
    (bundle,) = open_host_signer(home, now=now).sign([statement], now=now)
    return bundle.to_bytes()
