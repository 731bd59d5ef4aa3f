"""Hundreds of changed releases, in every trust mode: none is accepted, each is refused by a check with an id."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from signing.bundle import parse_bundle
from signing.encoding import canonical_json
from signing.errors import VerificationError
from signing.keyless import KeylessSigner, TokenSource
from signing.local import open_or_create
from signing.manifest import STAGES, stage_path
from signing.modes import choose_key, open_signer
from signing.signer import Signer
from signing.value import replaced
from signing.verify import CHECKS, Demands, verify_release
from tests.fakes.services import IDENTITY, ISSUER, identity_token, running_sigstore
from tests.unit.signing.conftest import BUILDER, IMAGE, POLICY, make_release
from tests.unit.signing.forging import payload_of, sign_chain_anew, sign_over

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass(frozen=True)
class Work:
    """Two releases by one signer, and a third by somebody else."""

    mode: str
    signer: Signer
    release: Path
    other: Path
    foreign: Path
    scratch: Path

    def copy(self, name: str) -> Path:
        target = self.scratch / name
        shutil.copytree(self.release, target, symlinks=True)
        return target

    def refused(self, folder: Path) -> VerificationError:
        """The refusal of a changed copy, which is thrown away then."""
        with pytest.raises(VerificationError) as refused:
            verify_release(folder, self.signer.expectations())
        assert refused.value.check in CHECKS
        shutil.rmtree(folder)
        return refused.value


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_sigstore(tmp_path_factory.mktemp("sigstore")) as config:
        yield config


def signers(mode: str, folder: Path, sigstore: Path) -> Signer:
    if mode == "keyless":
        (folder / "token").write_text(identity_token())
        source = TokenSource(file=str(folder / "token"))
        return KeylessSigner(sigstore, token=source, subject=IDENTITY, issuer=ISSUER)
    if mode == "key":
        choose_key(folder / "trust", key=None, passphrase=None)
        return open_signer(folder / "trust", now=NOW, passphrase=None)
    return open_or_create(folder / "trust", now=datetime.now(UTC))


def make_work(mode: str, folder: Path, sigstore: Path) -> Work:
    signer = signers(mode, folder, sigstore)
    stranger, scratch = folder / "stranger", folder / "scratch"
    stranger.mkdir()
    scratch.mkdir()
    foreign = make_release(stranger, open_or_create(stranger / "trust", now=datetime.now(UTC)), "release")
    release, other = make_release(folder, signer, "release"), make_release(folder, signer, "other")
    return Work(mode, signer, release, other, foreign, scratch)


@pytest.fixture(scope="module", params=("local", "keyless", "key"))
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sigstore: Path) -> Work:
    return make_work(request.param, tmp_path_factory.mktemp(request.param), sigstore)


@pytest.fixture(scope="module", params=("local", "key"))
def insider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sigstore: Path) -> Work:
    """Work by a signer that signs anything, as whoever has the keys can; sigstore-python would not."""
    return make_work(request.param, tmp_path_factory.mktemp(f"insider-{request.param}"), sigstore)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 0x01
    path.write_bytes(data)


def to_link(path: Path) -> None:
    outside = Path(tempfile.mkdtemp()) / path.name
    shutil.move(path, outside)
    path.symlink_to(outside)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def add(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


TO_ONE_FILE: dict[str, Callable[[Path], object]] = {
    "drop": lambda p: p.unlink(),
    "rename": lambda p: p.rename(p.with_name("renamed-" + p.name)),
    "empty": lambda p: p.write_bytes(b""),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "add": lambda p: p.write_bytes(p.read_bytes() + b"\n"),
    "flip first": lambda p: flip(p, 0),
    "flip middle": lambda p: flip(p, p.stat().st_size // 2),
    "flip last": lambda p: flip(p, -1),
    "executable": lambda p: p.chmod(0o755),
    "private": lambda p: p.chmod(0o600),
    "writable": lambda p: p.chmod(0o666),
    "setuid": lambda p: p.chmod(0o4644),
    "setgid": lambda p: p.chmod(0o2644),
    "sticky": lambda p: p.chmod(0o1644),
    "link": to_link,
    "pipe": to_pipe,
    "folder": to_folder,
}
TO_THE_WHOLE: dict[str, Callable[[Path], object]] = {
    "git": lambda f: add(f / ".git/hooks/post-checkout", "#!/bin/sh"),
    "github": lambda f: add(f / ".github/workflows/x.yml", ""),
    "empty file": lambda f: (f / "artifacts/__init__.py").touch(),
    "hidden file": lambda f: (f / "artifacts/.hidden").touch(),
    "empty folder": lambda f: (f / "artifacts/new").mkdir(),
    "deep folder": lambda f: (f / "a/b/c").mkdir(parents=True),
    "link to a folder": lambda f: (f / "linked").symlink_to(f / "artifacts"),
    "dangling link": lambda f: (f / "artifacts/dangling").symlink_to("nowhere"),
    "pipe": lambda f: os.mkfifo(f / "pipe"),
    "another bundle": lambda f: shutil.copy(f / stage_path("release"), f / "attestations/second.sigstore.json"),
    "own bundle for a document": lambda f: shutil.copy(f / stage_path("request"), f / "plan.json.sigstore.json"),
    "folder writable by all": lambda f: (f / "artifacts").chmod(0o777),
    "private folder": lambda f: (f / "artifacts").chmod(0o700),
    "setgid folder": lambda f: (f / "artifacts").chmod(0o2755),
    "release writable by all": lambda f: f.chmod(0o777),
    "no artifacts": lambda f: shutil.rmtree(f / "artifacts"),
    "no attestations": lambda f: shutil.rmtree(f / "attestations"),
}


def test_nothing_that_happens_to_a_file_is_accepted(work: Work) -> None:
    verify_release(work.release, work.signer.expectations())
    tried = 0
    for name in names(work.release):
        for what, change in TO_ONE_FILE.items():
            folder = work.copy("changed")
            change(folder / name)
            error = work.refused(folder)
            assert name in f"{error.file} {error.message}" or error.file.startswith("artifacts/sub"), (
                name,
                what,
                error,
            )
            tried += 1
    assert tried >= 220


def test_nothing_that_happens_to_the_directory_is_accepted(work: Work) -> None:
    for change in TO_THE_WHOLE.values():
        folder = work.copy("changed")
        change(folder)
        assert work.refused(folder).check in ("LAYOUT", "MODE")


def test_no_file_of_another_release_is_accepted(work: Work) -> None:
    """Replay: each file alone, of the same signer's other release of the same bytes, and of somebody else's."""
    accepted = []
    for other in (work.other, work.foreign):
        for name in names(work.release):
            if (other / name).read_bytes() == (work.release / name).read_bytes():
                continue
            folder = work.copy("changed")
            shutil.copy(other / name, folder / name)
            error = work.refused(folder)
            accepted.append(error.check)
    assert len(accepted) >= 18
    with pytest.raises(VerificationError) as refused:
        verify_release(work.foreign, work.signer.expectations())
    assert refused.value.check in ("CERTIFICATE", "IDENTITY")


def test_no_two_files_can_change_places(work: Work) -> None:
    files = names(work.release)
    for one, two in pairwise(files):
        folder = work.copy("changed")
        first, second = (folder / one).read_bytes(), (folder / two).read_bytes()
        (folder / one).write_bytes(second)
        (folder / two).write_bytes(first)
        error = work.refused(folder)
        assert one in f"{error.file} {error.message}" or two in f"{error.file} {error.message}"


def test_json_that_reads_as_two_things_is_refused_although_the_signer_signed_it(insider: Work) -> None:
    for stage in STAGES:
        payload = payload_of(insider.release, stage)
        for changed in (
            payload.replace(b'{"_type"', b'{"_type":"x","_type"', 1),
            payload.replace(b'"predicate":{', b'"predicate":{"run_id":"x",', 1),
            payload[:-1] + b',"subject":[]}',
            payload.replace(b":", b": ", 1),
            payload + b" ",
            payload.replace(b'"_type"', b'"\\u005ftype"', 1),
        ):
            folder = insider.copy("changed")
            sign_over(folder, stage_path(stage), changed, insider.signer)
            assert insider.refused(folder).check in ("STATEMENT", "CHAIN"), (stage, changed[:60])
    for path in (*map(stage_path, STAGES), "manifest.json"):
        raw = (insider.release / path).read_bytes()
        for changed in (raw.replace(b"{", b'{"run_id":"x",', 1), raw.replace(b":", b": ", 1), b"\xef\xbb\xbf" + raw):
            folder = insider.copy("changed")
            (folder / path).write_bytes(changed)
            assert insider.refused(folder).check in ("BUNDLE", "STATEMENT", "MANIFEST")


def subject(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}


# What even the true signer cannot make a release of: stage, edit of its statement, check.
FORGED: list[tuple[str, Callable[[dict[str, Any]], object], set[str]]] = [
    *((stage, lambda d: d.update(predicateType="https://slsa.dev/provenance/v0.2"), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d.update(predicateType="urn:sealed-executor:artifact:v1"), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d["subject"].append(subject("x", "0" * 64)), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d["subject"][0]["digest"].update(sha256="0" * 64), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d["subject"][0].update(name="z"), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d["subject"][0]["digest"].update(md5="0" * 32), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d.update(extra=1), {"STATEMENT"}) for stage in STAGES),
    *((stage, lambda d: d.update(predicate={}), {"CHAIN"}) for stage in STAGES),
    *((stage, lambda d: d.update(predicate=[]), {"CHAIN", "STATEMENT"}) for stage in STAGES),
    *(
        (stage, lambda d: d["predicate"].update(run_id="another"), {"CHAIN"})
        for stage in ("request", "sandbox", "decision", "release")
    ),
    ("provenance", lambda d: d["predicate"]["runDetails"]["metadata"].update(invocationId="another"), {"CHAIN"}),
    ("summary", lambda d: d["predicate"].update(resourceUri="urn:sealed-executor:run:another"), {"CHAIN"}),
    *((stage, lambda d: d["predicate"]["parents"].clear(), {"CHAIN"}) for stage in ("sandbox", "decision", "release")),
    *(
        (stage, lambda d: d["predicate"]["parents"][0]["digest"].update(sha256="0" * 64), {"CHAIN"})
        for stage in ("sandbox", "decision", "release")
    ),
    *(
        (stage, lambda d: d["predicate"]["parents"].append(d["predicate"]["parents"][0]), {"CHAIN"})
        for stage in ("sandbox", "decision", "release")
    ),
    *(
        (stage, lambda d: d["predicate"]["parents"][0].update(uri="urn:x"), {"CHAIN"})
        for stage in ("sandbox", "decision", "release")
    ),
    ("request", lambda d: d["predicate"]["parents"].append(_named("sandbox")), {"CHAIN"}),
    ("provenance", lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"].pop(0), {"CHAIN"}),
    ("provenance", lambda d: d["predicate"]["runDetails"]["byproducts"].clear(), {"CHAIN"}),
    ("summary", lambda d: d["predicate"]["inputAttestations"].pop(), {"CHAIN"}),
    ("summary", lambda d: d["predicate"]["inputAttestations"].pop(0), {"CHAIN"}),
    ("summary", lambda d: d["predicate"].update(verificationResult="FAILED"), {"CHAIN"}),
    ("summary", lambda d: d["predicate"]["policy"]["digest"].update(sha256="0" * 64), {"CHAIN"}),
    ("summary", lambda d: d["predicate"]["policy"].update(uri="urn:sealed-executor:profile:lenient"), {"CHAIN"}),
    ("summary", lambda d: d["predicate"].update(verifiedLevels=["SLSA_BUILD_LEVEL_3"]), {"CHAIN"}),
    ("summary", lambda d: d["predicate"]["inputAttestations"][0].update(uri="urn:x"), {"CHAIN"}),
    ("provenance", lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"].insert(0, _image()), {"CHAIN"}),
    ("decision", lambda d: d["predicate"]["decision"].update(allowed=False), {"CHAIN"}),
    ("decision", lambda d: d["predicate"]["decision"]["findings"].append({"rule": "X"}), {"CHAIN"}),
    ("decision", lambda d: d["predicate"]["decision"].update(policy_sha256="0" * 64), {"CHAIN"}),
    ("decision", lambda d: d["predicate"]["decision"].update(plan_sha256="0" * 64), {"CHAIN"}),
    ("decision", lambda d: d["predicate"]["decision"].update(profile="lenient"), {"CHAIN"}),
    ("request", lambda d: d["predicate"]["policy"].update(sha256="0" * 64), {"CHAIN"}),
    ("request", lambda d: d["predicate"]["policy"].update(profile="lenient"), {"CHAIN"}),
    ("request", lambda d: d["predicate"]["image"].update(id="sha256:" + "0" * 64), {"CHAIN"}),
    (
        "provenance",
        lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"][1]["digest"].update(sha256="0" * 64),
        {"CHAIN"},
    ),
    (
        "provenance",
        lambda d: d["predicate"]["buildDefinition"]["externalParameters"]["policy"].update(profile="lenient"),
        {"CHAIN"},
    ),
]


def _image() -> dict[str, Any]:
    return {"name": "image", "digest": {"sha256": "0" * 64}}


def _named(stage: str) -> dict[str, Any]:
    return {"name": f"statement/{stage}", "uri": "urn:sealed-executor:sandbox:v1", "digest": {"sha256": "0" * 64}}


def test_a_chain_that_does_not_hold_is_refused_although_the_signer_signed_it(insider: Work) -> None:
    folder = insider.copy("anew")
    sign_chain_anew(folder, insider.signer, {})
    verify_release(folder, insider.signer.expectations())
    shutil.rmtree(folder)
    for stage, edit, checks in FORGED:
        folder = insider.copy("changed")
        sign_chain_anew(folder, insider.signer, {stage: edit})
        assert insider.refused(folder).check in checks, stage
    assert len(FORGED) >= 90


def test_a_chain_signed_by_two_is_refused(tmp_path: Path, sigstore: Path) -> None:
    """Whoever of several signs under a pattern must sign all of it."""
    work = make_work("keyless", tmp_path, sigstore)
    token = tmp_path / "second-token"
    token.write_text(identity_token(subject=f"{IDENTITY}/second"))
    second = KeylessSigner(sigstore, token=TokenSource(file=str(token)), subject=IDENTITY, issuer=ISSUER)
    folder = work.copy("changed")
    sign_over(folder, stage_path("request"), payload_of(folder, "request"), second)
    expect = replaced(work.signer.expectations(), subject=re.compile(re.escape(IDENTITY) + ".*"))
    verify_release(work.release, expect)
    with pytest.raises(VerificationError) as refused:
        verify_release(folder, expect)
    assert refused.value.check == "CHAIN"


def test_an_unrelated_bundle_says_nothing_about_a_file(insider: Work) -> None:
    own = "attestations/artifacts/a.txt.sigstore.json"
    for changed in (
        {"run_id": "another"},
        {"manifest_sha256": "0" * 64},
        {"size": 1},
        {"role": "model"},
        {"extra": 1},
    ):
        document = json.loads(parse_bundle((insider.release / own).read_bytes()).payload)
        document["predicate"] |= changed
        folder = insider.copy("changed")
        sign_over(folder, own, canonical_json(document), insider.signer)
        assert insider.refused(folder).check == "STATEMENT"


def test_what_a_verifier_demands_must_be_so(work: Work) -> None:
    expect = work.signer.expectations()
    right = Demands(builder_id=BUILDER, image_sha256=IMAGE, policy_sha256=POLICY, profile="standard")
    made = verify_release(work.release, expect, right).made
    assert {"BUILDER", "IMAGE", "POLICY", "PROFILE"} <= set(made)
    for wrong, check in (
        (Demands(builder_id=BUILDER + "x"), "BUILDER"),
        (Demands(builder_id=""), "BUILDER"),
        (Demands(image_sha256="0" * 64), "IMAGE"),
        (Demands(policy_sha256="0" * 64), "POLICY"),
        (Demands(profile="lenient"), "PROFILE"),
    ):
        with pytest.raises(VerificationError) as refused:
            verify_release(work.release, expect, wrong)
        assert refused.value.check == check


def test_modes_can_be_left_to_the_umask_but_nothing_becomes_executable(work: Work) -> None:
    lenient = Demands(exact_modes=False)
    folder = work.copy("changed")
    (folder / "artifacts/a.txt").chmod(0o600)
    (folder / "artifacts").chmod(0o700)
    assert "MODE" in verify_release(folder, work.signer.expectations(), lenient).not_made
    (folder / "artifacts/a.txt").chmod(0o744)
    with pytest.raises(VerificationError) as refused:
        verify_release(folder, work.signer.expectations(), lenient)
    assert refused.value.check == "MODE"
    shutil.rmtree(folder)
