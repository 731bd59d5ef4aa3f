"""Provenance: what the lock says, in the field's words."""

from images.lock import load_lock
from images.provenance import BUILD_TYPE, image_provenance
from images.sbom import purl_of


def test_every_input_and_every_layer_is_named_by_digest() -> None:
    lock = load_lock("cpu")
    predicate = image_provenance(lock, builder_version="1.2.3")
    build, run = predicate["buildDefinition"], predicate["runDetails"]
    assert build["buildType"] == BUILD_TYPE
    assert build["externalParameters"] == {"image": "cpu", "lock_sha256": lock.digest}
    digests = {d["digest"]["sha256"] for d in build["resolvedDependencies"]}
    assert digests == {lock.digest} | {i.sha256 for i in lock.inputs}
    assert {d["uri"] for d in build["resolvedDependencies"] if "uri" in d} == {
        purl_of(i) for i in lock.inputs if i.kind != "source"
    }
    assert run["builder"]["version"] == {"sealed-executor": "1.2.3"}
    assert [b["digest"]["sha256"] for b in run["byproducts"]] == [y.sha256 for y in lock.expect.layers]
