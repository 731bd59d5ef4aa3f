"""The local trust domain: certificate authority, certificate log key and transparency log, on disk, no services.

Its bundles and its `trusted_root.json` are in Sigstore's standard forms, so stock Sigstore clients accept them. What it
proves: the holder of this folder's keys vouched for these bytes. What it does not: who that was, or that nobody else
has the keys.

Time is cut into epochs. Each has keys and a log of its own; rotation closes one and opens the next, and destroys the
old keys. What a closed log held is part of the trust document, so that nothing can be added to the past, by whoever has
the old keys. `domain.json` says which epochs there are and is written last; everything else follows from it.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from signing import ecdsa
from signing.authority import ca_certificate, issue, key_id, spki
from signing.bundle import Bundle, ByCertificate, LogEntry, certificate_pem, envelope_sha256, log_body
from signing.domain import DOMAIN_FILE, TRUST_DOCUMENT, identity_of
from signing.encoding import canonical_json, encode_base64, pae
from signing.epochs import (
    Epoch,
    epoch_folder,
    load_ca,
    log_host,
    log_key,
    read_epochs,
    trust_documents,
    trust_is_written,
    write_epochs,
    write_trust,
)
from signing.errors import TrustDomainError, TrustRequestError
from signing.evidence import Expectations
from signing.files import make_folder, staged_files, write_whole
from signing.keys import is_encrypted, load_key, new_key, write_key
from signing.log import CLOCK_HINT, DiskLog, Head
from signing.note import checkpoint_text, signed_note
from signing.statement import PAYLOAD_TYPE, Statement
from signing.trust import load_trust_root

_KEYS = ("ca", "ctlog", "tlog")
_CLOCK_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The open epoch's keys."""

    epoch: int
    ca: x509.Certificate
    private: dict[str, ec.EllipticCurvePrivateKey]


class LocalTrustDomain:
    """An existing trust domain. Make or open one with `open_or_create`.

    Args:
        folder: Where it lies.
        domain_id: Its id.
        passphrase: What its keys are encrypted with at rest, or None.

    Attributes:
        identity: Whom its certificates name, in every epoch.
    """

    mode = "local"

    def __init__(self, folder: Path, domain_id: str, *, passphrase: bytes | None) -> None:
        self.folder = folder
        self.domain_id = domain_id
        self.identity = identity_of(domain_id)
        self._passphrase = passphrase
        self._keys: _Keys | None = None

    def sign(self, statements: Sequence[Statement], *, now: datetime) -> list[Bundle]:
        """Sign statements under one certificate of ten minutes and log them under one checkpoint.

        Raises:
            TrustDomainError: The domain cannot be used.
        """
        with _locked(self.folder, shared=True):
            keys = self._open_keys()
            now = self._within_the_open_epoch(now)
            key = new_key()
            certificate = issue(
                key.public_key(),
                self.identity,
                ca=keys.ca,
                ca_key=keys.private["ca"],
                log_key=keys.private["ctlog"],
                now=now,
            ).public_bytes(Encoding.DER)
            pem = certificate_pem(certificate)
            payloads = [statement.to_bytes() for statement in statements]
            signatures = [ecdsa.sign(key, pae(PAYLOAD_TYPE, payload)) for payload in payloads]
            bodies = [
                log_body(envelope_sha256=envelope_sha256(p, s), payload=p, signature=s, certificate_pem=pem)
                for p, s in zip(payloads, signatures, strict=True)
            ]
            entries = self._append(keys, bodies, now)
        return [
            Bundle(signer=ByCertificate(certificate=certificate, entry=entry), payload=payload, signature=signature)
            for payload, signature, entry in zip(payloads, signatures, entries, strict=True)
        ]

    def check_ready(self, now: datetime) -> None:
        """Hold the clock against the open epoch and its log, before anything is done that will have to be signed.

        Raises:
            TrustDomainError: The clock stands so far back that nothing can be signed, or the domain cannot be used.
        """
        with _locked(self.folder, shared=True):
            self._within_the_open_epoch(now)
            _not_before_the_last(self.log(self.epochs()[-1].number), now)

    def expectations(self) -> Expectations:
        """Return what a verifier insists on that trusts this domain and nobody else."""
        trust = load_trust_root(self.folder / TRUST_DOCUMENT)
        return Expectations(trust=trust, subject=self.identity.subject, issuer=self.identity.issuer)

    def epochs(self) -> tuple[Epoch, ...]:
        """Return all epochs, the open one last."""
        return read_epochs(self.folder)[1]

    def log(self, epoch: int) -> DiskLog:
        """Return the transparency log of an epoch."""
        return DiskLog(epoch_folder(self.folder, epoch) / "log", log_key(self.folder, epoch))

    def encrypted(self) -> bool:
        """Whether the keys are encrypted at rest."""
        return is_encrypted(epoch_folder(self.folder, self.epochs()[-1].number) / "ca.key")

    def encrypt_keys(self) -> None:
        """Have the open epoch's keys encrypted at rest from now on."""
        with _locked(self.folder, shared=False):
            keys = self._open_keys()
            for name, key in keys.private.items():
                write_key(epoch_folder(self.folder, keys.epoch) / f"{name}.key", key, passphrase=self._passphrase)

    def rotate(self, *, now: datetime) -> Epoch:
        """Close the open epoch as it is, and open a new one with keys and a log of its own.

        Everything signed so far stays valid; nothing that the old keys sign from now on is.
        """
        with _locked(self.folder, shared=False):
            log = self.log(self.epochs()[-1].number)
            now = _not_before_the_last(log, now)
            return self._close(closed_size=log.head().size, end=now, reason="rotated", now=now)

    def revoke(self, *, epoch: int, from_index: int, reason: str, now: datetime) -> Epoch:
        """Let an epoch's log count only up to an entry; where it is the open one, close it and open a new one.

        Args:
            epoch: Whose log.
            from_index: The first entry that is not to count any more. Those before it stay valid.
            reason: For the record.
            now: The clock.

        Returns:
            The open epoch.

        Raises:
            TrustRequestError: There is no such epoch, or its log has no such entry that counts.
            TrustDomainError: The domain cannot be used.
        """
        with _locked(self.folder, shared=False):
            found = next((e for e in self.epochs() if e.number == epoch), None)
            if found is None:
                raise TrustRequestError(f"there is no epoch {epoch}", hint="see `executor trust show`")
            log = self.log(epoch)
            size = log.head().size if found.closed_size is None else found.closed_size
            if not 0 <= from_index < size:
                raise TrustRequestError(f"{size} entries of epoch {epoch} count, none with index {from_index}")
            # Clients that know windows alone must reject what is revoked: the window ends with what is not.
            end = datetime.fromtimestamp(log.time_of(from_index - 1), UTC) if from_index else found.start
            if found.end is None:
                # Whatever the clock says of the entries that go: a wrong one may be why they have to.
                return self._close(closed_size=from_index, end=end, reason=reason, now=max(end, _whole_second(now)))
            shorter = replace(found, end=end, closed_size=from_index, reason=reason)
            epochs = tuple(shorter if e.number == epoch else e for e in self.epochs())
            self._commit(epochs)
            return epochs[-1]

    def _close(self, *, closed_size: int, end: datetime, reason: str, now: datetime) -> Epoch:
        _, epochs = read_epochs(self.folder)
        closed = replace(epochs[-1], end=end, closed_size=closed_size, reason=reason)
        fresh = Epoch(number=closed.number + 1, start=_whole_second(now))
        _make_epoch(self.folder, self.domain_id, fresh, passphrase=self._passphrase)
        self._commit((*epochs[:-1], closed, fresh))
        _destroy_keys(epoch_folder(self.folder, closed.number))
        return fresh

    def _commit(self, epochs: tuple[Epoch, ...]) -> None:
        """Write which epochs there are. What follows from them is made before: it may show that a log is damaged."""
        documents = trust_documents(self.folder, self.domain_id, epochs)
        write_epochs(self.folder, self.domain_id, epochs)
        write_trust(self.folder, documents)

    def _within_the_open_epoch(self, now: datetime) -> datetime:
        """Return a time of the open epoch: whoever waited while another closed one took the time before.

        Raises:
            TrustDomainError: The clock stands further back than that.
        """
        start = self.epochs()[-1].start
        if start - now > _CLOCK_SLACK:
            raise TrustDomainError(
                f"the clock stands before the epoch that began {start:%Y-%m-%d %H:%M:%S} UTC",
                hint="set the clock right; an epoch that began while it was ahead signs nothing until then",
            )
        return max(start, now)

    def _open_keys(self) -> _Keys:
        number = self.epochs()[-1].number
        if self._keys is None or self._keys.epoch != number:
            folder = epoch_folder(self.folder, number)
            private = {name: load_key(folder / f"{name}.key", passphrase=self._passphrase) for name in _KEYS}
            self._keys = _Keys(epoch=number, ca=load_ca(folder), private=private)
        return self._keys

    def _append(self, keys: _Keys, bodies: Sequence[bytes], now: datetime) -> list[LogEntry]:
        key, time = keys.private["tlog"], int(now.timestamp())
        log_id = key_id(key.public_key())
        sign_head = _head_signer(key, log_host("tlog", self.domain_id, keys.epoch))
        made = self.log(keys.epoch).append(bodies, time=time, sign_head=sign_head)
        entries = []
        for index, (body, proof) in enumerate(zip(bodies, made.proofs, strict=True), made.first):
            promise = canonical_json(
                {"body": encode_base64(body), "integratedTime": made.time, "logID": log_id.hex(), "logIndex": index}
            )
            entries.append(
                LogEntry(
                    index=index,
                    log_id=log_id,
                    integrated_time=made.time,
                    promise=ecdsa.sign(key, promise),
                    body=body,
                    leaf=index,
                    proof=tuple(proof),
                    root=made.head.root,
                    size=made.head.size,
                    checkpoint=made.checkpoint,
                )
            )
        return entries


def open_or_create(folder: Path, *, now: datetime, passphrase: bytes | None = None) -> LocalTrustDomain:
    """Open the trust domain in a folder, making it at first use.

    Args:
        folder: Where it lies, or shall lie.
        now: The clock.
        passphrase: What keys are encrypted with at rest; a domain that is made without one has them in the clear.

    Raises:
        TrustDomainError: The folder holds something else, or cannot be read.
    """
    try:
        make_folder(folder, mode=0o700, parents=True, exist_ok=True)
        with _locked(folder, shared=False):  # two first runs at once must not make two domains
            if not (folder / DOMAIN_FILE).exists():
                _create(folder, now, passphrase)
            domain_id, epochs = read_epochs(folder)
            domain = LocalTrustDomain(folder, domain_id, passphrase=passphrase)
            domain._open_keys()
            _finish_rotation(folder, domain_id, epochs)
        return domain
    except OSError as err:
        raise _unusable(folder, err) from err


def open_existing(folder: Path) -> LocalTrustDomain:
    """Open a trust domain to look at it: its keys are not needed, and nothing is made.

    Raises:
        TrustDomainError: There is none, or it is damaged.
    """
    domain_id, _ = read_epochs(folder)
    return LocalTrustDomain(folder, domain_id, passphrase=None)


def _create(folder: Path, now: datetime, passphrase: bytes | None) -> None:
    """Write everything, `domain.json` last: without it there is no domain yet, and a next try starts over."""
    domain_id = secrets.token_hex(8)
    epoch = Epoch(number=1, start=_whole_second(now) - _CLOCK_SLACK)
    _make_epoch(folder, domain_id, epoch, passphrase=passphrase)
    write_epochs(folder, domain_id, (epoch,))
    write_trust(folder, trust_documents(folder, domain_id, (epoch,)))


def _make_epoch(folder: Path, domain_id: str, epoch: Epoch, *, passphrase: bytes | None) -> None:
    place = epoch_folder(folder, epoch.number)
    make_folder(place, mode=0o700, parents=True, exist_ok=True)
    keys = {name: new_key() for name in _KEYS}
    for name, key in keys.items():
        write_key(place / f"{name}.key", key, passphrase=passphrase)
        write_whole(place / f"{name}.spki", spki(key.public_key()), mode=0o644)
    ca = ca_certificate(keys["ca"], f"local trust domain {domain_id}, epoch {epoch.number}", start=epoch.start)
    write_whole(place / "ca.pem", ca.public_bytes(Encoding.PEM), mode=0o644)
    sign_head = _head_signer(keys["tlog"], log_host("tlog", domain_id, epoch.number))
    DiskLog(place / "log", keys["tlog"].public_key()).create(sign_head=sign_head)


def _finish_rotation(folder: Path, domain_id: str, epochs: tuple[Epoch, ...]) -> None:
    """Complete what a rotation that died left undone. `domain.json` decides how far it came."""
    for epoch in epochs[:-1]:
        _destroy_keys(epoch_folder(folder, epoch.number))
    if not trust_is_written(folder):
        write_trust(folder, trust_documents(folder, domain_id, epochs))


def _destroy_keys(place: Path) -> None:
    for path in (*(place / f"{name}.key" for name in _KEYS), *staged_files(place)):  # what a writer left that died
        path.unlink(missing_ok=True)


def _head_signer(key: ec.EllipticCurvePrivateKey, origin: str) -> Callable[[Head], str]:
    hint = key_id(key.public_key())[:4]

    def sign_head(head: Head) -> str:
        text = checkpoint_text(origin, head.size, head.root)
        return signed_note(text, origin, hint, ecdsa.sign(key, text.encode()))

    return sign_head


@contextmanager
def _locked(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold the domain's lock.

    Raises:
        TrustDomainError: The file system does not let it be used, now or while it is held.
    """
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as err:
        raise _unusable(folder, err) from err


def _unusable(folder: Path, err: OSError) -> TrustDomainError:
    return TrustDomainError(
        f"cannot use the trust domain: {err.strerror or err}: {folder}",
        hint="the next use of the trust domain finishes what was begun, once it can",
    )


def _not_before_the_last(log: DiskLog, now: datetime) -> datetime:
    """Return when a log may be closed: everything that it has stays valid, of signers as well who were faster.

    Raises:
        TrustDomainError: The clock stands further back than that can be.
    """
    last = log.last_time()
    if last is None:
        return _whole_second(now)
    moment = datetime.fromtimestamp(last, UTC)
    if moment - now > _CLOCK_SLACK:
        raise TrustDomainError(
            f"the clock stands before the log's last entry: {moment:%Y-%m-%d %H:%M:%S} UTC", hint=CLOCK_HINT
        )
    return max(_whole_second(now), moment)


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
