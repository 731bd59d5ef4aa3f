"""`executor trust show`: who signs on this host, under which keys, and how far the log is."""

import argparse
import json
from pathlib import Path
from typing import Any, TextIO

from executor.errors import RequestError
from executor.release.signer import own_expectations, require_local
from executor.state.home import Home, open_home
from executor.text import printable
from signing.choice import is_chosen, mode_of
from signing.encoding import encode_base64, parse_json
from signing.errors import TrustDomainError, VerificationError
from signing.evidence import shown
from signing.files import read_named
from signing.local import LocalTrustDomain, open_existing
from signing.merkle import roots_from_consistency
from signing.note import Checkpoint, parse_checkpoint

SCHEMA = "executor.trust-status/v1"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print it."""
    home = open_home()
    wire = describe(home)
    if args.since is not None:
        require_local(home)
        wire["consistency"] = _consistency(args.since, open_existing(home.root / "trust"))
    write(out, wire, as_json=getattr(args, "json", False))
    return 0


def describe(home: Home) -> dict[str, Any]:
    """Return who signs for a state directory, making nothing.

    Raises:
        RequestError: Nobody does yet.
    """
    folder = home.root / "trust"
    if not is_chosen(folder):
        raise RequestError(f"nobody signs on this host yet: {folder}", hint="executor trust init")
    mode, expect = mode_of(folder), own_expectations(home)
    wire: dict[str, Any] = {"schema": SCHEMA, "status": "ok", "exit_code": 0, "mode": mode}
    if mode == "key":
        return wire | {"keys": sorted(expect.keys)}
    wire |= {"identity": shown(expect.subject), "issuer": shown(expect.issuer)}
    if mode == "local":
        domain = open_existing(folder)
        wire["encrypted"] = domain.encrypted()
        wire["epochs"] = [_epoch(domain, number) for number in range(1, len(domain.epochs()) + 1)]
    return wire


def write(out: TextIO, wire: dict[str, Any], *, as_json: bool) -> None:
    """Print a trust status, for programs or for people."""
    if as_json:
        out.write(json.dumps(wire, indent=2) + "\n")
        return
    lines = [f"{name}: {wire[name]}" for name in ("mode", "identity", "issuer", "encrypted") if name in wire]
    lines += [f"key: {hint}" for hint in wire.get("keys", ())]
    for epoch in wire.get("epochs", ()):
        state = f"closed {epoch['end']}, {epoch['closed_size']} count: {epoch['reason']}" if epoch["end"] else "open"
        lines.append(f"epoch {epoch['number']}: from {epoch['start']}, {epoch['entries']} entries, {state}")
    if "consistency" in wire:
        known = wire["consistency"]
        lines.append(f"consistent: the log of epoch {known['epoch']} has grown from {known['old']} to {known['new']}")
    out.write("\n".join(map(printable, lines)) + "\n")


def _epoch(domain: LocalTrustDomain, number: int) -> dict[str, Any]:
    head = domain.log(number).head()
    checkpoint = domain.log(number).checkpoint()
    known = domain.epochs()[number - 1].to_wire()
    return known | {"entries": head.size, "root": encode_base64(head.root), "checkpoint": checkpoint}


def _consistency(path: Path, domain: LocalTrustDomain) -> dict[str, Any]:
    """Prove that a log has only grown since a checkpoint, and check the proof.

    Raises:
        VerificationError: The log forgot something, or is another.
    """
    try:
        checkpoints = _checkpoints_in(read_named(path))
    except (OSError, ValueError) as err:
        raise RequestError(
            f"no checkpoint: {path}: {err}", hint="keep what `executor trust show --json` prints, or a checkpoint in it"
        ) from err
    *_, last = (_consistency_with(old, domain, path) for old in checkpoints)
    return last


def _checkpoints_in(data: bytes) -> list[Checkpoint]:
    """Parse a checkpoint, or all those of a trust status.

    Raises:
        ValueError: It is neither.
    """
    text = data.decode()
    if not text.startswith("{"):
        return [parse_checkpoint(text)]
    try:
        found = [parse_checkpoint(str(epoch["checkpoint"])) for epoch in parse_json(data)["epochs"]]
    except (KeyError, TypeError) as err:
        raise ValueError(f"a trust status has it in another form: {err}") from err
    if not found:
        raise ValueError("no epoch is listed")
    return found


def _consistency_with(old: Checkpoint, domain: LocalTrustDomain, path: Path) -> dict[str, Any]:
    for epoch in domain.epochs():
        log = domain.log(epoch.number)
        if log.checkpoint().split("\n")[0] == old.origin:
            head = log.head()
            if old.size == 0:  # an empty log is the beginning of any (RFC 6962, section 2.1.2)
                return {"epoch": epoch.number, "old": 0, "new": head.size, "proof": []}
            try:
                proof = log.consistency(old.size)
                roots = roots_from_consistency(proof, old=old.size, old_root=old.root, new=head.size)
            except (ValueError, TrustDomainError) as err:
                raise VerificationError(f"log was rolled back: {err}", check="LOG", file=str(path)) from err
            if roots != (old.root, head.root):
                raise VerificationError("log is not what it was at that checkpoint", check="LOG", file=str(path))
            shown_proof = [encode_base64(node) for node in proof]
            return {"epoch": epoch.number, "old": old.size, "new": head.size, "proof": shown_proof}
    raise VerificationError(f"checkpoint is of another log: {old.origin}", check="LOG", file=str(path))
