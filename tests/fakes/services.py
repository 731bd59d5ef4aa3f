"""A private Sigstore on loopback, and the stock JavaScript client: both from npm, run with Node.js.

`make test` installs them into build/sigstore (.ci/sigstore).
"""

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "build/sigstore"
SCRIPTS = ROOT / "tests/fakes/sigstore"
IDENTITY = "https://jobs.example.org/executor"
ISSUER = "https://issuer.example.org"
_START_SECONDS = 120.0


@contextmanager
def running_sigstore(folder: Path) -> Iterator[Path]:
    """Run the services; give the path of their client trust configuration."""
    config = folder / "client_trust_config.json"
    process = subprocess.Popen(
        [*_node("server.mjs"), str(folder)], stdin=subprocess.PIPE, env={"NODE_PATH": str(INSTALLED / "node_modules")}
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not config.exists():
            assert process.poll() is None, "the services ended; is build/sigstore there? make sigstore"
            assert time.monotonic() < deadline, "the services do not listen"
            time.sleep(0.02)
        yield config
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def identity_token(*, seconds: float = 600, subject: str = IDENTITY, audience: str = "sigstore") -> str:
    """Make an identity token. Nobody checks its signature here, as no client does."""

    def part(value: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = int(time.time())
    claims = {"iss": ISSUER, "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": now + int(seconds)}
    return f"{part({'alg': 'ES256', 'typ': 'JWT'})}.{part(claims)}.c2ln"


def js_verify(
    bundles: Sequence[Path],
    *,
    trusted_root: Mapping[str, Any],
    identity: str = "",
    issuer: str = "",
    keys: Mapping[str, bytes] | None = None,
) -> dict[Path, str]:
    """Verify bundles with @sigstore/verify: "ok", or why not, by path.

    Args:
        bundles: Files.
        trusted_root: Sigstore's trusted root.
        identity: Whom certificates must name, escaped here, for the client takes a pattern.
        issuer: The issuer of that identity.
        keys: DER public keys by hint, to verify with instead.
    """
    request = {
        "trustedRoot": trusted_root,
        "identity": "".join(f"\\{c}" if c in "\\^$.|?*+()[]{}" else c for c in identity),
        "issuer": issuer,
        "keys": {hint: base64.b64encode(der).decode() for hint, der in (keys or {}).items()},
        "bundles": [str(path) for path in bundles],
    }
    done = subprocess.run(
        _node("verify.mjs"),
        input=json.dumps(request).encode(),
        env={"NODE_PATH": str(INSTALLED / "node_modules")},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return {Path(path): said for path, said in json.loads(done.stdout).items()}


def _node(script: str) -> list[str]:
    return [str(INSTALLED / "node-binary"), str(SCRIPTS / script)]
