"""The bill of materials of an image, as SPDX 2.3 and as CycloneDX 1.6. Pure: the lock is all that there is to know.

Equal locks give equal bytes: identifiers are derived from the lock's digest, and the time is the image's epoch.
Digests are those of the packages as they were fetched. Licences are not asserted: packages' own texts are in the image.
"""

import json
import re
import uuid
from typing import Any
from urllib.parse import quote

from images.lock import ROOT, ImageLock, LockedInput
from images.oci import timestamp

SPDX_TYPE = "application/spdx+json"
CYCLONEDX_TYPE = "application/vnd.cyclonedx+json"
_TOOL = "sealed-executor"
_IMAGE = "SPDXRef-image"


def spdx(lock: ImageLock) -> bytes:
    """Return an SPDX 2.3 document (ISO/IEC 5962 as of 2.2.1, with 2.3's package purposes)."""
    image = {
        **_spdx_package(lock.name, _IMAGE, lock.expect.image_id[7:19], purpose="CONTAINER"),
        "checksums": [{"algorithm": "SHA256", "checksumValue": lock.expect.manifest[7:]}],
        "externalRefs": [_spdx_purl(_image_purl(lock))],
    }
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"image {lock.name} {lock.expect.image_id}",
        "documentNamespace": f"urn:uuid:{_uuid(lock, 'spdx')}",
        "creationInfo": {"created": timestamp(lock.recipe.epoch), "creators": [f"Tool: {_TOOL}"]},
        "packages": [image, *(_spdx_input(i) for i in lock.inputs)],
        "relationships": [
            _spdx_relation("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE),
            *(_spdx_relation(_IMAGE, "CONTAINS", _spdx_id(i)) for i in lock.inputs),
            *(
                _spdx_relation(_spdx_id(requirer), "DEPENDS_ON", _spdx_id(required))
                for requirer, required in _requirements(lock)
            ),
        ],
    }
    return _dump(document)


def cyclonedx(lock: ImageLock) -> bytes:
    """Return a CycloneDX 1.6 document (ECMA-424)."""
    image_ref = _image_purl(lock)
    edges: dict[str, list[str]] = {_ref(i): [] for i in lock.inputs}
    for requirer, required in _requirements(lock):
        edges[_ref(requirer)].append(_ref(required))
    edges[image_ref] = [_ref(i) for i in lock.inputs if i.kind == "source" or ROOT in i.why]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_uuid(lock, 'cyclonedx')}",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(lock.recipe.epoch),
            "tools": {"components": [{"type": "application", "name": _TOOL}]},
            "component": {
                "type": "container",
                "bom-ref": image_ref,
                "name": lock.name,
                "version": lock.expect.image_id,
                "purl": image_ref,
            },
        },
        "components": [_cyclonedx_component(i) for i in lock.inputs],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(needs))} for ref, needs in sorted(edges.items())],
    }
    return _dump(document)


def purl_of(item: LockedInput) -> str:
    """Return the package URL of an input (ECMA-427); empty for sources, which are no packages."""
    version = quote(item.version, safe="~.-_:")
    if item.kind == "deb":
        distro = item.suite.partition("-")[0]
        return f"pkg:deb/debian/{quote(item.name, safe='')}@{version}?arch={item.arch}&distro={distro}"
    return f"pkg:pypi/{item.name}@{version}" if item.kind == "wheel" else ""


def _image_purl(lock: ImageLock) -> str:
    return f"pkg:oci/{lock.name}@{lock.expect.manifest}?arch={lock.recipe.architecture}"


def _requirements(lock: ImageLock) -> list[tuple[LockedInput, LockedInput]]:
    """Pairs of a package and one that it requires."""
    by_name = {(i.kind, i.name): i for i in lock.inputs}
    return [(by_name[i.kind, who], i) for i in lock.inputs for who in i.why if (i.kind, who) in by_name]


def _spdx_input(item: LockedInput) -> dict[str, Any]:
    package = _spdx_package(
        item.name, _spdx_id(item), item.version, purpose="FILE" if item.kind == "source" else "LIBRARY"
    )
    package["checksums"] = [{"algorithm": "SHA256", "checksumValue": item.sha256}]
    if item.filename:
        package["packageFileName"] = item.filename
    if item.kind == "deb":
        package["supplier"] = "Organization: Debian"
        package["sourceInfo"] = f"built from Debian source package {item.source}, suite {item.suite}"
    if purl := purl_of(item):
        package["externalRefs"] = [_spdx_purl(purl)]
    return package


def _spdx_package(name: str, identifier: str, version: str, *, purpose: str) -> dict[str, Any]:
    package = {
        "name": name,
        "SPDXID": identifier,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": purpose,
    }
    return package | ({"versionInfo": version} if version else {})


def _spdx_id(item: LockedInput) -> str:
    """SPDX allows letters, digits, dots and dashes; the digest keeps names apart that differ in others."""
    return f"SPDXRef-{item.kind}-{re.sub(r'[^A-Za-z0-9.-]', '-', item.name)}-{item.sha256[:12]}"


def _spdx_purl(purl: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _spdx_relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _cyclonedx_component(item: LockedInput) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "file" if item.kind == "source" else "library",
        "bom-ref": _ref(item),
        "name": item.name,
        "hashes": [{"alg": "SHA-256", "content": item.sha256}],
    }
    if item.version:
        component |= {"version": item.version, "purl": purl_of(item)}
    if item.kind == "deb":
        component["properties"] = [
            {"name": "sealed-executor:source-package", "value": item.source},
            {"name": "sealed-executor:suite", "value": item.suite},
        ]
    return component


def _ref(item: LockedInput) -> str:
    return purl_of(item) or f"source:{item.name}"


def _uuid(lock: ImageLock, form: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sealed-executor:{form}:sha256:{lock.digest}")


def _dump(document: object) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
