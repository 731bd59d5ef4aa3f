"""The OpenSSF model-signing format (v1.0) over a release's artifacts, for consumers that verify with `model_signing`.

It says less than a release does: neither modes nor empty folders, and its subject's digest is over contents without
names (signing/README.md). So it comes beside the release's own statements, on request, and never in place of them.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from signing.bundle import ByKey
from signing.key import KeySigner
from signing.keys import public_pem
from signing.signer import Signer
from signing.statement import Statement
from signing.value import replaced

OMS_FILE = "model.sig"
PREDICATE_OMS = "https://model_signing/signature/v1.0"


def oms_statement(name: str, digests: Mapping[str, str]) -> Statement:
    """Return the statement over a directory.

    Args:
        name: The directory's name.
        digests: sha256 in hex by path relative to it.
    """
    resources = [{"name": n, "algorithm": "sha256", "digest": digests[n]} for n in sorted(digests)]
    root = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    predicate = {"resources": resources, "serialization": serialization}
    return Statement(subjects={name: root}, predicate_type=PREDICATE_OMS, predicate=predicate)


def sign_oms(signer: Signer, statement: Statement, *, now: datetime) -> bytes:
    """Sign such a statement; return the signature file's bytes.

    Raises:
        SigningError: It could not be signed.
    """
    (bundle,) = signer.sign([statement], now=now)
    if isinstance(signer, KeySigner):  # which it wants named by the digest of the PEM text
        hint = hashlib.sha256(public_pem(signer.public_key)).hexdigest()
        bundle = replaced(bundle, signer=ByKey(hint=hint))
    return bundle.to_bytes()
