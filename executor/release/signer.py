"""Who signs on this host, and whom it therefore believes itself. `verify` imports it: what signs is imported late."""

from datetime import datetime

from executor.errors import RequestError
from executor.state.home import Home
from signing.choice import PUBLIC_KEY, TRUST_CONFIG, is_chosen, mode_of, read_choice
from signing.domain import TRUST_DOCUMENT
from signing.errors import VerificationError
from signing.evidence import Expectations
from signing.expect import expected_signer
from signing.pem import expect_keys
from signing.signer import Signer
from signing.trust import load_trust_root


def open_host_signer(home: Home, *, now: datetime) -> Signer:
    """Open what signs for a state directory; a local trust domain is made at first use.

    Raises:
        SigningError: It cannot be used.
    """
    from signing.keys import passphrase_from_environment
    from signing.modes import open_signer

    return open_signer(home.trust, now=now, passphrase=passphrase_from_environment())


def own_expectations(home: Home) -> Expectations:
    """Expect whoever signs for a state directory. Makes nothing by looking for it.

    Raises:
        VerificationError: Nobody does yet.
        TrustDomainError: What was chosen cannot be read.
        UnsupportedError: The state directory is not this user's alone.
    """
    folder = home.root / "trust"
    if home.root.exists():
        home.check_owner()
    mode = mode_of(folder)
    if mode == "key":
        return expect_keys([folder / PUBLIC_KEY])
    if mode == "keyless":
        choice = read_choice(folder)
        trust = load_trust_root(folder / TRUST_CONFIG)
        return expected_signer(trust, identity=choice.get("identity"), issuer=choice.get("issuer"))
    if not (folder / TRUST_DOCUMENT).exists():
        raise VerificationError(
            f"this host has no trust domain of its own at {folder}",
            check="TRUST-ROOT",
            hint="`executor trust init` finishes what was begun here"
            if is_chosen(folder)
            else "name whose word counts: --trust-root, --key or --policy",
        )
    return expected_signer(load_trust_root(folder / TRUST_DOCUMENT))


def require_local(home: Home) -> None:
    """Insist on a local trust domain, which alone has a log of its own.

    Raises:
        RequestError: Something else signs on this host, or nobody does yet.
    """
    folder = home.root / "trust"
    if not is_chosen(folder):
        raise RequestError(f"nobody signs on this host yet: {folder}", hint="executor trust init")
    mode = mode_of(folder)
    if mode != "local":
        raise RequestError(
            f"trust mode {mode!r} has no log of its own",
            hint="key: make a new key and list it in place of the old one; keyless: its operators rotate",
        )
