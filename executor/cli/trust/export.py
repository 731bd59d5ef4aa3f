"""`executor trust export`: write what verifiers need, in one of four forms."""

import argparse
import errno
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from executor.cli.printing import say
from executor.errors import HostError, RequestError
from executor.release.signer import own_expectations
from executor.state.home import open_home
from signing.choice import PUBLIC_KEY, TRUST_CONFIG, is_chosen, mode_of
from signing.domain import TRUST_DOCUMENT, TRUSTED_ROOT
from signing.evidence import Expectations
from signing.files import write_whole
from signing.trust import TRUST_SCHEMA

SCHEMA = "executor.trust-export/v1"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_SIGNING_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Write it, and nothing that is secret."""
    home = open_home()
    folder = home.root / "trust"
    if not is_chosen(folder):
        raise RequestError(f"nobody signs on this host yet: {folder}", hint="executor trust init")
    mode = mode_of(folder)
    form = args.form or ("public-key" if mode == "key" else "trust")
    data, as_json = _document(form, mode, folder, own_expectations(home)), getattr(args, "json", False)
    wire = {"schema": SCHEMA, "status": "ok", "exit_code": 0, "form": form}
    if args.out is None:
        out.write(json.dumps(wire | {"document": data}, indent=2) + "\n" if as_json else data)
        return 0
    _write(args.out, data)
    say(sys.stderr, f"written: {args.out}")
    if as_json:
        out.write(json.dumps(wire | {"path": str(args.out)}, indent=2) + "\n")
    return 0


def _write(path: Path, data: str) -> None:
    """Write a document whole: verifiers may be reading the one that lies there."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, which is no document to replace
            path.write_text(data, encoding="utf-8")
        else:
            write_whole(path.resolve(), data.encode(), mode=0o644)
    except OSError as err:
        message = f"cannot write {path}: {err.strerror}"
        raise (HostError(message) if err.errno in _FULL else RequestError(message)) from err


def _document(form: str, mode: str, folder: Path, expect: Expectations) -> str:
    if (form == "public-key") != (mode == "key"):
        raise RequestError(f"trust mode {mode!r} has no {form}", hint="key: --form public-key; others: the other forms")
    if mode == "key":
        return (folder / PUBLIC_KEY).read_text(encoding="utf-8")
    if mode == "keyless":
        return _of_config((folder / TRUST_CONFIG).read_text(encoding="utf-8"), form, expect)
    if form == "trust":
        return (folder / TRUST_DOCUMENT).read_text(encoding="utf-8")
    root = (folder / TRUSTED_ROOT).read_text(encoding="utf-8")
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
