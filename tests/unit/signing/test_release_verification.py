"""A release that changed in any way does not verify, and the refusal names the file."""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from signing.bundle import parse_bundle
from signing.encoding import canonical_json, sha256_hex
from signing.errors import VerificationError
from signing.evidence import Expectations, Expected
from signing.expect import under_one_of
from signing.layout import BUNDLE_BYTES_MAX
from signing.local import open_or_create
from signing.manifest import CHECKSUMS, MANIFEST, parse_manifest, stage_path
from signing.modes import choose_key, open_signer
from signing.reproduction import Quorum, reproductions_folder
from signing.trust import Authority, TrustedLog, Window
from signing.value import replaced
from signing.verify import NO_DEMANDS, depth_bounded, read_bundle, verify_artifact, verify_release
from tests.unit.signing.conftest import Signed, make_release
from tests.unit.signing.forging import plant, sign_chain_anew, sign_over


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def refusal(signed: Signed, expect: Expectations | None = None) -> VerificationError:
    with pytest.raises(VerificationError) as refused:
        verify_release(signed.folder, expect or signed.expect)
    return refused.value


def test_an_untouched_release_verifies(signed: Signed) -> None:
    verified = verify_release(signed.folder, signed.expect)
    assert [f.path for f in verified.manifest.files] == [
        "artifacts/a.txt",
        "artifacts/sub/b.txt",
        "decision.json",
        "plan.json",
    ]


def test_one_flipped_bit_in_any_file_is_refused_naming_the_file(signed: Signed) -> None:
    rng = random.Random(1)
    for name in files(signed.folder):
        path = signed.folder / name
        original = path.read_bytes()
        for position in {0, len(original) - 1, *(rng.randrange(len(original)) for _ in range(12))}:
            changed = bytearray(original)
            changed[position] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            error = refusal(signed)
            assert name in error.message or error.file in name, (name, position, error.message)
        path.write_bytes(original)
    verify_release(signed.folder, signed.expect)


def test_one_byte_more_or_less_in_any_file_is_refused_naming_the_file(signed: Signed) -> None:
    for name in files(signed.folder):
        path = signed.folder / name
        original = path.read_bytes()
        for changed in (original[:-1], original + b"\n", b""):
            path.write_bytes(changed)
            error = refusal(signed)
            assert name in error.message, (name, error.message)
        path.write_bytes(original)


def test_a_missing_file_is_refused_naming_it(signed: Signed) -> None:
    for name in files(signed.folder):
        path = signed.folder / name
        original = path.read_bytes()
        path.unlink()
        assert refusal(signed).file == name
        path.write_bytes(original)


@pytest.mark.parametrize("name", ["extra", "artifacts/extra.txt", ".git/config", "artifacts/.hidden", "new/deep/x"])
def test_an_added_file_is_refused_naming_it(signed: Signed, name: str) -> None:
    path = signed.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert refusal(signed).file == name


def test_a_renamed_file_is_refused_naming_it(signed: Signed) -> None:
    for name in files(signed.folder):
        path = signed.folder / name
        renamed = path.with_name("renamed-" + path.name)
        path.rename(renamed)
        assert refusal(signed).file in (name, renamed.relative_to(signed.folder).as_posix())
        renamed.rename(path)


def test_any_two_swapped_files_are_refused_naming_one_of_them(signed: Signed) -> None:
    for one, two in combinations(files(signed.folder), 2):
        first, second = signed.folder / one, signed.folder / two
        a, b = first.read_bytes(), second.read_bytes()
        first.write_bytes(b)
        second.write_bytes(a)
        error = refusal(signed)
        assert one in error.message or two in error.message, (one, two, error.message)
        first.write_bytes(a)
        second.write_bytes(b)


def swap_in_link(path: Path) -> None:
    copy = path.parent.parent.parent / "copy"
    copy.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(copy)


def swap_in_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [swap_in_link, swap_in_pipe, lambda p: p.chmod(0o4755), lambda p: p.chmod(0o2755)])
def test_anything_but_a_plain_file_is_refused(signed: Signed, change: Callable[[Path], None]) -> None:
    change(signed.folder / "artifacts/a.txt")
    assert (refusal(signed).check, refusal(signed).file) == ("LAYOUT", "artifacts/a.txt")


def test_an_added_empty_folder_is_refused(signed: Signed) -> None:
    (signed.folder / "empty").mkdir()
    assert refusal(signed).file == "empty"


def test_a_linked_release_folder_is_refused(signed: Signed, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(signed.folder)
    with pytest.raises(VerificationError, match="symbolic link"):
        verify_release(tmp_path / "link", signed.expect)


def test_a_bundle_of_another_release_of_the_same_bytes_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = make_release(tmp_path, signed.domain, "other")
    name = "attestations/artifacts/a.txt.sigstore.json"
    shutil.copy(other / name, signed.folder / name)
    error = refusal(signed)
    assert (error.check, error.file) == ("STATEMENT", name)


def test_a_provenance_of_another_release_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = make_release(tmp_path, signed.domain, "other")
    name = "attestations/provenance.sigstore.json"
    shutil.copy(other / name, signed.folder / name)
    assert (refusal(signed).check, refusal(signed).file) == ("STATEMENT", name)


def test_a_bundle_of_another_kind_of_statement_is_refused(signed: Signed) -> None:
    shutil.copy(
        signed.folder / "attestations/provenance.sigstore.json", signed.folder / "attestations/release.sigstore.json"
    )
    assert refusal(signed).check == "STATEMENT"


def test_another_trust_domain_is_not_believed(signed: Signed, tmp_path: Path) -> None:
    foreign = open_or_create(tmp_path / "foreign", now=datetime.now(UTC)).expectations()
    assert refusal(signed, foreign).check == "CERTIFICATE"
    assert refusal(signed, replaced(foreign, trust=signed.expect.trust)).check == "IDENTITY"


@pytest.mark.parametrize(("left_out", "stage"), [("plan.json", "request"), ("decision.json", "decision")])
def test_a_release_without_its_plan_or_decision_is_refused_though_rightly_signed(
    signed: Signed, left_out: str, stage: str
) -> None:
    manifest = parse_manifest((signed.folder / MANIFEST).read_bytes())
    manifest = replaced(manifest, files=tuple(f for f in manifest.files if f.path != left_out))
    (signed.folder / left_out).unlink()
    (signed.folder / MANIFEST).write_bytes(manifest.to_bytes())
    (signed.folder / CHECKSUMS).write_bytes(manifest.checksums())

    def leave_out(statement: dict[str, Any]) -> None:
        kept = [s for s in statement["subject"] if s["name"] not in (left_out, MANIFEST)]
        own = {"name": MANIFEST, "digest": {"sha256": sha256_hex(manifest.to_bytes())}}
        statement["subject"] = sorted([*kept, own], key=lambda s: s["name"])

    edits = dict.fromkeys(("provenance", "release", "summary"), leave_out)
    sign_chain_anew(signed.folder, signed.domain, edits)
    refused = refusal(signed)
    assert (refused.check, refused.file) == ("STATEMENT", stage_path(stage))


def test_a_decision_on_other_artifacts_is_refused_though_rightly_signed(signed: Signed) -> None:
    def decide_otherwise(decision: dict[str, Any]) -> None:
        decision["artifacts"]["a.txt"] = "0" * 64

    decision = json.loads((signed.folder / "decision.json").read_bytes())
    decide_otherwise(decision)
    plant(signed.folder, signed.domain, "decision.json", canonical_json(decision))
    sign_chain_anew(signed.folder, signed.domain, {"decision": lambda d: decide_otherwise(d["predicate"]["decision"])})
    refused = refusal(signed)
    assert (refused.check, "other artifacts" in refused.message) == ("CHAIN", True)


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_bundle_of_more_than_so_many_bytes_is_not_read(tmp_path: Path, more: int, fits: bool) -> None:
    (tmp_path / "large").write_bytes(b"x" * (BUNDLE_BYTES_MAX + more))
    with pytest.raises(VerificationError) as refused:
        read_bundle(tmp_path, "large")
    assert refused.value.check == ("BUNDLE" if fits else "LAYOUT")


@pytest.mark.parametrize("mode", [0o2755, 0o1777, 0o2775, 0o700])
def test_folders_may_have_any_mode_where_only_executables_are_refused(signed: Signed, mode: int) -> None:
    lax = replaced(NO_DEMANDS, exact_modes=False)
    for folder in (signed.folder, signed.folder / "artifacts"):
        folder.chmod(mode)
    assert refusal(signed).check == "MODE"
    assert "MODE" in verify_release(signed.folder, signed.expect, lax).not_made
    for wrong in (0o755, 0o4644, 0o2644):
        (signed.folder / "plan.json").chmod(wrong)
        with pytest.raises(VerificationError) as refused:
            verify_release(signed.folder, signed.expect, lax)
        assert (refused.value.check, refused.value.file) == ("MODE" if wrong == 0o755 else "LAYOUT", "plan.json")


def test_an_artifact_is_verified_under_its_name(signed: Signed) -> None:
    one, two = (signed.folder / f"artifacts/{name}" for name in ("a.txt", "sub/b.txt"))
    release = signed.folder / stage_path("release")
    evidence, names = verify_artifact(one, release, signed.expect)
    assert (names, evidence.statement.predicate["run_id"]) == (("artifacts/a.txt",), "release")
    assert verify_artifact(one, release, signed.expect, name="artifacts/a.txt")[1] == ("artifacts/a.txt",)
    one_bytes, two_bytes = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_bytes)
    two.write_bytes(one_bytes)
    assert verify_artifact(one, release, signed.expect)[1] == ("artifacts/sub/b.txt",)
    for name in ("artifacts/a.txt", "artifacts/c.txt", ""):
        with pytest.raises(VerificationError) as refused:
            verify_artifact(one, release, signed.expect, name=name)
        assert refused.value.check == "STATEMENT"
    with pytest.raises(VerificationError):
        verify_artifact(signed.folder / "plan.json", release, signed.expect)


def test_of_several_signers_the_one_under_whom_most_holds_says_why(signed: Signed, tmp_path: Path) -> None:
    choose_key(tmp_path / "key", key=None, passphrase=None)
    key = open_signer(tmp_path / "key", now=datetime.now(UTC), passphrase=None).expectations()
    strange = open_or_create(tmp_path / "strange", now=datetime.now(UTC)).expectations()
    other = replaced(signed.expect, subject="urn:other")
    (signed.folder / "plan.json").write_bytes(b"{}")
    revoked = VerificationError("is revoked", check="REVOKED")

    def check_of(*signers: Expectations) -> tuple[str, str]:
        def verify(signer: Expectations) -> None:
            if signer is signed.expect:
                raise revoked
            verify_release(signed.folder, signer)

        with pytest.raises(VerificationError) as refused:
            under_one_of(signers, verify)
        return refused.value.check, refused.value.message

    for order in itertools.permutations((key, strange, signed.expect)):
        assert check_of(*order) == ("REVOKED", "is revoked")
    check, message = check_of(key, strange, other)
    assert check == "CERTIFICATE"
    for why in ("not by an expected key", "no trusted authority", f"signed by {signed.expect.subject}"):
        assert why in message


@pytest.mark.parametrize(
    ("threshold", "subjects", "possible"),
    [
        (1, ["a"], True),
        (2, ["a"], False),
        (2, ["a", "b"], True),
        (3, ["a", "b"], False),
        (9, [re.compile("a.*")], True),
    ],
)
def test_a_quorum_that_nobody_can_make_is_refused(threshold: int, subjects: list[Expected], possible: bool) -> None:
    among = tuple(Expectations(subject=subject, issuer="i") for subject in subjects)
    with contextlib.nullcontext() if possible else pytest.raises(ValueError, match="at most"):
        Quorum(threshold=threshold, among=among)


@pytest.mark.parametrize("field", ["subject", "issuer"])
def test_an_identity_that_only_begins_or_ends_alike_is_refused(signed: Signed, field: str) -> None:
    value = getattr(signed.expect, field)
    for near in (value + "x", "x" + value, value[:-1], value.upper(), ".*", ""):
        assert refusal(signed, replaced(signed.expect, **{field: near})).check == "IDENTITY"


def closed(window: Window) -> Window:
    return Window(start=window.start - timedelta(days=2), end=window.start - timedelta(days=1))


def test_a_retired_key_is_refused_for_what_was_signed_after(signed: Signed) -> None:
    trust = signed.expect.trust
    assert trust is not None
    logs = {k: TrustedLog(key=v.key, window=closed(v.window)) for k, v in trust.logs.items()}
    ct_logs = {k: TrustedLog(key=v.key, window=closed(v.window)) for k, v in trust.certificate_logs.items()}
    authorities = tuple(Authority(chain=a.chain, window=closed(a.window)) for a in trust.authorities)
    for change, check in (
        ({"logs": logs}, "LOG"),
        ({"logs": {}}, "LOG"),
        ({"certificate_logs": ct_logs}, "CERTIFICATE"),
        ({"certificate_logs": {}}, "CERTIFICATE"),
        ({"authorities": authorities}, "CERTIFICATE"),
        ({"authorities": ()}, "CERTIFICATE"),
    ):
        assert refusal(signed, replaced(signed.expect, trust=replaced(trust, **change))).check == check


@pytest.mark.parametrize("is_file", [True, False])
def test_what_cannot_be_listed_is_refused(tmp_path: Path, signed: Signed, is_file: bool) -> None:
    if is_file:
        (tmp_path / "place").write_bytes(b"")
    with pytest.raises(VerificationError, match="cannot list") as refused:
        verify_release(tmp_path / "place", signed.expect)
    assert refused.value.check == "LAYOUT"


@pytest.mark.parametrize("change", [{"threshold": 0}, {"threshold": -1}, {"among": ()}, {"accept": ("different",)}])
def test_a_quorum_of_nobody_or_for_what_is_no_good_is_refused(signed: Signed, change: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"threshold": 1, "among": (signed.expect,)} | change
    with pytest.raises(ValueError, match="at least one"):
        Quorum(**wanted)


def test_an_artifact_is_verified_by_a_statement_about_artifacts_alone(signed: Signed) -> None:
    """Others name its digest as well: that it was sent, that it was looked at, what it came from."""
    for stage in ("request", "sandbox", "decision", "provenance", "summary"):
        with pytest.raises(VerificationError, match="not about an artifact"):
            verify_artifact(signed.folder / "artifacts/a.txt", signed.folder / stage_path(stage), signed.expect)


def test_a_release_without_its_manifest_says_so(signed: Signed) -> None:
    (signed.folder / MANIFEST).unlink()
    assert refusal(signed).message == f"file is missing: {MANIFEST}"


def test_another_statement_about_the_manifest_does_not_make_it_a_release(signed: Signed) -> None:
    payload = parse_bundle((signed.folder / stage_path("provenance")).read_bytes()).payload
    sign_over(signed.folder, stage_path("release"), payload, signed.domain)
    refused = refusal(signed)
    assert (refused.check, "another kind" in refused.message) == ("STATEMENT", True)


def test_a_malformed_manifest_is_refused_though_rightly_signed(signed: Signed) -> None:
    data = json.dumps(json.loads((signed.folder / MANIFEST).read_bytes()), indent=1).encode()
    (signed.folder / MANIFEST).write_bytes(data)

    def name_it(statement: dict[str, Any]) -> None:
        for subject in statement["subject"]:
            if subject["name"] == MANIFEST:
                subject["digest"]["sha256"] = sha256_hex(data)

    sign_chain_anew(signed.folder, signed.domain, dict.fromkeys(("provenance", "release", "summary"), name_it))
    assert (refusal(signed).check, refusal(signed).file) == ("MANIFEST", MANIFEST)


def test_a_log_entry_of_another_kind_is_refused_as_such(signed: Signed) -> None:
    path = signed.folder / stage_path("release")
    path.write_bytes(path.read_bytes().replace(b'"kind":"dsse"', b'"kind":"hashedrekord"', 1))
    refused = refusal(signed)
    assert (refused.check, "log entry is of another kind" in refused.message) == ("BUNDLE", True)


@pytest.mark.parametrize(("count", "fits"), [(1000, True), (1001, False)])
def test_so_many_reproductions_are_looked_at(signed: Signed, count: int, fits: bool) -> None:
    folder = reproductions_folder(signed.folder)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.sigstore.json").touch()
    demands = replaced(NO_DEMANDS, reproduced=Quorum(threshold=1, among=(signed.expect,)))
    with pytest.raises(VerificationError, match="1 are wanted" if fits else "more than 1000") as refused:
        verify_release(signed.folder, signed.expect, demands)
    assert refused.value.check == "REPRODUCED"


def test_what_python_cannot_recurse_into_is_refused() -> None:
    with pytest.raises(VerificationError, match="nested too deep") as refused, depth_bounded():
        raise RecursionError
    assert refused.value.check == "BUNDLE"
