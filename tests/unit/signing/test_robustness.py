"""Whatever is wrong with a release, a bundle or a trust root, the answer is a refusal and never a crash."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from signing import ecdsa
from signing.domain import TRUST_DOCUMENT, TRUSTED_ROOT
from signing.errors import VerificationError
from signing.evidence import verify_bundle
from signing.layout import hash_file, read_small
from signing.local import LocalTrustDomain
from signing.trust import load_trust_root, parse_trust_root
from signing.value import replaced
from signing.verify import verify_release
from tests.unit.signing.conftest import Signed, expectations
from tests.unit.signing.test_bundle import by_certificate, sign


def test_every_changed_byte_of_a_certificate_is_refused(domain: LocalTrustDomain) -> None:
    bundle, expect = sign(domain), expectations(domain)
    signer = by_certificate(bundle)
    for position in range(len(signer.certificate)):
        for bit in (1, 128):
            changed = bytearray(signer.certificate)
            changed[position] ^= bit
            with pytest.raises(VerificationError):
                verify_bundle(replaced(bundle, signer=replaced(signer, certificate=bytes(changed))), expect, file="a")


def other_form(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, ecdsa._ORDER - s)


def test_the_other_form_of_a_signature_is_refused(domain: LocalTrustDomain) -> None:
    bundle, expect = sign(domain), expectations(domain)
    signer = by_certificate(bundle)
    promise = other_form(signer.entry.promise)
    for changed in (
        replaced(bundle, signature=other_form(bundle.signature)),
        replaced(bundle, signer=replaced(signer, entry=replaced(signer.entry, promise=promise))),
    ):
        with pytest.raises(VerificationError):
            verify_bundle(changed, expect, file="a")


def test_a_signature_has_one_form() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for number in range(20):
        signature = ecdsa.sign(key, bytes([number]))
        ecdsa.verify_signature(key.public_key(), signature, bytes([number]))
        for wrong in (other_form(signature), signature + b"\0", signature[:-1], b"", b"\x30\x00"):
            with pytest.raises(InvalidSignature):
                ecdsa.verify_signature(key.public_key(), wrong, bytes([number]))


@pytest.mark.parametrize("origin", ["o\ud800", "", "o o", "o\no", "\u2014"])
def test_a_checkpoint_with_a_strange_origin_is_refused(domain: LocalTrustDomain, origin: str) -> None:
    bundle = sign(domain)
    signer = by_certificate(bundle)
    name = signer.entry.checkpoint.split("\n")[0]
    entry = replaced(signer.entry, checkpoint=signer.entry.checkpoint.replace(name, origin))
    with pytest.raises(VerificationError) as refused:
        verify_bundle(replaced(bundle, signer=replaced(signer, entry=entry)), expectations(domain), file="a")
    assert refused.value.check == "LOG"


def deep(signed: Signed) -> None:
    descriptor = os.open(signed.folder, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def sparse(signed: Signed) -> None:
    with (signed.folder / "artifacts/a.txt").open("r+b") as file:
        file.truncate(1 << 40)


def large_bundle(signed: Signed) -> None:
    with (signed.folder / "SHA256SUMS").open("r+b") as file:
        file.truncate(1 << 40)


def shared_folder(signed: Signed) -> None:
    (signed.folder / "artifacts").chmod(0o2755)


def undecodable(signed: Signed) -> None:
    os.close(os.open(os.fsencode(signed.folder) + b"/\xff", os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("change", [deep, sparse, large_bundle, shared_folder, undecodable])
def test_a_release_that_strains_the_file_system_is_refused_at_once(
    signed: Signed, change: Callable[[Signed], None]
) -> None:
    change(signed)
    with pytest.raises(VerificationError):
        verify_release(signed.folder, signed.expect)


def at(document: Any, *path: Any) -> Any:
    for step in path:
        document = document[step]
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda d: at(d, "tlogs", 0, "publicKey").update(validFor=[]),
        lambda d: at(d, "tlogs", 0, "publicKey").update(validFor=None),
        lambda d: at(d, "tlogs", 0, "publicKey", "validFor").update(end=""),
        lambda d: at(d, "tlogs", 0, "publicKey", "validFor").update(end=None),
        lambda d: at(d, "tlogs", 0, "publicKey", "validFor").update(start="2026-01-01"),
        lambda d: at(d, "tlogs", 0, "publicKey", "validFor").update(start="0001-01-01T00:00:00+14:00"),
        lambda d: at(d, "tlogs", 0, "publicKey").update(rawBytes="AAAA"),
        lambda d: at(d, "certificateAuthorities", 0, "certChain").update(certificates=[]),
        lambda d: at(d, "certificateAuthorities", 0, "certChain", "certificates", 0).update(rawBytes="AAAA"),
        lambda d: d.update(ctlogs=7),
        lambda d: d.pop("tlogs"),
    ],
)
def test_a_malformed_trust_root_is_refused(domain: LocalTrustDomain, change: Callable[[Any], None]) -> None:
    path = domain.folder / TRUSTED_ROOT
    load_trust_root(path)
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationError) as refused:
        load_trust_root(path)
    assert refused.value.check == "TRUST-ROOT"


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_text_that_is_no_trust_root_is_refused(domain: LocalTrustDomain, text: str) -> None:
    (domain.folder / TRUSTED_ROOT).write_text(text)
    with pytest.raises(VerificationError):
        load_trust_root(domain.folder / TRUSTED_ROOT)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(more=1), "this version"),
        (lambda d: d.pop("closed_logs"), "this version"),
        (lambda d: d["closed_logs"].append({"log_id": "AAAA", "leaves": ""}), "not among the trusted ones"),
    ],
)
def test_a_malformed_trust_document_is_refused(
    domain: LocalTrustDomain, change: Callable[[Any], None], why: str
) -> None:
    document = json.loads((domain.folder / TRUST_DOCUMENT).read_bytes())
    change(document)
    with pytest.raises(ValueError, match=why):
        parse_trust_root(document)


def test_a_trust_root_that_cannot_be_read_is_refused(domain: LocalTrustDomain) -> None:
    for path, why in ((domain.folder / "absent", "no trust root"), (domain.folder, "cannot read")):
        with pytest.raises(VerificationError, match=why) as refused:
            load_trust_root(path)
        assert refused.value.check == "TRUST-ROOT"


def test_a_listing_has_bounds(signed: Signed) -> None:
    deep(signed)
    with pytest.raises(VerificationError, match="too deep"):
        verify_release(signed.folder, signed.expect)


def test_what_became_something_else_since_it_was_listed_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name, why in (("pipe", "not a plain file"), ("folder", "not a plain file"), ("link", "symbolic link")):
        for read in (lambda n: hash_file(tmp_path, n, size=None), lambda n: read_small(tmp_path, n)):
            with pytest.raises(VerificationError, match=why):
                read(name)
