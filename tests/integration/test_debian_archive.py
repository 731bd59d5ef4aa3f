"""The real archive, through this machine's own apt: signatures by real keys, and what happens when a byte changes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.apt import IsolatedApt
from images.debian import read_index
from images.definition import load_definition
from images.errors import InputError, SourceError

DEFINITION = load_definition("cpu")
ARCHITECTURE = DEFINITION.recipe.architecture


@pytest.fixture(scope="module")
def apt() -> Iterator[IsolatedApt]:
    with IsolatedApt(architecture=ARCHITECTURE) as found:
        yield found


@pytest.fixture
def release(apt: IsolatedApt, tmp_path: Path) -> Path:
    """A copy of the security suite's release file and index, which a test may change."""
    for path in apt.lists.glob(f"*_dists_{DEFINITION.release}-security_*"):
        shutil.copyfile(path, tmp_path / path.name)
    (found,) = tmp_path.glob("*_InRelease")
    return found


def test_every_index_of_the_release_is_signed_by_a_key_of_the_definition(apt: IsolatedApt) -> None:
    chosen = apt.choose(DEFINITION.roots.debs)
    records, indexes = apt.records(chosen, release=DEFINITION.release, signers=DEFINITION.signers)
    assert {r.name for r in records} == set(chosen)
    assert {i.suite for i in indexes} >= {DEFINITION.release, f"{DEFINITION.release}-security"}
    assert all(set(i.signers) <= set(DEFINITION.signers) for i in indexes)


def test_the_resolver_does_not_see_what_this_machine_has_installed(apt: IsolatedApt) -> None:
    assert "libc6" in apt.choose(["libc6"])


def test_a_changed_release_file_is_refused(release: Path) -> None:
    good, _ = read_index(release, architecture=ARCHITECTURE, signers=DEFINITION.signers)
    assert good.suite == f"{DEFINITION.release}-security"
    text = release.read_text()
    release.write_text(text.replace(good.packages_sha256, "0" * 64))
    with pytest.raises(InputError, match="no good signature"):
        read_index(release, architecture=ARCHITECTURE, signers=DEFINITION.signers)


def test_text_around_the_signed_part_does_not_count(release: Path) -> None:
    """A forged digest in front of the signed text must not be what is read."""
    good, _ = read_index(release, architecture=ARCHITECTURE, signers=DEFINITION.signers)
    forged = f"Codename: forged\nSHA256:\n {'0' * 64} 1 main/binary-{ARCHITECTURE}/Packages\n\n"
    release.write_text(forged + release.read_text())
    try:
        found, _ = read_index(release, architecture=ARCHITECTURE, signers=DEFINITION.signers)
    except InputError:
        return
    assert found == good


def test_a_changed_index_is_refused(release: Path) -> None:
    (index,) = release.parent.glob(f"*_main_binary-{ARCHITECTURE}_Packages")
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(InputError, match="not the one that was signed"):
        read_index(release, architecture=ARCHITECTURE, signers=DEFINITION.signers)


def test_a_good_signature_by_a_key_that_the_definition_does_not_name_is_refused(release: Path) -> None:
    with pytest.raises(InputError, match="not signed by a key that the image's definition names"):
        read_index(release, architecture=ARCHITECTURE, signers=["A" * 40])


def test_a_package_that_no_signed_index_names_is_refused(apt: IsolatedApt) -> None:
    with pytest.raises(InputError, match="no signed index of Debian bookworm names libc6 0-evil"):
        apt.records({"libc6": "0-evil"}, release=DEFINITION.release, signers=DEFINITION.signers)
    with pytest.raises(InputError, match="no signed index of Debian sid names"):
        apt.records({"libc6": "1"}, release="sid", signers=DEFINITION.signers)


def test_a_package_that_apt_does_not_know_is_said(apt: IsolatedApt, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Unable to locate package no-such-package"):
        apt.choose(["no-such-package"])
    with pytest.raises(SourceError, match="apt-get download failed"):
        apt.download([("libc6", "0-evil")], tmp_path)
