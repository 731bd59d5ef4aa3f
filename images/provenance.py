"""How an image came to be, as the predicate of SLSA provenance v1 (slsa.dev/spec/v1.1/provenance). Pure.

It says what the lock says, in the field's words: anyone who doubts it rebuilds the image instead.
"""

from typing import Any

from images.lock import ImageLock
from images.sbom import purl_of

BUILD_TYPE = "urn:sealed-executor:image:v1"
BUILDER_ID = "urn:sealed-executor:image-builder:v1"


def image_provenance(lock: ImageLock, *, builder_version: str) -> dict[str, Any]:
    """Return the predicate for an image whose manifest is the subject."""
    dependencies: list[dict[str, Any]] = [{"name": "image-lock", "digest": {"sha256": lock.digest}}]
    for item in lock.inputs:
        dependency: dict[str, Any] = {"name": f"{item.kind}/{item.name}", "digest": {"sha256": item.sha256}}
        if purl := purl_of(item):
            dependency["uri"] = purl
        dependencies.append(dependency)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"image": lock.name, "lock_sha256": lock.digest},
            "internalParameters": {"recipe": lock.recipe.to_wire()},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"sealed-executor": builder_version}},
            "byproducts": [{"name": f"layer/{y.name}", "digest": {"sha256": y.sha256}} for y in lock.expect.layers],
        },
    }
