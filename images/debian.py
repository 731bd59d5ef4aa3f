"""What Debian's signed indexes say: the chain from a release file's signature to the sha256 of a package.

apt checks that chain too, with whatever keys and exceptions the machine has (`[trusted=yes]` among them). A lock must
not rest on a machine's exceptions, so the chain is checked here once more: `gpgv` verifies `InRelease` against named
keys, the text that it verified names the digest of the package index, and the index names the packages.
"""

import hashlib
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.errors import InputError, SourceError
from images.lock import SignedIndex

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_GPGV_SECONDS = 60
_VERDICTS = ("NEWSIG", "GOODSIG", "BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG")
_FIELD = re.compile(r"^([A-Za-z0-9-]+): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebRecord:
    """What the signed package index says of one package."""

    name: str
    version: str
    arch: str
    filename: str
    size: int
    sha256: str
    source: str
    suite: str


def read_index(release: Path, *, architecture: str, signers: Sequence[str]) -> tuple[SignedIndex, list[DebRecord]]:
    """Check one `InRelease` of apt's list folder and the package index beside it, and read the index.

    Args:
        release: `*_InRelease`; the index is the file beside it that apt names alike.
        architecture: Debian architecture.
        signers: Fingerprints of primary keys, one of which must have signed.

    Raises:
        InputError: The signature is not by one of them, or the index is not the one that was signed.
        SourceError: gpgv or the index is missing.
    """
    text, found = _verified_text(release)
    known = sorted(set(found) & set(signers))
    if not known:
        raise InputError(
            f"release file is not signed by a key that the image's definition names: {_suite(text, release)}",
            hint="the definition's `signers` are fingerprints of primary keys; add a key only after checking it",
        )
    index = release.with_name(release.name.removesuffix("InRelease") + f"main_binary-{architecture}_Packages")
    try:
        data = index.read_bytes()
    except FileNotFoundError as err:
        raise SourceError(f"apt has no package index for {_suite(text, release)} main {architecture}") from err
    digest = hashlib.sha256(data).hexdigest()
    if digest != _index_digest(text, f"main/binary-{architecture}/Packages"):
        raise InputError(f"package index is not the one that was signed: {_suite(text, release)}")
    signed = SignedIndex(
        suite=_suite(text, release),
        date=_field(text, "Date"),
        release_sha256=hashlib.sha256(text.encode()).hexdigest(),
        packages_sha256=digest,
        signers=tuple(known),
    )
    return signed, list(_records(data.decode(), signed.suite))


def _verified_text(release: Path) -> tuple[str, list[str]]:
    """Return the signed text and the primary keys of its good signatures. What is not signed is not in the text."""
    command = ["gpgv", "--status-fd", "2", "--keyring", _KEYRING, "--output", "-", str(release)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GPGV_SECONDS, check=False)
    except FileNotFoundError as err:
        raise SourceError("gpgv is not installed", hint="locking Debian packages needs gpgv and apt") from err
    except subprocess.TimeoutExpired as err:
        raise SourceError(f"gpgv did not end within {_GPGV_SECONDS} s") from err
    status = done.stderr.decode(errors="replace")
    found = _good_signers(status)
    if "[GNUPG:] BADSIG" in status or not found:
        raise InputError(f"release file has no good signature: {release.name.rpartition('_dists_')[2]}")
    return done.stdout.decode(), found


def _good_signers(status: str) -> list[str]:
    """Return the primary keys of good signatures, by GnuPG's status lines (GnuPG doc/DETAILS).

    VALIDSIG ends with the primary key's fingerprint, and follows a signature by an expired or a revoked key too: only
    after GOODSIG does it count. One unknown key among several is no error.
    """
    found, good = [], False
    for line in status.splitlines():
        word, *rest = line.removeprefix("[GNUPG:] ").split()
        if word == "VALIDSIG" and good:
            found.append(rest[-1])
        if word in _VERDICTS:
            good = word == "GOODSIG"
    return found


def _suite(text: str, release: Path) -> str:
    return _field(text, "Codename") or release.name


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _index_digest(text: str, name: str) -> str:
    """Return the digest of an index out of the `SHA256:` section of a release file."""
    section = re.search(r"^SHA256:\n((?: .*\n?)+)", text, re.MULTILINE)
    for line in section.group(1).splitlines() if section else ():
        digest, _size, path = line.split()
        if path == name:
            return digest
    return ""


def _records(packages: str, suite: str) -> Iterator[DebRecord]:
    for stanza in packages.split("\n\n"):
        fields: Mapping[str, str] = dict(_FIELD.findall(stanza))
        if "SHA256" not in fields:
            continue
        yield DebRecord(
            name=fields["Package"],
            version=fields["Version"],
            arch=fields["Architecture"],
            filename=fields["Filename"].rsplit("/", 1)[-1],
            size=int(fields["Size"]),
            sha256=fields["SHA256"],
            source=fields.get("Source", fields["Package"]).split(" ")[0],
            suite=suite,
        )
