"""Which of the three trust modes signs on this host: chosen once, kept in the trust folder, opened by every run."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.choice import CHOICE, CHOICE_SCHEMA, PUBLIC_KEY, TRUST_CONFIG, damaged, read_choice
from signing.encoding import canonical_json
from signing.errors import TrustDomainError, TrustRequestError
from signing.files import make_folder, write_whole
from signing.key import KeySigner
from signing.keys import load_key, new_key, public_pem, write_key
from signing.local import open_or_create
from signing.signer import Signer

_PRIVATE_KEY = "signing.key"


def open_signer(folder: Path, *, now: datetime, passphrase: bytes | None) -> Signer:
    """Open what signs on this host. A local trust domain is made at first use.

    Raises:
        SigningError: It cannot be used.
    """
    choice = read_choice(folder)
    if choice["mode"] == "key":
        return KeySigner(folder / _PRIVATE_KEY, passphrase=passphrase)
    if choice["mode"] == "keyless":
        from signing.keyless import KeylessSigner, token_source

        try:
            token = token_source(choice["token"])
            keyless = KeylessSigner(
                folder / TRUST_CONFIG, token=token, subject=choice["identity"], issuer=choice["issuer"]
            )
        except (KeyError, TypeError, ValueError) as err:
            raise damaged(folder, err) from err
        keyless.check_ready()
        return keyless
    local = open_or_create(folder, now=now, passphrase=passphrase)
    local.check_ready(now)
    return local


def choose_local(folder: Path, *, now: datetime, passphrase: bytes | None) -> None:
    """Have the local trust domain sign; it is made where there is none."""
    open_or_create(folder, now=now, passphrase=passphrase)
    with _writing(folder):
        _choose(folder, {"mode": "local"})


def choose_key(folder: Path, *, key: Path | None, passphrase: bytes | None) -> None:
    """Have a key sign.

    Args:
        folder: The trust folder, which gets its own copy.
        key: A private key, PEM; None for the one that is there, or a new one.
        passphrase: What the key is encrypted with, and its copy.

    Raises:
        TrustRequestError: The key cannot be used, or there is another one already.
        TrustDomainError: The folder cannot be written to.
    """
    kept = folder / _PRIVATE_KEY
    if key is None:
        private = load_key(kept, passphrase=passphrase) if kept.exists() else new_key()
    else:
        try:
            private = load_key(key, passphrase=passphrase)
        except TrustDomainError as err:
            raise TrustRequestError(err.message, hint=err.hint) from err
    pem, public = public_pem(private.public_key()), folder / PUBLIC_KEY
    if kept.exists() and (not public.exists() or public.read_bytes() != pem):
        raise TrustRequestError(
            f"there is another key already: {kept}",
            hint=f"move it and {PUBLIC_KEY} away first; verifiers keep what they have of it",
        )
    with _writing(folder):
        write_key(kept, private, passphrase=passphrase)
        write_whole(public, pem, mode=0o644)
        _choose(folder, {"mode": "key"})


def choose_keyless(folder: Path, *, trust_config: bytes, token: dict[str, Any], identity: str, issuer: str) -> None:
    """Have Sigstore's services certify and log.

    Args:
        folder: The trust folder, which gets its own copy of the configuration.
        trust_config: Sigstore's client trust configuration.
        token: Recorded form of the token's source.
        identity: Whom certificates will name.
        issuer: The issuer of that identity.
    """
    with _writing(folder):
        write_whole(folder / TRUST_CONFIG, trust_config, mode=0o644)
        _choose(folder, {"mode": "keyless", "token": token, "identity": identity, "issuer": issuer})


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the trust folder, where there is none.

    Raises:
        TrustDomainError: It cannot be written to.
    """
    try:
        make_folder(folder, mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as err:
        raise TrustDomainError(f"cannot write to the trust folder: {folder}: {err.strerror}") from err


def _choose(folder: Path, choice: dict[str, Any]) -> None:
    write_whole(folder / CHOICE, canonical_json({"schema": CHOICE_SCHEMA, **choice}), mode=0o644)
