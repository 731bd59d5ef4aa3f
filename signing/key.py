"""Trust mode `key`: one P-256 key, bundles that name it by a hint, no certificate, no log, no services.

What it proves: the holder of this key signed. Not when: nobody vouches for the time, so a stolen key can sign as of any
day, and to retire a key is to stop listing it. cosign verifies such bundles with `--key`.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signing import ecdsa
from signing.bundle import Bundle, ByKey
from signing.encoding import pae
from signing.evidence import Expectations
from signing.keys import load_key
from signing.pem import key_hint
from signing.statement import PAYLOAD_TYPE, Statement


class KeySigner:
    """Signs with a key from a file.

    Args:
        path: The private key, PEM.
        passphrase: What it is encrypted with at rest, or None.
    """

    mode = "key"

    def __init__(self, path: Path, *, passphrase: bytes | None) -> None:
        self._key = load_key(path, passphrase=passphrase)
        self.public_key = self._key.public_key()
        self.hint = key_hint(self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, statements: Sequence[Statement], *, now: datetime) -> list[Bundle]:  # noqa: ARG002
        """Sign statements. `now` is not used: there is no time in such a bundle."""
        bundles = []
        for statement in statements:
            payload = statement.to_bytes()
            signature = ecdsa.sign(self._key, pae(PAYLOAD_TYPE, payload))
            bundles.append(Bundle(signer=ByKey(hint=self.hint), payload=payload, signature=signature))
        return bundles

    def expectations(self) -> Expectations:
        """Return what a verifier insists on that trusts this key and nobody else."""
        return Expectations(keys={self.hint: self.public_key})
