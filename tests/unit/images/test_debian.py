"""The chain from a signature to a package's digest: every link is checked here, whatever apt thinks of it."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.debian import read_index
from images.errors import InputError, SourceError

KEY = "A" * 40
PACKAGES = (
    "Package: libc6\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u1\nArchitecture: amd64\n"
    f"Filename: pool/main/g/glibc/libc6_2.36_amd64.deb\nSize: 7\nSHA256: {'1' * 64}\nDepends: a,\n b\n\n"
    f"Package: tar\nVersion: 1\nArchitecture: all\nFilename: tar.deb\nSize: 8\nSHA256: {'2' * 64}\n\n"
    "Package: unhashed\nVersion: 1\nArchitecture: all\nFilename: u.deb\nSize: 8\n"
)
RELEASE = (
    "Origin: Debian\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:00:00 UTC\n"
    "MD5Sum:\n 0 1 main/binary-amd64/Packages\n"
    f"SHA256:\n {'3' * 64} 5 main/binary-arm64/Packages\n"
    f" {hashlib.sha256(PACKAGES.encode()).hexdigest()} {len(PACKAGES)} main/binary-amd64/Packages\n"
    "Acquire-By-Hash: yes\n"
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_dists_bookworm_InRelease"
    path.write_text("signed")
    (tmp_path / "mirror_dists_bookworm_main_binary-amd64_Packages").write_text(PACKAGES)
    return path


@pytest.fixture
def gpgv(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let gpgv say what a test wants; that it tells good from bad is tried on the real one elsewhere."""

    def says(status: str, text: str = RELEASE) -> None:
        def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[bytes]:
            return subprocess.CompletedProcess(command, 0, text.encode(), status.encode())

        monkeypatch.setattr("images.debian.subprocess.run", run)

    return says


GOOD = f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG B someone\n[GNUPG:] VALIDSIG {'B' * 40} 2026-07-11 0 0 4 0 1 8 01 {KEY}\n"


def test_a_signed_index_is_read(release: Path, gpgv: Callable[..., None]) -> None:
    gpgv(GOOD)
    signed, records = read_index(release, architecture="amd64", signers=[KEY])
    assert (signed.suite, signed.signers, signed.date) == ("bookworm", (KEY,), "Sat, 11 Jul 2026 10:00:00 UTC")
    assert signed.packages_sha256 == hashlib.sha256(PACKAGES.encode()).hexdigest()
    assert signed.release_sha256 == hashlib.sha256(RELEASE.encode()).hexdigest()
    assert [(r.name, r.source, r.version, r.sha256[:1], r.suite) for r in records] == [
        ("libc6", "glibc", "2.36-9+deb12u1", "1", "bookworm"),
        ("tar", "tar", "1", "2", "bookworm"),
    ]
    assert records[0].filename == "libc6_2.36_amd64.deb"


def test_an_index_of_which_a_byte_changed_is_refused(release: Path, gpgv: Callable[..., None]) -> None:
    gpgv(GOOD)
    path = release.with_name("mirror_dists_bookworm_main_binary-amd64_Packages")
    path.write_text(PACKAGES.replace("1" * 64, "9" * 64))
    with pytest.raises(InputError, match="not the one that was signed: bookworm"):
        read_index(release, architecture="amd64", signers=[KEY])


def test_an_index_that_the_release_does_not_name_is_refused(release: Path, gpgv: Callable[..., None]) -> None:
    gpgv(GOOD, RELEASE.replace("main/binary-amd64", "main/binary-mips"))
    with pytest.raises(InputError, match="not the one that was signed"):
        read_index(release, architecture="amd64", signers=[KEY])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("", "no good signature"),
        ("[GNUPG:] ERRSIG B 1 8 00 0 9\n[GNUPG:] NO_PUBKEY B\n", "no good signature"),
        (GOOD + "[GNUPG:] BADSIG B someone\n", "no good signature"),
        (GOOD.replace("GOODSIG", "REVKEYSIG"), "no good signature"),
        (GOOD.replace("GOODSIG", "EXPKEYSIG"), "no good signature"),
        (GOOD.replace("GOODSIG", "EXPSIG"), "no good signature"),
        (GOOD.replace(KEY, "C" * 40) + GOOD.replace("GOODSIG", "REVKEYSIG"), "not signed by a key"),
        (GOOD.replace(KEY, "C" * 40), "not signed by a key"),
        (GOOD.replace("B" * 40, KEY).replace(f"01 {KEY}", "01 " + "C" * 40), "not signed by a key"),
    ],
)
def test_a_signature_that_does_not_count_is_refused(
    release: Path, gpgv: Callable[..., None], status: str, words: str
) -> None:
    gpgv(status)
    with pytest.raises(InputError, match=words):
        read_index(release, architecture="amd64", signers=[KEY])


def test_one_known_signer_among_several_is_enough(release: Path, gpgv: Callable[..., None]) -> None:
    gpgv(GOOD.replace(KEY, "C" * 40) + GOOD)
    assert read_index(release, architecture="amd64", signers=[KEY])[0].signers == (KEY,)


def test_a_missing_index_is_the_machines_fault(release: Path, gpgv: Callable[..., None]) -> None:
    gpgv(GOOD)
    with pytest.raises(SourceError, match="no package index for bookworm main arm64"):
        read_index(release, architecture="arm64", signers=[KEY])


def test_a_machine_without_gpgv_is_told(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_args: Any, **_options: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("images.debian.subprocess.run", run)
    with pytest.raises(SourceError, match="gpgv is not installed"):
        read_index(release, architecture="amd64", signers=[KEY])
