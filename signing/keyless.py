"""Trust mode `keyless`: Sigstore's services, public or private. The one module that talks to them.

A certificate authority (Fulcio) certifies a fresh key for the holder of an identity token, and a log (Rekor) says when
it was used. Which services, and whose word counts, is in a client trust configuration on disk; nothing else is fetched.
sigstore-python does the talking. Its bundles are taken into this project's one form, in which no byte is free.

Entries are of Rekor's first version, with its signed timestamp: bundles of the second need a timestamp authority and
are not read by every client in use.
"""

import importlib.util
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.bundle import Bundle, ByCertificate, read_bundle
from signing.ecdsa import lower
from signing.encoding import parse_json
from signing.errors import SigningError
from signing.evidence import Expectations
from signing.note import parse_checkpoints
from signing.statement import Statement
from signing.trust import load_trust_root, parse_trust_root
from signing.value import replaced

_SECONDS_BASE = 60.0
_SECONDS_EACH = 10.0
_TOKEN_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Where the identity token comes from: exactly one of these, asked for at each signing.

    Attributes:
        variable: An environment variable's name.
        file: A file, such as a projected service account token.
        ambient: The platform that this runs on, such as GitHub Actions, asked by sigstore-python.
    """

    variable: str = ""
    file: str = ""
    ambient: bool = False

    def __post_init__(self) -> None:
        if sum((bool(self.variable), bool(self.file), self.ambient)) != 1:
            raise ValueError("an identity token comes from a variable, from a file, or from the platform")

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {"variable": self.variable, "file": self.file, "ambient": self.ambient}


def check_client_config(data: bytes) -> None:
    """Check that a client trust configuration names whom to trust, and services to sign with.

    Raises:
        ValueError: It does not.
    """
    document = parse_json(data)
    try:
        parse_trust_root(document)
        services = [document["signingConfig"][name] for name in ("caUrls", "rekorTlogUrls")]
    except (KeyError, TypeError, AttributeError, OverflowError) as err:
        raise ValueError(f"it lacks something, or has it in another form: {err}") from err
    if not all(services):
        raise ValueError("it names no authority or no log to sign with")


class KeylessSigner:
    """Signs with certificates for an identity token.

    Args:
        trust_config: Sigstore's client trust configuration (JSON): services to use, and whose word counts.
        token: Where the identity token comes from.
        subject: Whom the certificates will name.
        issuer: The issuer of that identity.
    """

    mode = "keyless"

    def __init__(self, trust_config: Path, *, token: TokenSource, subject: str, issuer: str) -> None:
        self._trust_config = trust_config
        self._token = token
        self._subject = subject
        self._issuer = issuer

    def check_ready(self) -> None:
        """Check what can be known before there is anything to sign: that the software is there, and a token.

        Raises:
            SigningError: One of them is not.
        """
        if importlib.util.find_spec("sigstore") is None:
            raise SigningError(
                "keyless signing needs sigstore-python, which is not installed",
                hint="install sealed-executor[keyless]",
            )
        if not self._token.ambient:  # the platform is asked when a token is needed, which does not live long
            self._read_token()

    def sign(self, statements: Sequence[Statement], *, now: datetime) -> list[Bundle]:  # noqa: ARG002
        """Sign statements under one certificate. `now` is not used: the log's clock counts.

        Raises:
            SigningError: A service cannot be reached, does not answer in time, or refuses.
        """
        self.check_ready()
        token = self._read_token()
        limit = _SECONDS_BASE + _SECONDS_EACH * len(statements)
        return _in_time(lambda: _sign(self._trust_config.read_text(encoding="utf-8"), token, statements), seconds=limit)

    def expectations(self) -> Expectations:
        """Return what a verifier insists on that trusts this identity and nobody else."""
        trust = load_trust_root(self._trust_config)
        return Expectations(trust=trust, subject=self._subject, issuer=self._issuer)

    def _read_token(self) -> str:
        source = self._token
        if source.ambient:
            return _ambient_token()
        if source.variable:
            token = os.environ.get(source.variable, "")
            where = f"variable {source.variable}"
        else:
            where = f"file {source.file}"
            try:
                with Path(source.file).open(encoding="utf-8") as file:
                    token = file.read(_TOKEN_BYTES_MAX)
            except (OSError, UnicodeDecodeError) as err:
                raise SigningError(f"cannot read the identity token: {where}: {err}") from err
        if not token.strip():
            hint = "keyless signing needs an OIDC token for the audience `sigstore`"
            raise SigningError(f"no identity token in {where}", hint=hint)
        return token.strip()


def _ambient_token() -> str:
    from sigstore.errors import Error
    from sigstore.oidc import detect_credential

    try:
        token = detect_credential()
    except Error as err:
        raise SigningError(f"this platform gave no identity token: {err}") from err
    if not token:
        raise SigningError(
            "this platform gives no identity token",
            hint="in GitHub Actions the job needs `permissions: id-token: write`",
        )
    return token


def _sign(trust_config: str, token: str, statements: Sequence[Statement]) -> list[Bundle]:
    import requests
    from sigstore.dsse import Statement as StockStatement
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import ExpiredIdentity, IdentityToken
    from sigstore.sign import SigningContext

    try:
        config = ClientTrustConfig.from_json(trust_config)
        config.force_tlog_version = 1
        context = SigningContext.from_trust_config(config)
        with context.signer(IdentityToken(token)) as signer:
            return [_in_our_form(signer.sign_dsse(StockStatement(s.to_bytes())).to_json()) for s in statements]
    except (Error, ExpiredIdentity, requests.RequestException, ValueError, KeyError, OSError, RuntimeError) as err:
        # sigstore-python has no one base for what its clients raise.
        raise SigningError(
            f"Sigstore's services did not sign: {type(err).__name__}: {err}",
            hint="is the token fresh and meant for `sigstore`, and do the services of the trust configuration answer?",
        ) from err


def _in_our_form(text: str) -> Bundle:
    """Take a bundle over: of each signature the form with the lower s, and of the checkpoint's the log's own."""
    bundle = read_bundle(json.loads(text))
    if not isinstance(bundle.signer, ByCertificate):
        raise ValueError("bundle is not by a certificate")
    entry = bundle.signer.entry
    own = [c for c in parse_checkpoints(entry.checkpoint) if c.key_hint == entry.log_id[:4]]
    if not own:
        raise ValueError("checkpoint is not signed by the log")
    checkpoint = replaced(own[0], signature=lower(own[0].signature))
    entry = replaced(entry, promise=lower(entry.promise), checkpoint=checkpoint.to_text())
    return replaced(bundle, signer=replaced(bundle.signer, entry=entry))


def _in_time(work: Callable[[], list[Bundle]], *, seconds: float) -> list[Bundle]:
    """Do something that may wait for a service forever; sigstore-python's clients know no time-out."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["bundles"] = work()
        except BaseException as err:  # raised where it was asked for
            outcome["error"] = err

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "bundles" not in outcome:
        raise SigningError(f"Sigstore's services did not answer within {seconds:.0f} s")
    bundles: list[Bundle] = outcome["bundles"]
    return bundles


def token_source(document: Mapping[str, Any]) -> TokenSource:
    """Return a token source from its recorded form."""
    return TokenSource(
        variable=str(document["variable"]), file=str(document["file"]), ambient=document["ambient"] is True
    )
