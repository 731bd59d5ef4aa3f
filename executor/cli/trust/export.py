"""`executor trust export`: write what verifiers need, in one of four forms."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from executor.errors import RequestError
from executor.home import open_home
from executor.trust import own_expectations
from signing.choice import PUBLIC_KEY, TRUST_CONFIG, mode_of
from signing.domain import TRUST_DOCUMENT, TRUSTED_ROOT
from signing.evidence import Expectations
from signing.trust import TRUST_SCHEMA

_CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_SIGNING_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Write it, and nothing that is secret."""
    home = open_home()
    expect, folder = own_expectations(home), home.root / "trust"
    data = _document(args.form, mode_of(folder), folder, expect)
    if args.out is None:
        out.write(data)
        return 0
    try:
        args.out.write_text(data)
    except OSError as err:
        raise RequestError(f"cannot write {args.out}: {err.strerror}") from err
    print(f"written: {args.out}", file=sys.stderr)
    if getattr(args, "json", False):
        wire = {"schema": "executor.trust-export/v1", "status": "ok", "exit_code": 0}
        out.write(json.dumps(wire | {"form": args.form, "path": str(args.out)}, indent=2) + "\n")
    return 0


def _document(form: str, mode: str, folder: Path, expect: Expectations) -> str:
    if (form == "public-key") != (mode == "key"):
        raise RequestError(f"trust mode {mode!r} has no {form}", hint="key: --form public-key; others: the other forms")
    if mode == "key":
        return (folder / PUBLIC_KEY).read_text()
    if mode == "keyless":
        return _of_config((folder / TRUST_CONFIG).read_text(), form, expect)
    if form == "trust":
        return (folder / TRUST_DOCUMENT).read_text()
    root = (folder / TRUSTED_ROOT).read_text()
    return root if form == "trusted-root" else _pretty(client_config(json.loads(root)))


def _of_config(config: str, form: str, expect: Expectations) -> str:
    if form == "client-trust-config":
        return config
    root = json.loads(config)["trustedRoot"]
    if form == "trusted-root":
        return _pretty(root)
    return _pretty(
        {
            "schema": TRUST_SCHEMA,
            "identity": expect.subject,
            "issuer": expect.issuer,
            "trusted_root": root,
            "closed_logs": [],
        }
    )


def client_config(trusted_root: dict[str, Any]) -> dict[str, Any]:
    """A client trust configuration without services: there are none to reach."""
    signing = {"mediaType": _SIGNING_TYPE, "caUrls": [], "oidcUrls": [], "rekorTlogUrls": [], "tsaUrls": []}
    return {"mediaType": _CONFIG_TYPE, "trustedRoot": trusted_root, "signingConfig": signing}


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
