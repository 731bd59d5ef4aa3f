"""What an image brings in its own configuration: refused before anything starts, or without effect in the container."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import Attempt
from executor.doctor.battery import judge, plan_attempt, run_attempt
from executor.errors import ImageMismatchError
from executor.job.admission import check_image
from executor.run.containers import Context
from executor.sandbox import docker as docker_adapter
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.docker import DockerEngine
from executor.state.home import Home
from tests.integration.conftest import raw_engine

pytestmark = pytest.mark.engine
CHECK = ["CMD", "/usr/bin/python3.11", "-I", "-S", "-c", "open('/tmp/checked', 'w')"]
HEALTH = {"Healthcheck": {"Test": CHECK, "Interval": 10**9, "Timeout": 10**9, "Retries": 3}}


@pytest.fixture
def brought(request: pytest.FixtureRequest) -> Iterator[str]:
    """An image with the pinned one's files and something more in its configuration."""
    plan = plan_attempt(Attempt(name="x", family="x", code="", reasons=()))
    engine = raw_engine()
    container = engine.create_container(plan.job.image_id, entrypoint=["/nonexistent"])["Id"]
    more = request.param
    image = engine.commit(container, **({"changes": [more]} if isinstance(more, str) else {"conf": more}))["Id"]
    engine.remove_container(container, v=True)
    yield image
    engine.remove_image(image, force=True)


def attempt(home: Path, image_id: str, code: str, reason: str) -> tuple[str, str | None]:
    """Run code in a container of an image that was never admitted; return what it sent and what is wrong with that."""
    tried = Attempt(name="x", family="image configuration", code=code, reasons=(reason,))
    plan = plan_attempt(tried)
    context = Context(home=Home(home), engine=DockerEngine())
    result, sent = run_attempt(tried, plan, image_id=image_id, context=context)
    assert result.removed
    return sent, judge(tried, result, sent)


def weaken(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def body(request: ContainerRequest) -> dict[str, Any]:
        made = create_body(request)
        change(made)
        return made

    monkeypatch.setattr(docker_adapter, "create_body", body)


def refused(image_id: str, words: str) -> None:
    """Admission refuses the image, whatever its digest."""
    plan = plan_attempt(Attempt(name="x", family="x", code="", reasons=()))
    found = DockerEngine().image(image_id)
    assert found is not None
    with pytest.raises(ImageMismatchError, match="in place of"):
        check_image(found, plan.image)
    with pytest.raises(ImageMismatchError, match=words):
        check_image(replace(found, image_id=plan.job.image_id), plan.image)


@pytest.mark.parametrize("brought", [HEALTH], indirect=True)
def test_a_health_check_never_runs(home: Path, monkeypatch: pytest.MonkeyPatch, brought: str) -> None:
    code = (
        "import os, time\nend = time.monotonic() + {}\n"
        "while not os.path.exists('/tmp/checked') and time.monotonic() < end: time.sleep(0.2)\n"
        "assert os.path.exists('/tmp/checked'), 'nothing ran'\nresult = time.monotonic() - end + {}"
    )
    with monkeypatch.context() as patch:
        weaken(patch, lambda body: body.pop("Healthcheck"))
        took = float(attempt(home, brought, code.format(120, 120), "")[0])
    assert attempt(home, brought, code.format(4 + 4 * took, 0), "nothing ran")[1] is None
    refused(brought, "health check")


@pytest.mark.parametrize("brought", ["ENV LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libz.so.1"], indirect=True)
def test_a_preloaded_library_is_not_inherited(home: Path, monkeypatch: pytest.MonkeyPatch, brought: str) -> None:
    """CVE-2025-23266: a privileged hook obeyed what an image had put there."""
    code = "import os\nassert os.environ['LD_PRELOAD'], 'it is empty'\nresult = 'it is ' + os.environ['LD_PRELOAD']"
    with monkeypatch.context() as patch:
        weaken(patch, lambda body: body.update(Env=[e for e in body["Env"] if not e.startswith("LD_")]))
        assert attempt(home, brought, code, "")[0].endswith("libz.so.1")
    assert attempt(home, brought, code, "it is empty")[1] is None
    refused(brought, "LD_PRELOAD")


@pytest.mark.parametrize("brought", ["ENV NVIDIA_VISIBLE_DEVICES=all"], indirect=True)
def test_an_image_cannot_ask_for_devices(home: Path, monkeypatch: pytest.MonkeyPatch, brought: str) -> None:
    code = "import os\nassert os.environ['NVIDIA_VISIBLE_DEVICES'] != 'void', 'it gets none'\nresult = True"
    with monkeypatch.context() as patch:
        weaken(patch, lambda body: body.update(Env=[e for e in body["Env"] if not e.startswith("NVIDIA_")]))
        assert attempt(home, brought, code, "")[0] == "True"
    assert attempt(home, brought, code, "it gets none")[1] is None
    refused(brought, "NVIDIA_VISIBLE_DEVICES")


@pytest.mark.parametrize("brought", ["VOLUME /data"], indirect=True)
def test_a_volume_is_refused_because_it_would_be_writable(
    home: Path, monkeypatch: pytest.MonkeyPatch, brought: str
) -> None:
    """An image's volume is host disk without a limit, under a root that is read-only everywhere else."""
    with monkeypatch.context() as patch:
        weaken(patch, lambda body: body.update(User="0:0"))
        before = {v["Name"] for v in raw_engine().volumes()["Volumes"] or ()}
        assert attempt(home, brought, "open('/data/x', 'w').write('x')\nresult = True", "")[0] == "True"
        assert {v["Name"] for v in raw_engine().volumes()["Volumes"] or ()} == before  # it went with its container
    refused(brought, "declares volumes")


@pytest.mark.parametrize("brought", ["WORKDIR /proc/self/fd/7"], indirect=True)
def test_a_working_directory_in_proc_is_refused(brought: str) -> None:
    refused(brought, "CVE-2024-21626")


@pytest.mark.parametrize("brought", ['ENTRYPOINT ["/usr/bin/python3.11", "-c", "print()"]'], indirect=True)
def test_an_entry_point_is_never_taken(home: Path, brought: str) -> None:
    """The container runs the worker; the job in it does not notice."""
    code = "result = open('/proc/1/cmdline').read().split(chr(0))[-2]"
    assert attempt(home, brought, code, "")[0] == "worker"
