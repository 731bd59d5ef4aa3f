"""A real registry, Debian's docker-registry on loopback: publishing, finding, and rebuilding when mirrors forgot."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

from executor.sandbox.docker import DockerEngine
from executor.state.home import Home
from images.build import build_layers
from images.inputs import blob_of
from images.lock import ImageLock, load_lock
from images.publish import INPUTS_TYPE, LOCK_TYPE
from images.registry import Registry, parse_repository
from images.sbom import CYCLONEDX_TYPE, SPDX_TYPE, cyclonedx, spdx
from images.store import BlobStore
from signing.bundle import MEDIA_TYPE as BUNDLE_TYPE
from signing.domain import TRUSTED_ROOT
from signing.local import open_or_create
from tests.fakes.clock import until
from tests.integration.conftest import Host, raw_engine
from tests.integration.workshop import ROOT, call, copy_inputs, copy_layers
from tests.unit.images.packages import SmallImage, silence

PROGRAM = ROOT / "build/registry/usr/bin/docker-registry"


@dataclass
class Running:
    """A running registry: where it listens and where it keeps its data."""

    host: str
    data: Path

    def repository(self, path: str) -> Registry:
        return Registry(parse_repository(f"{self.host}/{path}"))

    def file_of(self, sha256: str) -> Path:
        return self.data / f"docker/registry/v2/blobs/sha256/{sha256[:2]}/{sha256}/data"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Start docker-registry on a free port of loopback, and stop that very process after."""
    assert PROGRAM.exists(), "make test fetches docker-registry: .ci/registry build/registry"
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{host}'}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
    )
    with subprocess.Popen([PROGRAM, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(host)
            yield Running(host, folder / "data")
        finally:
            process.terminate()
            process.wait(60)
    shutil.rmtree(folder)


def _wait_for(host: str) -> None:
    name, port = host.split(":")

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((name, int(port))) == 0

    until(listens)


@dataclass
class Small:
    """A small image whose lock file a test can name, with everything in the state directory."""

    path: str
    lock: ImageLock
    store: BlobStore
    home: Home


@pytest.fixture
def small(tmp_path: Path, home: Path) -> Small:
    image = SmallImage(home / "cas")
    lock = image.lock()
    build_layers(lock, image.builder(), image.store, say=silence)
    path = tmp_path / "small.lock.json"
    path.write_bytes(lock.raw)
    return Small(str(path), lock, image.store, Home(home))


def referrers_of(repository: Registry, lock: ImageLock) -> dict[str, bytes]:
    """Return what refers to an image, by artifact type: its only blob, or its manifest where it has more."""
    found = {}
    for descriptor in repository.referrers(lock.expect.manifest):
        manifest = repository.get_manifest(descriptor["digest"])
        assert manifest is not None
        document = json.loads(manifest)
        assert descriptor["artifactType"] == document["artifactType"]
        assert document["subject"]["digest"] == lock.expect.manifest
        blobs = document["layers"]
        data = b"".join(repository.get_blob(blobs[0]["digest"][7:])) if len(blobs) == 1 else manifest
        found[document["artifactType"]] = data
    return found


def test_an_image_is_published_with_all_that_it_takes_to_check_it(host: Host, registry: Running, small: Small) -> None:
    done = host.call("image", "push", small.path, f"{registry.host}/team/small")
    assert (done.code, done.stdout) == (0, f"{registry.host}/team/small@{small.lock.expect.manifest}\n"), done.stderr
    repository = registry.repository("team/small")
    assert repository.get_manifest(small.lock.expect.manifest) == small.lock.image.manifest
    found = referrers_of(repository, small.lock)
    assert set(found) == {INPUTS_TYPE, LOCK_TYPE, SPDX_TYPE, CYCLONEDX_TYPE, BUNDLE_TYPE}
    assert found[LOCK_TYPE] == small.lock.raw
    assert (found[SPDX_TYPE], found[CYCLONEDX_TYPE]) == (spdx(small.lock), cyclonedx(small.lock))
    domain = open_or_create(small.home.trust, now=datetime.now(UTC))
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(small.home.trust / TRUSTED_ROOT)))
    identity = policy.Identity(identity=domain.identity.subject, issuer=domain.identity.issuer)
    _, payload = verifier.verify_dsse(Bundle.from_json(found[BUNDLE_TYPE]), identity)
    statement = json.loads(payload)
    assert statement["subject"][0]["digest"]["sha256"] == small.lock.expect.manifest[7:]
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"


def test_the_engine_pulls_what_was_pushed_under_the_locked_digests(host: Host, registry: Running, small: Small) -> None:
    """`docker push` would have made another manifest of it."""
    assert host.call("image", "push", small.path, f"{registry.host}/team/pulled").code == 0
    engine = DockerEngine()
    raw_engine().pull(f"{registry.host}/team/pulled@{small.lock.expect.manifest}")
    try:
        facts = engine.image(small.lock.expect.image_id)
        assert facts is not None
        assert facts.image_id == small.lock.expect.image_id
    finally:
        raw_engine().remove_image(small.lock.expect.image_id, force=True)


def test_an_image_is_pulled_as_layers_and_loaded(host: Host, registry: Running, small: Small) -> None:
    repository = f"{registry.host}/team/layers"
    assert host.call("image", "push", small.path, repository).code == 0
    shutil.rmtree(small.home.root / "cas")
    done = host.call("image", "pull", small.path, repository, "--json")
    assert (done.code, done.json["blobs_fetched"]) == (0, 4), done.stderr
    again = host.call("image", "pull", small.path, repository, "--json")
    assert again.json["blobs_fetched"] == 0
    engine = DockerEngine()
    try:
        assert host.call("image", "load", small.path).stdout == f"{small.lock.expect.image_id}\n"
        assert engine.image(small.lock.expect.image_id) is not None
    finally:
        raw_engine().remove_image(small.lock.expect.image_id, force=True)


def test_a_registry_that_lost_or_altered_a_blob_is_found_out(host: Host, registry: Running, small: Small) -> None:
    repository = f"{registry.host}/team/altered"
    assert host.call("image", "push", small.path, repository).code == 0
    item = small.lock.inputs[1]
    data = registry.file_of(item.sha256)
    for content, words, code in ((b"evil" * 9, "is not what the lock names", 22), (None, "answered", 30)):
        shutil.rmtree(small.home.root / "cas", ignore_errors=True)
        if content is None:
            data.unlink()
        else:
            data.write_bytes(content)
        done = host.call("image", "pull", small.path, repository, "--inputs")
        assert done.code == code, done.stderr
        assert words in done.stderr
        assert not BlobStore(small.home.root / "cas/blobs").has(blob_of(item))


def test_a_registry_that_does_not_answer_is_worth_a_retry(host: Host, small: Small) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        shutil.rmtree(small.home.root / "cas")
        done = host.call("image", "pull", small.path, f"127.0.0.1:{closed.getsockname()[1]}/a", "--json")
    assert done.code == 30
    assert done.json["error"]["code"] == "E-IMAGE-SOURCE"


def test_with_the_cache_wiped_and_the_mirrors_blocked_the_real_image_is_rebuilt_from_a_registry(
    registry: Running, tmp_path: Path
) -> None:
    lock, repository = load_lock("cpu"), f"{registry.host}/sealed/cpu"
    full, empty = tmp_path / "full", tmp_path / "empty"
    copy_inputs(lock, full)
    copy_layers(lock, full)
    pushed = call(["image", "push", "cpu", repository], env={"EXECUTOR_HOME": str(full), "PATH": os.environ["PATH"]})
    assert pushed.code == 0, pushed.stderr
    shutil.rmtree(full)

    no_sources = tmp_path / "apt.conf"
    no_sources.write_text('Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n')
    blocked = {
        "EXECUTOR_HOME": str(empty),
        "PATH": os.environ["PATH"],
        "APT_CONFIG": str(no_sources),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
    }
    assert call(["image", "build", "cpu"], env=blocked).code == 30, "the mirrors are blocked, and nothing is cached"
    pulled = call(["image", "pull", "cpu", repository, "--inputs", "--json"], env=blocked)
    assert pulled.code == 0, pulled.stderr
    built = call(["image", "build", "cpu", "--json"], env=blocked)
    assert built.code == 0, built.stderr
    assert json.loads(built.stdout)["layers_built"] == len(lock.expect.layers)
    verified = call(["image", "verify", "cpu"], env=blocked)
    assert verified.stdout.startswith(f"REPRODUCED cpu {lock.expect.image_id}")
