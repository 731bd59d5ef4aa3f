"""Names of a local trust domain: its files, and whom its certificates name. Shared by signer and verifier."""

from signing.value import Value

TRUSTED_ROOT = "trusted_root.json"
TRUST_DOCUMENT = "trust.json"
DOMAIN_FILE = "domain.json"


class Identity(Value):
    """Whom a certificate names: the subject's URI, and who vouched for it."""

    subject: str
    issuer: str


def identity_of(domain_id: str) -> Identity:
    """Return whom the certificates of a domain name."""
    issuer = f"urn:sealed-executor:local:{domain_id}"
    return Identity(subject=f"{issuer}:executor", issuer=issuer)
