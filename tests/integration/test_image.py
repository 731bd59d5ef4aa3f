"""The image as the engine has it: pinned, and no more than it says."""

import json
from dataclasses import replace

import pytest

from executor.errors import ImageMismatchError
from executor.events import Events
from executor.job.prepare import prepare
from executor.run.containers import Context
from executor.run.journey import Run
from executor.sandbox.docker import DockerEngine
from executor.sandbox.users import DEFAULT
from executor.state.home import Home
from images.lock import load_lock
from tests.integration.conftest import Host


def test_the_engines_image_is_the_locked_one() -> None:
    image_id = load_lock("cpu").expect.image_id
    facts = DockerEngine().image(image_id)
    assert facts is not None
    assert facts.image_id == image_id
    assert not facts.volumes
    assert not facts.healthcheck


def test_an_image_that_the_engine_does_not_have_is_refused(host: Host) -> None:
    """Through a lock that asks for another image than the engine has."""
    home = Home(host.folder / "home")
    prepared = prepare(host.script_job("hello", {"name": "greeting.txt"}), home=home)
    missing, image = "sha256:" + "0" * 64, prepared.plan.image
    absent = replace(image, expect=replace(image.expect, image_id=missing, manifest=missing))
    other = replace(prepared, plan=replace(prepared.plan, image=absent))
    run = Run(
        other,
        run_id="r",
        target=host.folder / "release",
        context=Context(home=home, engine=DockerEngine()),
        events=Events("r"),
    )
    with pytest.raises(ImageMismatchError, match="does not have"):
        run.execute()
    assert not (host.folder / "release").exists()


def test_the_image_holds_one_program_and_no_shell(host: Host) -> None:
    done, target = host.run(host.script_job("look_around", {"name": "look.json", "role": "report"}))
    assert done.code == 0, done.stderr
    seen = json.loads((target / "artifacts/look.json").read_text())
    assert seen["programs"] == ["/usr/bin/python3.11"]
    assert seen["setuid"] == []
    assert DEFAULT.first <= seen["uid"] <= DEFAULT.last
    assert seen["capabilities"] == "0000000000000000"
    assert seen["no_new_privileges"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["interfaces"] == ["lo"]
    assert seen["writable"] == ["/dev/mqueue", "/dev/shm", "/tmp"]
