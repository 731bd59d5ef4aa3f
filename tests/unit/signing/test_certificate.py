"""The reader of certificates, held against `cryptography`'s: it accepts nothing more, and sees the same."""

import contextlib
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from signing import certificate as ours
from signing import der
from signing.authority import ca_certificate, issue, spki
from signing.certificate import SCT, Certificate, parse_certificate
from signing.domain import identity_of
from signing.ecdsa import load_public_key
from signing.value import replaced

NOW = datetime(2026, 11, 24, 12, 30, 15, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
CA_KEY = ec.generate_private_key(ec.SECP384R1())
LOG_KEY = ec.generate_private_key(ec.SECP256R1())
LEAF_KEY = ec.generate_private_key(ec.SECP256R1())
CA = ca_certificate(KEY, "test", start=NOW - timedelta(days=1))


def leaf(moment: datetime = NOW) -> bytes:
    who = identity_of("test")
    made = issue(LEAF_KEY.public_key(), who, ca=CA, ca_key=KEY, log_key=LOG_KEY, now=moment)
    return made.public_bytes(Encoding.DER)


def same(mine: Certificate, stock: x509.Certificate) -> bool:
    """Whether both read the same. Names are left out: here they are bytes, of whatever text."""
    extensions = {e.oid.dotted_string: (e.critical, e.value.public_bytes()) for e in stock.extensions}
    key = stock.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (
        (mine.tbs, mine.signature) == (stock.tbs_certificate_bytes, stock.signature)
        and (mine.not_before, mine.not_after) == (stock.not_valid_before_utc, stock.not_valid_after_utc)
        and mine.spki == key
        and mine.algorithm == stock.signature_algorithm_oid.dotted_string
        and mine.extensions.keys() == extensions.keys()
        and all(mine.extensions[name][0] == extensions[name][0] for name in extensions)
    )


@pytest.mark.parametrize(
    "moment", [NOW, datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)]
)
def test_both_see_the_same_certificate(moment: datetime) -> None:
    data = leaf(moment)
    stock = x509.load_der_x509_certificate(data)
    mine = parse_certificate(data)
    assert same(mine, stock)
    assert (mine.issuer, mine.subject) == (stock.issuer.public_bytes(), stock.subject.public_bytes())
    assert ours._without_sct(mine) == stock.tbs_precertificate_bytes
    authority = parse_certificate(CA.public_bytes(Encoding.DER))
    ours.check_signing_profile(mine)
    ours.check_issued_by(mine, authority)
    ours.check_sct(mine, authority, ours.sct_in(mine), LOG_KEY.public_key())
    assert ours.identity_in(mine) == (identity_of("test").subject, identity_of("test").issuer)


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_read_that_the_stock_parser_does_not_read_so() -> None:
    """20,000 certificates with bytes changed, cut, repeated, inserted and swapped."""
    rng, data = random.Random(6), leaf()
    read = 0
    for _ in range(20_000):
        changed = mutated(data, rng)
        try:
            mine = parse_certificate(changed)
            ours.check_signing_profile(mine)
            ours.identity_in(mine)
            ours.sct_in(mine)
        except ValueError:
            continue
        read += 1
        try:
            stock = x509.load_der_x509_certificate(changed)
            assert same(mine, stock), changed.hex()
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension) as err:
            pytest.fail(f"the stock parser refuses it: {err}: {changed.hex()}")
    assert read > 1000


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(changed))
        what = rng.randrange(6)
        if what < 3:
            changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256), 0, 0x80, 0xFF))
        elif what == 3:
            del changed[at : at + rng.choice((1, 2, 5))]
        elif what == 4:
            changed[at:at] = changed[at : at + rng.choice((1, 3, 12))]
        else:
            changed[at : at + 2] = changed[at : at + 2][::-1]
    return bytes(changed)


def custom(
    *,
    key: ec.EllipticCurvePublicKey | None = None,
    usage: x509.KeyUsage | None = None,
    purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,),
    names: Sequence[x509.GeneralName] = (x509.UniformResourceIdentifier("urn:x"),),
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(CA.subject)
        .public_key(key or LEAF_KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(minutes=10))
        .add_extension(usage or signature_usage(), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(ours.OID_ISSUER_V2), ours.utf8_der("i")), False)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    return parse_certificate(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER))


def signature_usage(**change: bool) -> x509.KeyUsage:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
        False,
    )
    return x509.KeyUsage(
        **{"digital_signature": True, "encipher_only": False, "decipher_only": False, **usage, **change}
    )


def test_the_plain_profile_is_accepted() -> None:
    ours.check_signing_profile(custom())
    ours.check_signing_profile(custom(extra=[(x509.BasicConstraints(ca=False, path_length=None), True)]))
    assert ours.identity_in(custom()) == ("urn:x", "i")
    assert ours.identity_in(custom(names=[x509.RFC822Name("a@example.org")]))[0] == "a@example.org"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"key": CA_KEY.public_key()}, "not on P-256"),
        ({"usage": signature_usage(key_cert_sign=True)}, "signatures alone"),
        ({"usage": signature_usage(digital_signature=False, crl_sign=True)}, "signatures alone"),
        ({"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, "signing code"),
        ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]}, "signing code"),
        ({"purposes": []}, "another kind"),
        ({"extra": [(x509.BasicConstraints(ca=True, path_length=0), True)]}, "authority's"),
        ({"extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]}, "understood"),
        ({"extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)]}, "understood"),
    ],
)
def test_a_certificate_for_anything_else_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ours.check_signing_profile(custom(**change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        [x509.UniformResourceIdentifier("urn:x"), x509.UniformResourceIdentifier("urn:y")],
        [x509.DNSName("example.org")],
        [x509.UniformResourceIdentifier("")],
    ],
)
def test_a_certificate_that_does_not_name_one_identity_is_refused(names: list[x509.GeneralName]) -> None:
    with pytest.raises(ValueError):
        ours.identity_in(custom(names=names))


def test_a_certificate_without_exactly_one_timestamp_is_refused() -> None:
    with pytest.raises(ValueError):
        ours.sct_in(custom())
    whole = parse_certificate(leaf())
    critical, value = whole.extensions[ours.OID_SCT_LIST]
    content = der.read(value, der.OCTET_STRING).content
    for wrong in (
        content[:-1],
        content + b"x",
        content[:2] + content[2:] * 2,
        (len(content[2:]) * 2).to_bytes(2, "big") + content[2:] * 2,
        b"\0\0",
        b"",
        content[:4] + b"\x01" + content[5:],
        content[:37] + b"\xff" * 8 + content[45:],
    ):
        extension = {ours.OID_SCT_LIST: (critical, der.encode(der.OCTET_STRING, wrong))}
        fields = {name: getattr(whole, name) for name in Certificate._fields}  # type: ignore[attr-defined]
        with pytest.raises(ValueError):
            _ = ours.sct_in(Certificate(**fields | {"extensions": whole.extensions | extension})).moment


def test_an_issuer_must_be_an_authority() -> None:
    child, other = parse_certificate(leaf()), ca_certificate(LEAF_KEY, "other", start=NOW)
    for issuer, why in (
        (parse_certificate(other.public_bytes(Encoding.DER)), "another issuer"),
        (child, "another issuer"),
    ):
        with pytest.raises(ValueError, match=why):
            ours.check_issued_by(child, issuer)
    no_authority = (
        x509.CertificateBuilder()
        .subject_name(CA.subject)
        .issuer_name(CA.subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    for builder in (
        no_authority.add_extension(signature_usage(key_cert_sign=True), True),
        no_authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), True).add_extension(
            signature_usage(), True
        ),
        no_authority.add_extension(x509.BasicConstraints(ca=False, path_length=None), True).add_extension(
            signature_usage(key_cert_sign=True), True
        ),
    ):
        raw = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
        with pytest.raises(ValueError, match="not a certificate authority"):
            ours.check_issued_by(child, parse_certificate(raw))
    forged = ca_certificate(LEAF_KEY, "test", start=NOW)
    assert forged.subject == CA.subject
    with pytest.raises(ValueError, match="signature does not hold"):
        ours.check_issued_by(child, parse_certificate(forged.public_bytes(Encoding.DER)))


def test_public_keys_are_of_two_curves_in_one_form() -> None:
    for key in (KEY, CA_KEY):
        assert spki(load_public_key(spki(key.public_key()))) == spki(key.public_key())
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    whole = spki(KEY.public_key())
    head = whole[2:23]
    compressed = der.encode(der.SEQUENCE, head + der.encode(der.BIT_STRING, b"\0" + point))
    off_curve = whole[:-1] + bytes([whole[-1] ^ 1])
    others: list[ec.EllipticCurvePublicKey | rsa.RSAPublicKey] = [
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(),
    ]
    wrong = [k.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for k in others]
    for data in (compressed, off_curve, whole + b"\0", whole[:-1], b"", *wrong):
        with pytest.raises(ValueError):
            load_public_key(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x01",
        b"\x30\x80\x00\x00",
        b"\x30\x81\x01\x00",
        b"\x30\x82\x00\x80" + bytes(128),
        b"\x1f\x81\x00",
        b"\x30\x85\x01\x00\x00\x00\x00",
        b"\x30\x00\x00",
        b"\x30\x03\x02\x01",
    ],
)
def test_der_has_one_form(data: bytes) -> None:
    with pytest.raises(ValueError):
        der.read(data, der.SEQUENCE)


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (der.integer, b"\x02\x01\x00", [b"\x02\x00", b"\x02\x01\x80", b"\x02\x02\x00\x01", b"\x03\x01\x00"]),
        (der.integer, b"\x02\x02\x00\x80", [b"\x02\x01\xff"]),
        (der.boolean, b"\x01\x01\xff", [b"\x01\x01\x01", b"\x01\x00", b"\x01\x02\xff\xff"]),
        (der.bits, b"\x03\x02\x00\x01", [b"\x03\x00", b"\x03\x02\x01\x01", b"\x04\x01\x00"]),
        (
            der.oid,
            b"\x06\x03\x55\x1d\x0f",
            [b"\x06\x00", b"\x06\x02\x80\x01", b"\x06\x01\x81", b"\x06\x03\x55\x80\x0f"],
        ),
        (
            der.time,
            b"\x17\x0d260101000000Z",
            [b"\x17\x0b2601010000Z", b"\x17\x0d261301000000Z", b"\x17\x0d26010100000+Z", b"\x18\x0d260101000000Z"],
        ),
        (der.time, b"\x18\x0f20500101000000Z", [b"\x18\x1120500101000000.5Z", b"\x17\x0f20500101000000Z"]),
    ],
)
def test_values_have_one_form(read: object, good: bytes, bad: list[bytes]) -> None:
    assert callable(read)
    read(der.read(good, good[0]))
    for data in bad:
        with pytest.raises(ValueError):
            read(der.read(data, data[0]))


def test_object_identifiers_read_as_they_are_written() -> None:
    for name in ("0.9.2342", "1.2.840.10045.4.3.2", "2.999.3", "1.39.128", "2.5.29.99"):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(name), b"")
        assert name in custom(extra=[(unknown, False)]).extensions


@pytest.mark.parametrize(("octets", "fits"), [(64, True), (65, False), (1 << 20, False)])
def test_an_identifier_that_takes_long_to_read_is_refused_at_once(octets: int, fits: bool) -> None:
    element = der.read(der.encode(der.OID, b"\x2a" + b"\xff" * (octets - 2) + b"\x01"), der.OID)
    started = time.process_time()
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="malformed"):
        der.oid(element)
    assert time.process_time() - started < 10, "hours are what reading it to its end takes"


@pytest.mark.parametrize(("octets", "why"), [(1 << 14, "DER"), ((1 << 14) + 1, "too large")])
def test_a_certificate_of_more_than_so_many_bytes_is_not_read(octets: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_certificate(b"\x30" * octets)


def sct(milliseconds: int) -> SCT:
    return replaced(ours.sct_in(parse_certificate(leaf())), timestamp_ms=milliseconds)


@pytest.mark.parametrize(
    ("milliseconds", "fits"), [(0, True), (253_402_300_799_000, True), (253_402_300_799_001, False), (2**64 - 1, False)]
)
def test_a_timestamp_is_of_a_calendars_time(milliseconds: int, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="out of range"):
        assert sct(milliseconds).moment.tzinfo is UTC


@pytest.mark.parametrize(("seconds", "why"), [(-66, "outside"), (-65, "hold"), (600, "hold"), (601, "outside")])
def test_a_certificate_was_logged_while_it_was_valid(seconds: int, why: str) -> None:
    """It is valid from five seconds before it was issued, and logs' clocks may be a minute behind."""
    whole, issuer = parse_certificate(leaf()), parse_certificate(CA.public_bytes(Encoding.DER))
    moved = sct(int((NOW + timedelta(seconds=seconds)).timestamp()) * 1000)
    with pytest.raises(ValueError, match=why):
        ours.check_sct(whole, issuer, moved, LOG_KEY.public_key())


def test_a_timestamp_is_by_its_log_and_over_its_certificate() -> None:
    whole, issuer = parse_certificate(leaf()), parse_certificate(CA.public_bytes(Encoding.DER))
    ours.check_sct(whole, issuer, ours.sct_in(whole), LOG_KEY.public_key())
    for issued_by, log_key in ((issuer, KEY.public_key()), (whole, LOG_KEY.public_key())):
        with pytest.raises(ValueError, match="does not hold"):
            ours.check_sct(whole, issued_by, ours.sct_in(whole), log_key)


def test_a_certificate_by_another_algorithm_is_refused() -> None:
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(CA.subject).serial_number(7)
    builder = builder.public_key(LEAF_KEY.public_key()).not_valid_before(NOW).not_valid_after(NOW + timedelta(1))
    signed = builder.add_extension(signature_usage(), critical=True).sign(CA_KEY, hashes.SHA512())
    with pytest.raises(ValueError, match="another algorithm"):
        parse_certificate(signed.public_bytes(Encoding.DER))


@pytest.mark.parametrize(("text", "fits"), [("plain text", True), ("a\nb", False), ("a\x1b[2K", False)])
def test_names_are_plain_text(text: str, fits: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = ca_certificate(key, text, start=NOW).public_bytes(Encoding.DER)
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="plain text"):
        parse_certificate(made)


def test_a_primitive_value_has_no_parts() -> None:
    with pytest.raises(ValueError, match="not constructed"):
        der.read(der.encode(der.OCTET_STRING, der.encode(der.INTEGER, b"\x01")), der.OCTET_STRING).children()
