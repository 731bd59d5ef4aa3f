"""Handing an image to an engine: asked by digest, as little sent as it takes, and nothing left behind."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from executor.errors import HostError
from executor.sandbox.config import inert_body
from executor.sandbox.engine import ImageFacts
from executor.sandbox.engine_images import container_root, find_image, load_image
from images.build import blob_of_layer, build_layers
from images.oci import Image
from tests.fakes.engine import FakeEngine
from tests.unit.images.packages import SmallImage, silence


class StoringEngine(FakeEngine):
    """Takes archives, whole ones or also thin ones, and names images as a classic or a containerd store does."""

    def __init__(self, chains: Iterable[tuple[str, ...]] = (), *, thin: bool = True, containerd: bool = False) -> None:
        super().__init__(lambda _worker: None)
        self._chains = list(chains)
        self._thin = thin
        self._containerd = containerd
        self.loaded: list[set[str]] = []
        self.expecting: Image | None = None

    def layer_chains(self) -> list[tuple[str, ...]]:
        return self._chains

    def load_image(self, archive: Iterable[bytes]) -> None:
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as found:
            blobs = {n.rpartition("/")[2] for n in found.getnames() if n.startswith("blobs/sha256/")}
        self.loaded.append(blobs)
        assert self.expecting is not None
        whole = {y.sha256 for y in self.expecting.layers} <= blobs
        if not whole and not self._thin:
            raise HostError("the engine refused the image: missing content")
        self.image_id = self.expecting.manifest_digest if self._containerd else self.expecting.image_id


@pytest.fixture
def small(tmp_path: Path) -> SmallImage:
    found = SmallImage(tmp_path)
    build_layers(found.lock(), found.builder(), found.store, say=silence)
    return found


def load(small: SmallImage, engine: StoringEngine) -> int:
    lock = small.lock()
    engine.expecting = lock.image
    return load_image(engine, lock.image, lambda y: small.store.open(blob_of_layer(y)))


def chain(small: SmallImage, count: int) -> tuple[str, ...]:
    return tuple(f"sha256:{y.sha256}" for y in small.lock().expect.layers[:count])


def test_an_engine_that_has_nothing_gets_everything(small: SmallImage) -> None:
    engine = StoringEngine()
    assert load(small, engine) == 4
    assert {y.sha256 for y in small.lock().expect.layers} <= engine.loaded[0]


@pytest.mark.parametrize("count", [1, 3])
def test_layers_that_the_engine_has_are_not_sent_again(small: SmallImage, count: int) -> None:
    engine = StoringEngine([("sha256:other",), (*chain(small, count), "sha256:other")])
    assert load(small, engine) == 4 - count
    present = {y.sha256 for y in small.lock().expect.layers[:count]}
    assert not engine.loaded[0] & present


def test_a_layer_over_other_layers_is_another_layer(small: SmallImage) -> None:
    engine = StoringEngine([chain(small, 4)[1:]])
    assert load(small, engine) == 4


def test_an_engine_that_refuses_a_thin_archive_gets_the_whole_one(small: SmallImage) -> None:
    engine = StoringEngine([chain(small, 3)], thin=False)
    assert load(small, engine) == 4
    assert len(engine.loaded) == 2


def test_an_engine_that_takes_a_thin_archive_and_makes_nothing_of_it_gets_the_whole_one(small: SmallImage) -> None:
    class Careless(StoringEngine):
        def load_image(self, archive: Iterable[bytes]) -> None:
            super().load_image(archive)
            if len(self.loaded) == 1:
                self.image_id = ""

    engine = Careless([chain(small, 3)])
    assert load(small, engine) == 4
    assert len(engine.loaded) == 2


def test_an_engine_that_takes_an_image_and_does_not_have_it_is_at_fault(small: SmallImage) -> None:
    class Forgetful(StoringEngine):
        def image(self, image_id: str) -> ImageFacts | None:
            return None

    with pytest.raises(HostError, match="does not have"):
        load(small, Forgetful())


@pytest.mark.parametrize("containerd", [False, True])
def test_both_ways_of_naming_an_image_are_known_and_no_third(small: SmallImage, containerd: bool) -> None:
    engine, image = StoringEngine(containerd=containerd), small.lock().image
    assert find_image(engine, image) is None
    load(small, engine)
    assert find_image(engine, image) == (image.manifest_digest if containerd else image.image_id)


def test_an_engine_that_answers_with_another_image_does_not_have_ours(small: SmallImage) -> None:
    class Lying(StoringEngine):
        def image(self, image_id: str) -> ImageFacts | None:
            other = "sha256:" + "0" * 64
            return ImageFacts(image_id=other, volumes=frozenset(), env=(), healthcheck=False, working_dir="/")

    assert find_image(Lying(), small.lock().image) is None


class ShowingEngine(FakeEngine):
    """Shows a root, or breaks off."""

    def __init__(self, *, broken: bool) -> None:
        super().__init__(lambda _worker: None)
        self.broken = broken

    def create_inert(self, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> str:
        self.created = (image_id, name, labels)
        return "container-1"

    def export(self, container_id: str) -> Iterator[bytes]:
        yield b"some"
        if self.broken:
            raise HostError("could not export a container")

    def remove(self, container_id: str, *, seconds: float | None = None) -> None:
        self.removed.append(container_id)


@pytest.mark.parametrize("broken", [False, True])
def test_the_container_that_was_looked_at_is_removed_whatever_happens(broken: bool) -> None:
    engine = ShowingEngine(broken=broken)
    stream = container_root(engine, "sha256:x", name="n", labels=(("a", "b"),))
    if broken:
        with pytest.raises(HostError):
            list(stream)
    else:
        assert list(stream) == [b"some"]
    assert engine.removed == ["container-1"]
    assert engine.created == ("sha256:x", "n", (("a", "b"),))


def test_a_container_that_is_only_looked_at_could_do_nothing_if_it_ran() -> None:
    body = inert_body("sha256:x", (("label", "value"),))
    host = body["HostConfig"]
    assert (body["Image"], body["Entrypoint"], body["NetworkDisabled"]) == ("sha256:x", ["/nonexistent"], True)
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert "Binds" not in host
    assert "Mounts" not in host
