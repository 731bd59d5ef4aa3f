"""A value of another type anywhere in a bundle, a statement, a manifest or a record is refused, and crashes nothing.

What a true signer signed is changed as well: whoever may sign must not be able to bring a verifier down.
"""

import contextlib
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from executor.release.record import write_record
from signing.bundle import parse_bundle
from signing.chain import reference
from signing.encoding import canonical_json
from signing.errors import VerificationError
from signing.evidence import Expectations
from signing.manifest import RECORD, STAGES, own_bundle_path, stage_path
from signing.modes import choose_key, open_signer
from signing.record import verify_record
from signing.reproduction import Quorum, reproductions_folder
from signing.signer import Signer
from signing.statement import PREDICATE_REPRODUCTION, Statement
from signing.value import replaced
from signing.verify import NO_DEMANDS, verify_artifact, verify_release
from tests.unit.signing.conftest import Signed, make_record, make_release
from tests.unit.signing.forging import payload_of, sign_chain_anew, sign_over

STRANGE: tuple[Any, ...] = (None, True, 0, -1, 1.5, 10**30, "", "x", "\ud800", [], [1], {}, {"x": 1})
STRANGE_NUMBERS = ("1e999", "-1e999", "NaN", "Infinity", "1" * 5000, "0.0", "-0")
EACH = 150  # of the changes to a document; which ones is drawn by a fixed seed


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a JSON document but the document itself."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, value in items:
        yield (*path, step)
        yield from places(value, (*path, step))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def value_at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def changes(document: Any, *, most: int = EACH) -> list[Any]:
    """Draw documents in which one value is another."""
    found = [(path, value) for path in places(document) for value in STRANGE if value_at(document, path) != value]
    drawn = random.Random(6).sample(found, min(most, len(found)))
    return [changed(document, path, value) for path, value in drawn]


@pytest.fixture
def key(tmp_path: Path) -> Signer:
    choose_key(tmp_path / "trust", key=None, passphrase=None)
    return open_signer(tmp_path / "trust", now=datetime.now(UTC), passphrase=None)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_changed_statement_is_refused_though_rightly_signed(tmp_path: Path, key: Signer, stage: str) -> None:
    folder = make_release(tmp_path, key, "release")
    for document in changes(json.loads(payload_of(folder, stage))):
        sign_over(folder, stage_path(stage), canonical_json(document), key)
        assert refuses(folder, key.expectations())  # the next one names it by its digest


@pytest.mark.parametrize("stage", STAGES)
def test_a_value_of_another_type_crashes_nothing_where_all_that_follows_agrees(
    tmp_path: Path, key: Signer, stage: str
) -> None:
    folder = make_release(tmp_path, key, "release")
    for document in changes(json.loads(payload_of(folder, stage)), most=60):

        def edit(statement: dict[str, Any], document: dict[str, Any] = document) -> None:
            statement.clear()
            statement.update(document)

        with contextlib.suppress(KeyError, TypeError, AttributeError):  # of the forger, who cannot go on from there
            sign_chain_anew(folder, key, {stage: edit})
        refuses(folder, key.expectations())


def test_a_value_of_another_type_in_an_artifacts_own_statement_crashes_nothing(tmp_path: Path, key: Signer) -> None:
    folder = make_release(tmp_path, key, "release")
    path = own_bundle_path("artifacts/a.txt")
    original = (folder / path).read_bytes()
    for document in changes(json.loads(parse_bundle(original).payload)):
        sign_over(folder, path, canonical_json(document), key)
        assert refuses(folder, key.expectations())
    (folder / path).write_bytes(original)
    verify_release(folder, key.expectations())


@pytest.mark.parametrize("number", STRANGE_NUMBERS)
def test_a_strange_number_in_a_bundle_is_refused_and_crashes_nothing(signed: Signed, number: str) -> None:
    path = signed.folder / stage_path("release")
    original = path.read_bytes()
    for field in ("logIndex", "integratedTime", "treeSize"):
        for old, new in ((rb'"%s":"\d+"', b'"%s":%s'), (rb'"%s":"\d+"', b'"%s":"%s"')):
            name = field.encode()
            path.write_bytes(re.sub(old % name, new % (name, number.encode()), original))
            with pytest.raises(VerificationError) as refused:
                verify_release(signed.folder, signed.expect)
            assert (refused.value.check, refused.value.file) == ("BUNDLE", stage_path("release"))


def test_a_strange_value_anywhere_in_a_bundle_is_refused_and_crashes_nothing(signed: Signed) -> None:
    path = signed.folder / stage_path("release")
    for document in changes(json.loads(path.read_bytes()), most=400):
        path.write_bytes(canonical_json(document))
        assert refuses(signed.folder, signed.expect)


def test_what_lies_among_the_reproductions_crashes_nothing(tmp_path: Path, key: Signer) -> None:
    folder = make_release(tmp_path, key, "release")
    verified = verify_release(folder, key.expectations())
    claim: dict[str, Any] = {"manifest_sha256": verified.manifest_sha256, "result": "identical"}
    claim["parents"] = [reference("release", verified.statement_sha256)]
    subjects = {f.path: f.sha256 for f in verified.manifest.artifacts}
    good = Statement(subjects=subjects, predicate_type=PREDICATE_REPRODUCTION, predicate=claim)
    place = reproductions_folder(folder)
    place.mkdir()
    demands = replaced(NO_DEMANDS, reproduced=Quorum(threshold=1, among=(key.expectations(),)))
    sign_over(place, "0.sigstore.json", good.to_bytes(), key)
    assert len(verify_release(folder, key.expectations(), demands).reproductions) == 1
    (place / "1.sigstore.json").write_bytes(
        (place / "0.sigstore.json").read_bytes().replace(b'"hint":', b'"hint":1e999,"h":')
    )
    for document in changes(json.loads(good.to_bytes())):
        sign_over(place, "2.sigstore.json", canonical_json(document), key)
        assert len(verify_release(folder, key.expectations(), demands).reproductions) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_a_value_of_another_type_in_a_record_crashes_nothing(tmp_path: Path, key: Signer, allowed: bool) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    record = make_record("run-1", [("a.txt", "1" * 64, 3)], allowed=allowed)
    write_record(folder, record, signer=key, now=datetime.now(UTC))
    assert verify_record(folder, key.expectations()).status == record["status"]
    files = [RECORD, *(p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.sigstore.json")))]
    for name in files:
        original = (folder / name).read_bytes()
        document = json.loads(original if name == RECORD else parse_bundle(original).payload)
        for new in changes(document, most=60):
            if name == RECORD:
                (folder / name).write_bytes(canonical_json(new))
            else:
                sign_over(folder, name, canonical_json(new), key)
            with pytest.raises(VerificationError) as refused:
                verify_record(folder, key.expectations())
            assert refused.value.check
        (folder / name).write_bytes(original)
    verify_record(folder, key.expectations())


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_whatever_is_nested_too_deep_is_refused_at_any_depth(tmp_path: Path, key: Signer) -> None:
    """There are depths that Python reads and cannot write, or cannot compare."""
    folder, log = make_release(tmp_path, key, "release"), tmp_path / "log"
    log.mkdir()
    write_record(log, make_record("run-1", [("a.txt", "1" * 64, 3)]), signer=key, now=datetime.now(UTC))
    own, artifact = stage_path("summary"), folder / "artifacts/a.txt"
    text = payload_of(folder, "summary").decode()
    claim = parse_bundle((log / "record.json.sigstore.json").read_bytes()).payload.decode()
    demands = replaced(NO_DEMANDS, reproduced=Quorum(threshold=1, among=(key.expectations(),)))
    reproductions_folder(folder).mkdir()
    for depth in range(700, 1010):
        deep = text.replace('"slsaVersion":"1.1"', f'"slsaVersion":{nested(depth)}')
        sign_over(folder, own, deep.encode(), key)
        sign_over(reproductions_folder(folder), "1.sigstore.json", deep.encode(), key)
        sign_over(
            log,
            "record.json.sigstore.json",
            claim.replace('"parents":[', f'"x":{nested(depth)},"parents":[').encode(),
            key,
        )
        for verify in (
            lambda: verify_release(folder, key.expectations(), demands),
            lambda: verify_artifact(artifact, folder / own, key.expectations()),
            lambda: verify_record(log, key.expectations()),
        ):
            with pytest.raises(VerificationError) as refused:
                verify()
            assert refused.value.check


def refuses(folder: Path, expect: Expectations) -> bool:
    """Whether a release is refused; anything raised but a refusal that names its check is a crash."""
    try:
        verify_release(folder, expect)
    except VerificationError as err:
        return bool(err.check)
    return False
