"""Verify bundles, offline: who signed, when, and what. Imports `cryptography` and the standard library alone.

A bundle is by a key that the verifier has, or by a certificate (signing.certified). Everything raises or returns;
nothing returns a bool.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature

from signing.bundle import Bundle, ByKey
from signing.ecdsa import PublicKey, verify_signature
from signing.encoding import pae, sha256_hex
from signing.errors import VerificationError
from signing.statement import PAYLOAD_TYPE, Statement, parse_statement
from signing.value import Value

if TYPE_CHECKING:
    from signing.certified import CertificateVerifier
    from signing.trust import TrustRoot

Expected = str | re.Pattern[str]


class Expectations(Value):
    """Who must have signed: a certified identity, or the holder of one of these keys.

    Attributes:
        trust: Whose word counts on certificates; None to accept keys alone.
        subject: The URI or e-mail address that the certificate must name: exact, or a pattern for all of it.
        issuer: The issuer that it must name, in the same way.
        keys: Accepted keys, by the hint that bundles name them by. Where there are any, certificates are not accepted.
    """

    trust: "TrustRoot | None" = None
    subject: Expected = ""
    issuer: Expected = ""
    keys: Mapping[str, PublicKey] = MappingProxyType({})


class Evidence(Value):
    """What a bundle was found to prove.

    Attributes:
        statement: What was signed.
        payload_sha256: Digest of the signed bytes, by which other statements name this one.
        signer: Identity, and its issuer; or a key's hint, and the empty string.
        signed_at: When it was logged; None for a bare key, whose time nobody vouches for.
    """

    statement: Statement
    payload_sha256: str
    signer: tuple[str, str]
    signed_at: datetime | None


class BundleVerifier:
    """Verifies bundles; what several have in common is checked once.

    Args:
        expect: Who must have signed.
    """

    def __init__(self, expect: Expectations) -> None:
        self._expect = expect
        self._certificates: CertificateVerifier | None = None

    @property
    def unknown_closed(self) -> bool:
        """Whether a bundle's entry was of a closed log of which the trust root does not say what it held."""
        return self._certificates is not None and self._certificates.unknown_closed

    def verify(self, bundle: Bundle, *, file: str) -> Evidence:
        """Verify one bundle.

        Args:
            bundle: A parsed bundle.
            file: Name for messages.

        Raises:
            VerificationError: Some check does not hold; it names the check and the file.
        """
        if isinstance(bundle.signer, ByKey):
            signer, signed_at = self._by_key(bundle, bundle.signer, file), None
        else:
            named, logged_at = self._by_certificate(file).verify(bundle, bundle.signer, file=file)
            if not matches(self._expect.subject, named[0]):
                raise _somebody_else(f"signed by {named[0]}, not by {shown(self._expect.subject)}", file)
            if not matches(self._expect.issuer, named[1]):
                raise _somebody_else(f"identity is from {named[1]}, not from {shown(self._expect.issuer)}", file)
            signer, signed_at = named, logged_at
        try:
            statement = parse_statement(bundle.payload)
        except ValueError as err:
            raise VerificationError(f"{err}: {file}", check="STATEMENT", file=file) from err
        return Evidence(
            statement=statement, payload_sha256=sha256_hex(bundle.payload), signer=signer, signed_at=signed_at
        )

    def _by_key(self, bundle: Bundle, signer: ByKey, file: str) -> tuple[str, str]:
        key = self._expect.keys.get(signer.hint)
        if key is None:
            raise _somebody_else("signed by none of the expected keys", file)
        try:
            verify_signature(key, bundle.signature, pae(PAYLOAD_TYPE, bundle.payload))
        except InvalidSignature as err:
            raise VerificationError(f"signature does not hold: {file}", check="SIGNATURE", file=file) from err
        return signer.hint, ""

    def _by_certificate(self, file: str) -> "CertificateVerifier":
        if self._expect.trust is None or self._expect.keys:
            raise _somebody_else("signed by a certificate, not by an expected key", file)
        if self._certificates is None:
            from signing.certified import CertificateVerifier  # whoever expects a key starts without it

            self._certificates = CertificateVerifier(self._expect.trust)
        return self._certificates


def verify_bundle(bundle: Bundle, expect: Expectations, *, file: str) -> Evidence:
    """Verify one bundle: `BundleVerifier.verify` for a single one."""
    return BundleVerifier(expect).verify(bundle, file=file)


def matches(expected: Expected, text: str) -> bool:
    """Whether a text is the expected one, or matches the pattern as a whole. Nothing matches the empty string."""
    if isinstance(expected, str):
        return bool(expected) and expected == text
    return expected.fullmatch(text) is not None


def shown(expected: Expected) -> str:
    """Return what is expected, for messages."""
    return expected if isinstance(expected, str) else f"/{expected.pattern}/"


def _somebody_else(why: str, file: str) -> VerificationError:
    return VerificationError(f"{why}: {file}", check="IDENTITY", file=file)
